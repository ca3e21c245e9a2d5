"""`slimwire provision` as a person meets it."""

import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from provisioning.errors import ProvisionError
from slimwire.cli import app


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["provision", *arguments])
    assert isinstance(result.exception, ProvisionError), result.output
    return str(result.exception)


def test_what_is_wrong_on_the_command_line_is_refused_before_a_board_is_touched(running, monkeypatch) -> None:
    monkeypatch.delenv("SLIMWIRE_WIFI_KEY", raising=False)
    site = ["--port", "/dev/null", "--site", str(running.path)]
    assert "16 hexadecimal digits" in refusal("up", *site, "--eui64", "12")
    assert "cannot be installed" in refusal("up", *site, "--bundle", "nothing")
    assert "no board 'esp99'" in refusal("up", *site, "--board", "esp99")
    assert "no site 'nowhere'" in refusal("up", "--port", "/dev/null", "--site", "nowhere")
    assert "is no SHA-256" in refusal(
        "up", *site, "--board", "esp32c3", "--image", "x", "--image-sha256", "1"
    )
    assert "cannot be read" in refusal("up", *site, "--board", "esp32c3", "--image", "/nowhere/x.bin")
    assert "no MicroPython image is named" in refusal("flash", "--port", "/dev/null", "--board", "esp32c3")


def test_options_say_what_stands_where_they_are_not_given() -> None:
    text = " ".join(CliRunner().invoke(app, ["provision", "up", "--help"]).output.replace("│", " ").split())
    assert "EUI-64; else made of the board's own number." in text
    assert "by name or file; else what the board says it is." in text


def test_where_no_board_is_plugged_in_that_is_what_is_said(running) -> None:
    said = refusal("up", "--port", "id:no-such-serial-number", "--site", str(running.path))
    assert "no board is plugged in" in said
    assert "--port" in said


@pytest.mark.parametrize("verb", ["show", "revoke"])
def test_a_name_that_no_device_has_ends_with_the_code_that_the_documentation_gives_it(running, verb) -> None:
    result = CliRunner().invoke(app, ["provision", verb, "nobody", "--site", str(running.path)])
    assert "no devices of the site 'lab' are called 'nobody'" in str(result.exception)
    assert result.exception.exit_code == 13


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_emulate_makes_a_port_that_mpremote_takes_and_removes_it(tmp_path, number) -> None:
    port = tmp_path / "port"
    command = [sys.executable, "-c", "from slimwire.cli import main; main()", "provision", "emulate"]
    command += ["--image", str(tmp_path / "flash.img"), "--port", str(port), "--size-kib", "128"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        assert str(port) in line

        def ask(code: str) -> str:
            asked = [sys.executable, "-m", "mpremote", "connect", str(port), "resume", "exec", code]
            return subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False).stdout

        assert ask("x = 42; print(x)").strip() == "42"
        process.send_signal(signal.SIGUSR1)  # a power cut: what was in memory is gone
        end = time.monotonic() + 30
        while ask("print('x' in globals())").strip() != "False":
            assert time.monotonic() < end
    finally:
        process.send_signal(number)
        assert process.wait(30) == 0
    assert not port.is_symlink()
