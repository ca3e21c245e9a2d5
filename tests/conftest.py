"""What every room's tests share."""

import importlib.util
import os
import shutil

import pytest


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
