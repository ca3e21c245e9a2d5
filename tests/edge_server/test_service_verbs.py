"""`slimwire edge check|config|install|upgrade|uninstall`, and the unit."""

import json
import os
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_server.cli import app
from edge_server.unit import NAME, unit_text
from security.registry import EdgeRegistry
from security.signed import SigningKey
from slimwire.errors import SlimwireError

UNIT = f"etc/systemd/system/{NAME}"
SETTINGS = "etc/slimwire/edge.toml"


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_install_upgrade_uninstall_below_a_root(tmp_path: Path) -> None:
    written = json.loads(run("install", "--root", tmp_path, "--json")[1])["written"]
    assert written == [str(tmp_path / SETTINGS), str(tmp_path / UNIT)]
    assert tomllib.loads((tmp_path / SETTINGS).read_text()) == {"format": 1}
    assert json.loads(run("upgrade", "--root", tmp_path, "--json")[1])["backup"] is None
    (tmp_path / "var/lib/slimwire-edge").mkdir(parents=True)
    assert len(json.loads(run("uninstall", "--root", tmp_path, "--json")[1])["kept"]) == 2
    assert len(json.loads(run("uninstall", "--root", tmp_path, "--purge", "--json")[1])["removed"]) == 2
    with pytest.raises(SlimwireError, match="no such file"):
        run("upgrade", "--root", tmp_path)


@pytest.mark.needs("systemd-analyze")
def test_systemd_accepts_the_unit_and_finds_little_exposed(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_text(run("install", "--dry-run")[1])
    assert path.read_text() == unit_text(Path("/") / SETTINGS)
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
    assert float(found[1]) <= 1.5


@pytest.mark.parametrize(
    ("text", "name", "found", "remedy"),
    [
        ("port = 99999\n", "settings", "edge.toml, line 1, is 99999", "correct or remove it"),
        ('registry = "/nonexistent"\n', "registry", "/nonexistent", "enrol a device"),
        ('bundles = ["nothing"]\n', "bundle", "nothing", "name a bundle that ships"),
        ('host = "0.0.0.0"\n', "access", "and has no TLS", "insecure = true"),
        ('host = "::"\ntoken_file = "/nonexistent"\n', "access", "and has no TLS", "docs/services.md"),
        (
            'token_file = "/nonexistent"\n',
            "access",
            "secret file /nonexistent cannot be read",
            "correct its path",
        ),
        ('token_file = "/usr/bin/env"\n', "access", "has mode 0755", "chmod 600"),
        ('certificate = "/nonexistent"\n', "access", "/nonexistent cannot be used", "correct `certificate`"),
        ('state = "/dev/null/nothing"\n', "state", "cannot be written", "name another"),
    ],
)
def test_what_is_wrong_is_named_with_the_remedy(
    tmp_path: Path, text: str, name: str, found: str, remedy: str
) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(text)
    code, out = run("check", "--config", file, "--json")
    (check,) = [check for check in json.loads(out)["checks"] if check["name"] == name]
    assert found in check["found"]
    assert remedy in check["remedy"]
    assert code == 1


@pytest.mark.parametrize("signer", [None, SigningKey(bytes(32)), SigningKey(bytes([1]) * 32)])
def test_a_registry_that_the_named_key_did_not_sign_would_not_start(
    tmp_path: Path, signer: SigningKey | None
) -> None:
    named = SigningKey(bytes(32))
    registry = tmp_path / "edge-registry.json"
    EdgeRegistry(1, {}).save(registry, signer)
    file = tmp_path / "edge.toml"
    file.write_text(f'registry = "{registry}"\nregistry_key = "{named.public.raw.hex()}"\nport = 0\n')
    code, out = run("check", "--config", file, "--json")
    (check,) = [check for check in json.loads(out)["checks"] if check["name"] == "registry"]
    assert check["good"] == (signer == named)
    assert code == (0 if signer == named else 1)


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        file = tmp_path / "edge.toml"
        file.write_text(f"port = {port}\n")
        code, out = run("check", "--config", file)
    assert code == 1
    assert f"ss -ltnp | grep {port}" in out


def test_settings_in_force_are_a_settings_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIMWIRE_EDGE__PORT", "9001")
    assert tomllib.loads(run("config")[1])["port"] == 9001
    assert tomllib.loads(run("config", "--documented")[1]) == {"format": 1}


def test_the_service_manager_is_told_when_it_serves_and_when_it_ends(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        process = subprocess.Popen(
            [sys.executable, "-m", "slimwire", "edge", "run", "--port", "0", "--bundle", "fashion-mnist"],
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
            stderr=subprocess.DEVNULL,
        )
        try:
            assert manager.recv(100) == b"READY=1"
            process.terminate()
            assert manager.recv(100) == b"STOPPING=1"
        finally:
            process.kill()
            process.wait()
