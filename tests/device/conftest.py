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

    def start(self, *options: str, script: str | None = None) -> subprocess.Popen[str]:
        """The device as a process; stderr is the test's own."""
        program = ["-m", "slimwire"] if script is None else ["-c", script]
        return subprocess.Popen(
            [sys.executable, *program, "device", "run", "--state", str(self.path), *options],
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


__all__ = ["WITHOUT_REPORT", "Directory", "directory", "hub", "micropython"]
