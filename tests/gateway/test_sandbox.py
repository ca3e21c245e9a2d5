"""The gateway at work under its unit's own confinement, as far as that can be applied without systemd."""

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gateway.unit import unit_text
from tests.gateway import sandbox
from tests.gateway.kit import Node, sealed_bytes
from tests.gateway.test_mqtt import Device, fragments
from tests.gateway.test_running import Gateway

NODE = Node(1)

pytestmark = [
    pytest.mark.needs("systemd-analyze"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the filter is made for x86-64"),
    pytest.mark.skipif(
        not sandbox._HEADER.exists(), reason="needs the kernel's system call numbers (linux-libc-dev)"
    ),
]

#: What needs systemd itself: users and devices of its own, what it hides of /proc, /sys, /home and /tmp.
ONLY_SYSTEMD = {
    "DynamicUser", "LockPersonality", "PrivateDevices", "PrivateMounts", "PrivateTmp", "PrivateUsers",
    "ProcSubset", "ProtectClock", "ProtectControlGroups", "ProtectHome", "ProtectHostname",
    "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables", "ProtectProc", "RemoveIPC",
    "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID",
}  # fmt: skip
#: What a user may lack the right to apply here.
PERHAPS = {"ProtectSystem", "StateDirectory", "CapabilityBoundingSet", "AmbientCapabilities"}


def eventually(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 40
    while not done():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    path = tmp_path / "slimwire-gateway.service"
    path.write_text(unit_text(Path("/etc/slimwire/gateway.toml")))
    return path


def test_the_gateway_gives_custody_under_its_units_confinement(tmp_path: Path, unit: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    made = Gateway(state)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(state / "notify"))
        manager.settimeout(60)
        process = subprocess.Popen(
            [
                sys.executable, sandbox.__file__, unit, state,
                sys.executable, "-B", "-m", "slimwire", "gateway", "run", "--config", made.settings,
            ],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=Path(__file__).parents[2],
            env={**os.environ, "NOTIFY_SOCKET": str(state / "notify")},
        )  # fmt: skip
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            assert set(told["not_applied"]) - PERHAPS == ONLY_SYSTEMD
            assert {"SystemCallFilter", "MemoryDenyWriteExecute", "NoNewPrivileges"} <= set(told["applied"])
            assert manager.recv(100) == b"READY=1"
            with closing(Device(made.broker, NODE)) as device:
                eventually(lambda: device._there)
                device.publish(*fragments(NODE, 1, sealed_bytes(50)))
                eventually(lambda: bool(device.heard))
            process.send_signal(signal.SIGTERM)
            rest = process.communicate(timeout=30)[0]
            assert process.returncode == 0, rest
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import socket; socket.socket(socket.AF_PACKET)", "Address family not supported"),
        ("import mmap; mmap.mmap(-1, 4096, prot=7)", "Operation not permitted"),
        ("import os; os.chroot('/')", "Operation not permitted"),
        ("import os; os.setpriority(os.PRIO_PROCESS, 0, 5)", "Operation not permitted"),
    ],
)
def test_the_confinement_is_one(tmp_path: Path, unit: Path, code: str, error: str) -> None:
    done = subprocess.run(
        [sys.executable, sandbox.__file__, unit, tmp_path, sys.executable, "-B", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert error in done.stderr


def test_only_the_state_directory_can_be_written(tmp_path: Path, unit: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    code = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('x')"
    for target, good in ((state / "file", True), (tmp_path / "file", False)):
        done = subprocess.run(
            [sys.executable, sandbox.__file__, unit, state, sys.executable, "-B", "-c", code, target],
            capture_output=True,
            text=True,
            check=False,
        )
        if "ProtectSystem" not in json.loads(done.stdout)["applied"]:
            pytest.skip("this user may not make a mount namespace here")
        assert (done.returncode == 0) is good, done.stderr
    assert "Read-only file system" in done.stderr
