"""The emulated board behaves as a board does under tools that know nothing of it."""

import subprocess
import sys
import time
from collections.abc import Callable

import pytest
import serial

from provisioning.emulated import EmulatedBoard, read_image
from provisioning.errors import ProvisionError


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    with EmulatedBoard(tmp_path_factory.mktemp("board") / "flash.img", size=256 << 10) as board:
        yield board


def mpremote(board: EmulatedBoard, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mpremote", "connect", str(board.port), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_files_survive_soft_and_hard_resets(board, tmp_path) -> None:
    (tmp_path / "data.bin").write_bytes(bytes(range(256)) * 20)
    assert mpremote(board, "fs", "cp", str(tmp_path / "data.bin"), ":/data.bin").returncode == 0
    # mpremote's `reset` starts with a soft one, and ends first: the board resets 100 ms later, and loses what
    # comes before it is up again.
    for reset, times in (("soft-reset", 1), ("reset", 2)):
        boots = board.boots + times
        assert mpremote(board, reset).returncode == 0
        wait_until(lambda boots=boots: board.boots >= boots)
        assert mpremote(board, "exec", "import os; print(os.stat('/data.bin')[6])").stdout.strip() == "5120"


def test_absolute_paths_never_reach_the_host(board) -> None:
    assert mpremote(board, "exec", "import os; print('etc' in os.listdir('/'))").stdout.strip() == "False"


def test_boot_py_is_heard_between_reboot_and_raw_prompt(board, tmp_path) -> None:
    (tmp_path / "boot.py").write_text("print('booted')\n")
    mpremote(board, "fs", "cp", str(tmp_path / "boot.py"), ":/boot.py")
    with serial.Serial(str(board.port), timeout=10) as port:
        port.write(b"\r\x03\r\x01")
        assert port.read_until(b"raw REPL; CTRL-B to exit\r\n>").endswith(b">")
        port.write(b"\x04")
        seen = port.read_until(b"raw REPL; CTRL-B to exit\r\n>")
        assert seen.index(b"MPY: soft reboot\r\n") < seen.index(b"booted") < seen.index(b"raw REPL")
        port.write(b"\x02")
    mpremote(board, "fs", "rm", ":/boot.py")


def test_main_py_runs_after_a_reset_and_ctrl_c_stops_it(board, tmp_path) -> None:
    (tmp_path / "main.py").write_text("print('at work')\nwhile True:\n    pass\n")
    mpremote(board, "fs", "cp", str(tmp_path / "main.py"), ":/main.py")
    with serial.Serial(str(board.port), timeout=10) as port:
        port.write(b"\r\x03\r\x01")
        port.read_until(b"raw REPL; CTRL-B to exit\r\n>")
        port.write(b"import machine; machine.reset()\x04")
        assert port.read_until(b"at work").endswith(b"at work")
        port.write(b"\x03")
        assert b"KeyboardInterrupt" in port.read_until(b">>> ")
    assert mpremote(board, "exec", "print(6 * 7)").stdout.strip() == "42"
    mpremote(board, "fs", "rm", ":/main.py")


def test_an_error_on_the_board_is_mpremote_s_error(board) -> None:
    done = mpremote(board, "exec", "1 / 0")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stdout + done.stderr


def test_a_closed_board_leaves_no_port_and_no_process(tmp_path) -> None:
    board = EmulatedBoard(tmp_path / "flash.img", tmp_path / "port", size=256 << 10)
    assert mpremote(board, "exec", "open('/x', 'w').close()").returncode == 0
    process = board._process
    board.close()
    board.close()
    assert not (tmp_path / "port").is_symlink()
    assert process.poll() is not None
    assert read_image(tmp_path / "flash.img").listdir("/") == ["x"]


def test_an_interpreter_that_dies_at_once_does_not_hang_the_board(tmp_path) -> None:
    with EmulatedBoard(tmp_path / "flash.img", size=256 << 10, interpreter="/bin/false") as board:
        with serial.Serial(str(board.port), timeout=10) as port:
            assert b"soft reboot" in port.read_until(b"soft reboot")
        time.sleep(0.05)


def test_a_port_that_exists_is_refused(tmp_path) -> None:
    (tmp_path / "port").write_text("")
    with pytest.raises(ProvisionError, match="cannot be made"):
        EmulatedBoard(tmp_path / "flash.img", tmp_path / "port")
