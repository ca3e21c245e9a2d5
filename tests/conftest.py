"""What every room's tests share."""

import importlib.util
import logging
import os
import shutil
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no defect: no deadline, and slow generation is not refused. With CI set, the examples are
# the same every time; elsewhere each run looks at new ones.
settings.register_profile(
    "suite",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("CI") is not None,
)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _root_logger_as_before() -> Iterator[None]:
    """A command run in this process configures the root logger; the next test must not meet that."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, visibly, what needs a program or module that PyPI does not bring: `@pytest.mark.needs("tshark")`.

    `needs("module:torch")` asks for a Python module, `needs("tshark")` for a program on the PATH.
    """
    soak = os.environ.get("SLIMWIRE_SOAK") == "1"
    for item in items:
        if item.get_closest_marker("soak") and not soak:
            item.add_marker(pytest.mark.skip(reason="the long form runs in `make soak`"))
        for mark in item.iter_markers("needs"):
            for what in mark.args:
                kind, _, name = what.rpartition(":")
                there = importlib.util.find_spec(name) if kind == "module" else shutil.which(name)
                if not there:
                    item.add_marker(pytest.mark.skip(reason=f"needs {name}, which is not installed here"))
