"""`slimwire edge` as a person meets it: settings, refusals with remedies, a server that starts and stops."""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_server import settings
from edge_server.errors import EdgeError
from edge_server.server import EdgeServer
from edge_server.settings import Settings, load
from edge_server.width import ChanceConstrained, FixedWidth
from slimwire.cli import app
from slimwire.settings import SettingsError

SLIMWIRE = [sys.executable, "-c", "from slimwire.cli import main; main()"]


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["edge", *arguments])
    assert isinstance(result.exception, EdgeError), result.output
    return str(result.exception)


def test_defaults_need_nothing() -> None:
    defaults = load()
    assert (defaults.port, defaults.registry, defaults.state) == (8080, None, None)
    assert isinstance(defaults.width_policy(), ChanceConstrained)


def test_the_command_line_beats_the_environment_beats_the_file(tmp_path, monkeypatch) -> None:
    file = tmp_path / "edge.toml"
    file.write_text('port = 1\nhost = "::1"\ndeadline_ms = 100\nbundles = ["a", "b"]\n')
    monkeypatch.setenv(settings.ENVIRONMENT + "PORT", "2")
    monkeypatch.setenv(settings.ENVIRONMENT + "DEADLINE_MS", "200")
    loaded = load(file, deadline_ms=300, policy=None)
    assert (loaded.host, loaded.port, loaded.deadline_ms) == ("::1", 2, 300)
    assert loaded.bundles == ("a", "b")
    monkeypatch.setenv(settings.ENVIRONMENT + "BUNDLES", "c,d")
    assert load(file).bundles == ("c", "d")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("port = 99999", "port"),
        ("prot = 80", "prot"),
        ('policy = "fixed-2"', "fixed-2"),
        ("port = ", "edge"),
        ("deadline_ms = 0", "deadline_ms"),
    ],
)
def test_a_wrong_settings_file_is_refused_by_name(tmp_path, text, named) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=named):
        load(file)


def test_a_settings_file_that_is_not_there_is_refused(tmp_path) -> None:
    with pytest.raises(SettingsError, match=r"edge\.toml"):
        load(tmp_path / "edge.toml")


def test_a_fixed_policy_is_one_the_bundle_has(bundle) -> None:
    policy = load(policy="fixed-0.5").width_policy()
    assert isinstance(policy, FixedWidth)
    with pytest.raises(EdgeError, match="does not have") as error:
        EdgeServer(Settings(bundles=(str(bundle.path),), policy="fixed-0.3"))
    assert "fixed-0.5, fixed-1" in str(error.value)


def test_what_cannot_be_served_is_refused_with_a_remedy(tmp_path, bundle) -> None:
    assert "remedy: name a bundle that ships" in refusal("run", "--port", "0", "--bundle", "nothing")
    missing = refusal(
        "run", "--port", "0", "--bundle", str(bundle.path), "--registry", str(tmp_path / "r.json")
    )
    assert "does not exist" in missing
    assert "remedy: enrol a device" in missing
    readable = tmp_path / "edge-registry.json"
    readable.write_text('{"format": 1}')
    readable.chmod(0o644)
    assert "chmod 600" in refusal("run", "--port", "0", "--registry", str(readable))


def test_a_port_in_use_is_refused_with_a_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        message = refusal("run", "--port", str(taken.getsockname()[1]))
    assert "Address already in use" in message
    assert "--port N" in message


def test_one_model_is_served_once(bundle) -> None:
    path = str(bundle.path)
    assert "same model tag" in refusal("run", "--port", "0", "--bundle", path, "--bundle", path)


def test_nobody_there_is_said(tmp_path) -> None:
    assert "start one with" in refusal("status", "--url", "http://127.0.0.1:1")
    assert "not the address" in refusal("status", "--url", "ftp://x")


def test_with_no_configuration_it_serves_the_shipped_bundle_and_ends_on_a_signal(tmp_path) -> None:
    log = tmp_path / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen([*SLIMWIRE, "edge", "run", "--port", "0"], stderr=stderr, cwd=tmp_path)
    try:
        url = _await_url(process, log)
        models = json.load(urllib.request.urlopen(f"{url}/v1/models", timeout=30))["models"]
        assert "fashion-mnist" in [model["name"] for model in models]
        status = subprocess.run(
            [*SLIMWIRE, "edge", "status", "--url", url, "--json"], capture_output=True, text=True, check=True
        )
        assert json.loads(status.stdout)["bundles"] == [model["name"] for model in models]
        explained = subprocess.run(
            [*SLIMWIRE, "edge", "explain", "02" * 8, "--url", url],
            capture_output=True,
            text=True,
            check=False,
        )
        assert explained.returncode == 2
        assert "no message of" in explained.stderr
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert "Traceback" not in log.read_text()
    assert list(tmp_path.iterdir()) == [log]


def _await_url(process: subprocess.Popen, log: Path) -> str:
    import time

    for _ in range(600):
        found = re.search(r"listening on (\S+),", log.read_text())
        if found:
            return found[1]
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def test_what_the_settings_say_of_the_budget_reaches_the_controller() -> None:
    from edge_server.width import Sample, WidthOption

    options = (WidthOption(0.5, 0.8, 1.0), WidthOption(1.0, 0.9, 4.0))

    def told(**given) -> int:
        policy = load(**given).width_policy()
        index = 0
        for i in range(40):
            policy.observe(b"device", Sample(i, 0.02, 1, option=0, battery=5))
            index = policy.choose(b"device", options, index, i)
        return index

    assert told() == 1
    assert told(duty_cycle=0.01) == 0
    assert told(low_battery=5) == 0
    assert told(low_battery=4) == 1
