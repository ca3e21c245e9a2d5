"""The systemd unit, and what the service tells systemd."""

import socket
import subprocess
from pathlib import Path

import pytest

from gateway.notify import notify
from gateway.unit import NAME, program, unit_text


def test_the_unit_runs_the_installed_command_and_hands_it_its_settings(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    text = unit_text(config)
    assert f"LoadCredential=gateway.toml:{config}\n" in text
    (start,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    assert start.startswith(f"ExecStart={program()[0]} ")
    assert start.endswith("gateway run --json-logs --config %d/gateway.toml")
    assert Path(program()[0]).is_absolute()
    assert "--config" not in unit_text(None)
    assert "LoadCredential" not in unit_text(None)


@pytest.mark.needs("systemd-analyze")
def test_systemd_accepts_the_unit_and_finds_little_exposed(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_text(unit_text(None))
    verified = subprocess.run(
        ["systemd-analyze", "verify", path], capture_output=True, text=True, check=False
    )
    assert NAME not in verified.stderr
    scored = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert scored.returncode == 0, scored.stdout[-500:]


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
