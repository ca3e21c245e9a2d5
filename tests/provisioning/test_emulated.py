"""The emulated board behaves as a board does under tools that know nothing of it."""

import ast
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
import serial

from provisioning import profiles
from provisioning.board import Board
from provisioning.emulated import EmulatedBoard, emulate, machine_name, read_image
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


@pytest.mark.parametrize("name", ["esp32c3", "pico-w"])
def test_a_board_of_a_kind_has_its_name_number_heap_and_flash(tmp_path, name) -> None:
    profile = profiles.load(name)
    asked = "import gc, os, machine; gc.collect(); s = os.statvfs('/'); print([os.uname().machine, "
    asked += "len(machine.unique_id()), gc.mem_free() + gc.mem_alloc(), s[0] * s[2]])"
    with emulate(profile, tmp_path / "flash.img") as board:
        machine, number, heap, flash = ast.literal_eval(mpremote(board, "exec", asked).stdout)
        too_much = mpremote(board, "exec", f"bytearray({profile.heap_kib << 10})")
    assert machine == machine_name(profile)
    assert number == profile.unique_id_bytes
    assert profile.heap_kib << 10 <= heap + 4096 <= (profile.heap_kib + 12) << 10
    assert flash == profile.storage_kib << 10
    assert "MemoryError" in too_much.stderr + too_much.stdout


def test_two_boards_have_two_numbers_and_one_keeps_its_own(tmp_path) -> None:
    asked = "import machine; print(machine.unique_id().hex())"
    seen = []
    for image in ("a.img", "b.img", "a.img"):
        with emulate(profiles.load("generic"), tmp_path / image, size_kib=128) as board:
            seen.append(mpremote(board, "exec", asked).stdout)
    assert seen[0] == seen[2] != seen[1]


def test_writes_are_counted_and_the_power_fails_at_the_one_chosen(tmp_path) -> None:
    write = "f = open('/x', 'wb'); f.write(bytes(3000)); f.close()"
    with emulate(profiles.load("generic"), tmp_path / "flash.img", size_kib=128) as board:
        mpremote(board, "exec", "open('/kept', 'w').close()")
        before, boots = board.writes, board.boots
        board.cut_at_write(before + 3)
        assert mpremote(board, "exec", write).returncode != 0
        wait_until(lambda: board.boots > boots)
        board.cut_at_write(0)
        assert board.writes >= before + 3
        assert mpremote(board, "exec", write).returncode == 0
        listed = mpremote(board, "exec", "import os; print(sorted(os.listdir('/')))").stdout
    assert ast.literal_eval(listed) == ["kept", "x"]


def test_a_program_that_talks_to_nobody_goes_on_and_the_board_can_be_switched_off(tmp_path) -> None:
    main = "import time\nn = 0\nwhile True:\n    n += 1\n    print('line', n, 'x' * 100)\n"
    main += "    if n == 200:\n        open('/reached', 'w').close()\n    time.sleep_ms(1)\n"
    with emulate(profiles.load("generic"), tmp_path / "flash.img", size_kib=128) as board:
        opened = Board(str(board.port))
        opened.probe()
        opened.copy({"/main.py": main.encode()}, lambda _: None)
        before = board.writes
        opened.reset()
        wait_until(lambda: board.writes > before)  # 20 KB later, five times what a terminal holds
        assert opened.probe().free
        assert list(opened.digests(["/reached"]).values()) != [""]
        opened.reset()


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
