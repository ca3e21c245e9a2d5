"""`slimwire gateway check|config|install|upgrade|uninstall|broker`: each problem has a place and a remedy."""

import json
import socket
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway import service_cli
from gateway.check import check as check_gateway
from gateway.cli import app
from gateway.settings import FORMAT
from security.signed import SigningKey
from slimwire import systemd
from slimwire.errors import SlimwireError
from tests.gateway.brokers import Authority
from tests.gateway.kit import Node, save_registry

UNIT = "etc/systemd/system/slimwire-gateway.service"
SETTINGS = "etc/slimwire/gateway.toml"


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def checked(directory: Path, text: str) -> dict[str, dict[str, object]]:
    """Each check of `gateway check` by its name, for a settings file."""
    file = directory / "gateway.toml"
    registry = save_registry(directory / "registry.json", Node(1))
    head = f'format = {FORMAT}\nstate = "{directory}"\n'
    head += "" if "registry =" in text else f'registry = "{registry}"\n'
    head += "" if "listen" in text else f'listen = "127.0.0.1:{free()}"\n'
    file.write_text(head + text)
    code, out = run("check", "--config", file, "--json")
    result = json.loads(out)
    assert code == (0 if result["good"] else 1)
    return {check["name"]: check for check in result["checks"]}


def free() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_a_sound_gateway_passes_and_an_absent_edge_server_is_only_a_warning(tmp_path: Path) -> None:
    found = checked(tmp_path, f'edge = "http://127.0.0.1:{free()}"\n')
    assert all(check["good"] for check in found.values())
    assert "wait in the outbox" in str(found["edge server"]["remedy"])
    assert "1 devices" in str(found["registry"]["found"])


def test_a_registry_that_the_named_key_did_not_sign_would_not_start(tmp_path: Path) -> None:
    found = checked(tmp_path, f'registry_key = "{SigningKey(bytes(32)).public.raw.hex()}"\n')["registry"]
    assert not found["good"]
    assert "sign" in str(found["found"])


@pytest.mark.parametrize(
    ("text", "name", "found", "remedy"),
    [
        ("[uplink]\nbatch = 0\n", "settings", "gateway.toml, line 6, is 0", "correct or remove it"),
        ("batch = 9\n", "settings", "batch in the settings file", "correct or remove it"),
        ("[limits]\nmemory = 5000\n", "registry", "", "memory"),
        (
            'registry = "/nonexistent/registry.json"\n',
            "registry",
            "/nonexistent/registry.json",
            "enrol a device",
        ),
        ('registry_key = "/nonexistent.pub"\n', "registry", "/nonexistent.pub", "copy it"),
        ('[uart]\nport = "/dev/nothing"\n', "uart", "is not there", "plug it in"),
        ('[mqtt]\nbroker = "embedded"\nlisten = "0.0.0.0:0"\n', "embedded", "no accounts", "use mosquitto"),
        ('[mqtt]\nbroker = "127.0.0.1:1"\n', "broker", "does not answer", "goes on trying"),
        ('[mqtt]\nbroker = "127.0.0.1:1"\nca = "/nonexistent"\n', "broker", "cannot be used", "correct `ca`"),
        (
            '[mqtt]\nbroker = "127.0.0.1:1"\npassword_file = "/usr/bin/env"\n',
            "broker",
            "/usr/bin/env has mode 0755",
            "chmod 600",
        ),
        ('listen = ""\n', "legs", "none", "set `listen`"),
    ],
)
def test_what_is_wrong_is_named_with_the_remedy(
    tmp_path: Path, text: str, name: str, found: str, remedy: str
) -> None:
    checks = checked(tmp_path, text)
    assert found in str(checks[name]["found"])
    assert remedy in str(checks[name]["remedy"])


