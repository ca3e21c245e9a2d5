"""A device's directory, and `slimwire device run` on it as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.firmware.conftest import micropython
from tests.firmware.loopback import REPOSITORY, Hub, write_device

HEAD = REPOSITORY / "models/bundles/fashion-mnist/head.bin"
#: Starts the command with a link report that tells nothing, so that messages do not depend on the clock.
WITHOUT_REPORT = """\
import sys
import firmware.message
firmware.message.link_report = lambda duration, retries, queue: 0
from slimwire.cli import main
sys.argv = ["slimwire", *sys.argv[1:]]
main()
"""


@pytest.fixture
def hub():
    made = Hub()
    yield made
    made.close()


class Directory:
    """A device's files, in a directory that only its owner reads."""

    def __init__(self, path: Path, port: int, head_data: bytes | None = None, **changes: object) -> None:
        self.path = path
        data = HEAD.read_bytes() if head_data is None else head_data
        self.shape = (data[5], data[6], data[7])
        write_device(path, data, self.shape, port, **{"log": "", **changes})
        self.config = path / "device.json"
        self.config.chmod(0o600)

    def start(
        self, *options: str, script: str | None = None, python: str = sys.executable
    ) -> subprocess.Popen[str]:
        """The device as a process of an interpreter; script: what starts the command instead."""
        program = ["-m", "slimwire"] if script is None else ["-c", script]
        return subprocess.Popen(
            [python, *program, "device", "run", "--state", str(self.path), *options],
            cwd=REPOSITORY,
            env={key: value for key, value in os.environ.items() if key != "STATE_DIRECTORY"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if script is None else subprocess.DEVNULL,
            text=True,
        )


@pytest.fixture
def directory(tmp_path: Path, hub: Hub) -> Directory:
    """The shipped bundle's device, whose gateway is the hub."""
    return Directory(tmp_path, hub.port)


@pytest.fixture
def both(tmp_path: Path):
    """Two directories of the same identity, counter, head and images."""

    def make(port: int, **changes: object) -> tuple[Directory, Directory]:
        made = []
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            made.append(Directory(tmp_path / name, port, **changes))
        return made[0], made[1]

    return make


__all__ = ["WITHOUT_REPORT", "Directory", "both", "directory", "hub", "micropython"]
