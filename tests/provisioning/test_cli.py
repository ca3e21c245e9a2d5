"""`slimwire provision` as a person meets it."""

import json
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from provisioning.emulated import EmulatedBoard, read_image
from provisioning.errors import ProvisionError
from slimwire.cli import app


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["provision", *arguments])
    assert isinstance(result.exception, ProvisionError), result.output
    return str(result.exception)


def test_a_dry_run_prints_the_whole_plan(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("SLIMWIRE_WIFI_KEY", raising=False)  # a look needs no secret
    site = tmp_path / "site"
    with EmulatedBoard(tmp_path / "flash.img") as board:
        arguments = ["provision", "install", "--port", str(board.port), "--site-dir", str(site), "--dry-run"]
        arguments += ["--eui64", "02:00:00:00:00:00:00:05", "--images", "1", "--json", "--wifi-ssid", "home"]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    assert plan["dry_run"]
    assert (plan["eui64"], plan["epoch"], plan["format"]) == ("0200000000000005", 0, "mpy for x64")
    paths = [file["path"] for file in plan["files"]]
    assert {"/main.py", "/head.bin", "/device.json", "/counter.a", "/lib/firmware/agent.mpy"} <= set(paths)
    assert sum(file["bytes"] for file in plan["files"]) == plan["bytes"]
    assert not site.exists()
    assert read_image(tmp_path / "flash.img").listdir("/") == []


def test_what_is_wrong_on_the_command_line_is_refused_before_the_board_is_touched(monkeypatch) -> None:
    monkeypatch.delenv("SLIMWIRE_WIFI_KEY", raising=False)
    assert "16 hexadecimal digits" in refusal("install", "--port", "/dev/null", "--eui64", "12")
    assert "cannot be installed" in refusal("install", "--port", "/dev/null", "--bundle", "nothing")
    assert "SLIMWIRE_WIFI_KEY" in refusal("install", "--port", "/dev/null", "--wifi-ssid", "home")


def test_options_say_what_stands_where_they_are_not_given() -> None:
    text = " ".join(
        CliRunner().invoke(app, ["provision", "install", "--help"]).output.replace("│", " ").split()
    )
    assert "EUI-64; else the site's own." in text
    assert "EUI-64; else made of the board's own number." in text


def test_where_no_board_is_plugged_in_that_is_what_is_said() -> None:
    said = refusal("install", "--port", "id:no-such-serial-number")
    assert "no board is plugged in" in said
    assert "--port" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_emulate_makes_a_port_that_mpremote_takes_and_removes_it(tmp_path, number) -> None:
    port = tmp_path / "port"
    command = [sys.executable, "-c", "from slimwire.cli import main; main()", "provision", "emulate"]
    command += ["--image", str(tmp_path / "flash.img"), "--port", str(port), "--size-kib", "128"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        assert str(port) in line
        asked = [sys.executable, "-m", "mpremote", "connect", str(port), "eval", "6 * 7"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout.strip() == "42", done.stderr
    finally:
        process.send_signal(number)
        assert process.wait(30) == 0
    assert not port.is_symlink()