def test_the_installed_services_directories_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks has a state directory of their own: it is not what the service starts with."""
    file = tmp_path / "gateway.toml"
    file.write_text(f'format = {FORMAT}\nlisten = "127.0.0.1:{free()}"\n')
    monkeypatch.setattr(service_cli, "installed", lambda _: file)
    for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    checks = {check["name"]: check["found"] for check in json.loads(run("check", "--json")[1])["checks"]}
    assert checks["registry"].startswith("/var/lib/slimwire/registry.json")
    assert checks["state"].startswith("/var/lib/slimwire")


def test_what_is_not_ours_to_look_at_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refused)
    found = check_gateway(None)[-1]
    assert (found.name, found.good) == ("access", False)
    assert "sudo" in found.remedy


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        found = checked(tmp_path, f'listen = "127.0.0.1:{port}"\n')["radio"]
    assert not found["good"]
    assert f"grep {port}" in str(found["remedy"])


def test_an_expired_certificate_is_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    for name, days, good, remedy in (
        ("old", -2, False, "have a new one issued"),
        ("soon", 10, True, "in time"),
        ("new", 90, True, ""),
    ):
        certificate, key = authority.issue(name, days=days)
        text = f'[mqtt]\nbroker = "127.0.0.1:1"\nca = "{authority.ca}"\n'
        text += f'certificate = "{certificate}"\nkey = "{key}"\n'
        checks = checked(tmp_path, text)
        found = checks["certificate"]
        assert "chmod 600" in str(checks["key"]["remedy"])  # an authority that wrote it for all to read
        assert found["good"] is good
        assert remedy in str(found["remedy"])
        assert bool(remedy) == bool(found["remedy"])


def test_config_documents_every_setting_and_prints_those_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, text = run("config", "--documented")
    assert code == 0
    assert tomllib.loads(text)["format"] == FORMAT
    assert "# password_file" in text
    monkeypatch.setenv("SLIMWIRE_GATEWAY__MQTT__QUEUE", "17")
    assert tomllib.loads(run("config")[1])["mqtt"]["queue"] == 17


def test_install_upgrade_uninstall_below_a_root(tmp_path: Path) -> None:
    code, out = run("install", "--root", tmp_path, "--json")
    assert code == 0
    assert json.loads(out)["written"] == [str(tmp_path / SETTINGS), str(tmp_path / UNIT)]
    assert json.loads(out)["started"] is False
    assert (tmp_path / SETTINGS).stat().st_mode & 0o777 == 0o644
    assert "gateway run --json-logs --config /etc/slimwire/gateway.toml" in (tmp_path / UNIT).read_text()

    # Whoever edited the file keeps it.
    mine = 'peer = "10.0.0.1:17754"  # the sniffer\n[uplink]\nqueue = 100\n'
    (tmp_path / SETTINGS).write_text(mine)
    assert json.loads(run("install", "--root", tmp_path, "--json")[1])["written"] == []

    report = json.loads(run("upgrade", "--root", tmp_path, "--json")[1])
    assert (report["from"], report["to"]) == (1, FORMAT)
    assert Path(report["backup"]).read_text() == mine
    text = (tmp_path / SETTINGS).read_text()
    assert tomllib.loads(text) == {"format": FORMAT, "peer": "10.0.0.1:17754", "uplink": {}}
    assert "# the sniffer" in text
    assert json.loads(run("upgrade", "--root", tmp_path, "--json")[1])["backup"] is None

    # A serial port is let through the sandbox.
    (tmp_path / SETTINGS).write_text(text + '[uart]\nport = "/dev/ttyACM0"\n')
    assert json.loads(run("upgrade", "--root", tmp_path, "--json")[1])["unit_changed"] is True
    assert "DeviceAllow=/dev/ttyACM0 rw" in (tmp_path / UNIT).read_text()

    state = tmp_path / "var/lib/slimwire"
    state.mkdir(parents=True)
    report = json.loads(run("uninstall", "--root", tmp_path, "--json")[1])
    assert report["removed"] == [str(tmp_path / UNIT)]
    assert report["kept"] == [str(tmp_path / SETTINGS), str(state)]
    report = json.loads(run("uninstall", "--root", tmp_path, "--purge", "--json")[1])
    assert report["removed"] == [str(tmp_path / SETTINGS), str(state)]
    assert not state.exists()


def test_an_interpreter_in_a_home_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "program", lambda: ["/home/me/.local/bin/slimwire"])
    with pytest.raises(SlimwireError) as caught:
        run("install", "--no-start")
    assert "/home/me/.local/bin/slimwire lies in a home directory" in caught.value.what
    assert "-m venv /opt/slimwire" in caught.value.remedy
    assert (
        "lies in a home directory" in json.loads(run("install", "--root", tmp_path, "--json")[1])["warning"]
    )


def test_settings_that_cannot_be_upgraded_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(SlimwireError, match="no such file"):
        run("upgrade", "--root", tmp_path)
    file = tmp_path / "gateway.toml"
    file.write_text("format = 99\n")
    with pytest.raises(SlimwireError, match="written for a newer Slimwire"):
        run("upgrade", "--config", file)
    assert file.read_text() == "format = 99\n"


def test_mosquittos_files_name_the_site_and_the_gateway(tmp_path: Path) -> None:
    registry = save_registry(tmp_path / "registry.json", Node(1))
    out = tmp_path / "out"
    code, _ = run(
        "broker", "config", out, "--ca", "/c/ca.pem", "--certificate", "/c/b.pem", "--key", "/c/b.key",
        "--crl", "/c/crl.pem", "--registry", registry, "--listen", "0.0.0.0:8883",
    )  # fmt: skip
    assert code == 0
    text = (out / "mosquitto.conf").read_text()
    for line in (
        "listener 8883 0.0.0.0",
        "crlfile /c/crl.pem",
        "require_certificate true",
        f"acl_file {out}/slimwire.acl",
    ):
        assert f"{line}\n" in text
    rules = (out / "slimwire.acl").read_text()
    assert "pattern read slimwire/v1/lab/%u/down\n" in rules
    assert "user 0200000000000001\n" in rules
