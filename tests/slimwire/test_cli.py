"""The command itself: quick to list, clear when something is missing."""

import subprocess
import sys

import pytest

from slimwire import cli
from slimwire.errors import MissingExtraError, SlimwireError


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "slimwire", *args], capture_output=True, text=True, timeout=60
    )


def test_help_lists_every_room_and_imports_none() -> None:
    script = (
        "import sys; from slimwire import cli; sys.argv = ['slimwire', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "print(sorted(set(sys.modules) & {'wire', 'gateway', 'edge_server', 'models', 'fastapi', 'numpy'}))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip().endswith("[]")
    for name in cli.MOUNTS:
        assert name in result.stdout


def test_version() -> None:
    result = run("--version")
    assert result.returncode == 0
    assert result.stdout.startswith("slimwire ")


@pytest.mark.parametrize("room", ["edge", "gateway"])
def test_help_says_the_defaults_that_stand_in_brackets(room: str) -> None:
    result = run(room, "upgrade", "--help")
    assert "Settings in TOML [the installed service's, if there are any]." in " ".join(result.stdout.split())


def test_an_unknown_command_is_refused_by_name() -> None:
    result = run("gatway")
    assert result.returncode == 2
    assert "gatway" in result.stderr


def test_a_missing_extra_names_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.MOUNTS, "edge", cli._Mount("no_such_package.cli", "edge", "help"))
    with pytest.raises(MissingExtraError, match=r"pip install 'slimwire\[edge\]'"):
        cli._load("edge")


def test_a_package_missed_only_when_the_command_runs_names_its_install_line() -> None:
    """As on a machine without the extra: `gateway run` is listed there, and loads its packages late."""
    script = (
        "import sys; sys.modules['uvloop'] = None; sys.argv = ['slimwire', 'gateway', 'run']\n"
        "from slimwire import cli; cli.main()"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert result.returncode == 3
    assert "needs the Python package 'uvloop'" in result.stderr
    assert "pip install 'slimwire[gateway]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_module_of_ours_missed_when_the_command_runs_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise ModuleNotFoundError("No module named 'gateway.gone'", name="gateway.gone")

    monkeypatch.setattr(cli, "app", broken)
    monkeypatch.setattr(sys, "argv", ["slimwire", "gateway", "run"])
    with pytest.raises(ModuleNotFoundError):
        cli.main()


def test_an_interrupt_while_a_command_still_loads_leaves_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130


def test_a_module_of_ours_that_is_missing_is_no_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.MOUNTS, "edge", cli._Mount("edge_server.no_such_file", "edge", "help"))
    with pytest.raises(ModuleNotFoundError):
        cli._load("edge")


def test_an_error_for_people_says_what_was_expected_and_what_to_do() -> None:
    error = SlimwireError("port 8080 is in use", expected="a free port", remedy="choose another with --port")
    assert str(error).splitlines() == [
        "port 8080 is in use",
        "  expected: a free port",
        "  remedy: choose another with --port",
    ]


def test_a_capture_is_read_from_standard_input_too() -> None:
    empty = bytes.fromhex("d4c3b2a1 0200 0400 00000000 00000000 ffff0000 c3000000")
    frame = bytes(16)  # a record of no bytes: no whole 802.15.4 frame
    command = [sys.executable, "-m", "slimwire", "wire", "dump", "-", "--json"]
    result = subprocess.run(command, input=empty + frame, capture_output=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(b'{"n": 1, "layers": [')
    result = subprocess.run(command, input=b"no capture", capture_output=True, timeout=60)
    assert result.returncode == 2
    assert b"magic number" in result.stderr
