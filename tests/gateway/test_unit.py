"""The systemd unit, and what the service tells systemd."""

import asyncio
import re
import socket
import subprocess
from pathlib import Path

import pytest

from gateway import watchdog
from gateway.unit import NAME, unit_text
from gateway.watchdog import Progress, Stage
from slimwire.notify import notify
from slimwire.systemd import program
from tests.gateway.brokers import until

SETTINGS = Path("/etc/slimwire/gateway.toml")


def test_the_unit_runs_the_installed_command_with_its_settings() -> None:
    text = unit_text(SETTINGS)
    (start,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    assert start == f"ExecStart={' '.join(program())} gateway run --json-logs --config {SETTINGS}"
    assert Path(program()[0]).is_absolute()
    assert "PrivateDevices=yes\n" in text
    assert "DeviceAllow=/dev/ttyACM0 rw\n" in unit_text(SETTINGS, Path("/dev/ttyACM0"))


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize(("serial", "most"), [(None, 1.5), (Path("/dev/ttyACM0"), 2.0)])
def test_systemd_accepts_the_unit_and_finds_little_exposed(
    tmp_path: Path, serial: Path | None, most: float
) -> None:
    path = tmp_path / NAME
    path.write_text(unit_text(SETTINGS, serial))
    verified = subprocess.run(
        ["systemd-analyze", "verify", path], capture_output=True, text=True, check=False
    )
    assert NAME not in verified.stderr
    scored = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", path],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", scored.stdout)
    assert found is not None, scored.stdout + scored.stderr
    assert float(found[1]) <= most


def test_readiness_is_one_datagram_to_the_notify_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        assert notify("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_without_a_service_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/notify")
    assert not notify("READY=1")


class Work:
    """A stage under test."""

    def __init__(self) -> None:
        self.waiting, self.done = False, 0
        self.stage = Stage("commit", lambda: self.waiting, lambda: self.done)


def test_a_stage_is_stuck_when_it_had_and_has_work_and_did_none() -> None:
    work = Work()
    progress = Progress([work.stage])
    assert progress.stuck() == []
    work.waiting = True
    assert progress.stuck() == []  # the work came after the last look
    assert progress.stuck() == ["commit"]
    work.done += 1
    assert progress.stuck() == []
    work.waiting = False
    assert progress.stuck() == []


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_as_systemd_asks(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: float | None
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert watchdog.period() == expected


async def test_the_watchdog_is_fed_while_work_moves_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work()
    work.waiting = True
    monkeypatch.setattr(watchdog, "stages", lambda service: [work.stage])
    monkeypatch.setenv("WATCHDOG_USEC", "30000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        told: list[str] = []
        monkeypatch.setattr(watchdog._log, "error", lambda text, *args: told.append(text % args))
        feeding = asyncio.create_task(watchdog.feed(None))  # type: ignore[arg-type]
        fed = 0
        while fed < 3:
            work.done += 1
            await asyncio.sleep(0.005)
            try:
                assert manager.recv(100) == b"WATCHDOG=1"
                fed += 1
            except BlockingIOError:
                continue
        await until(lambda: bool(told))
        feeding.cancel()
    assert "no progress" in told[0]
    assert "commit" in told[0]
