"""Power cuts in the middle of an installation: whatever write it was, the board boots into something that
mpremote reaches, with a file system that is whole, and the next run finishes the work.

One installation is recorded write by write. The flash after a power cut at write N is then made of the first
N - 1 writes and half of the N-th, and a board boots from it. The suite takes a seeded choice of writes, the
soak form all of them; a few cuts happen for real, in the middle of a run.
"""

import random
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial

from models.bundle import Bundle
from provisioning import profiles
from provisioning.emulated import EmulatedBoard, emulate, read_image
from provisioning.errors import BoardError
from provisioning.up import Request, Up

C3 = profiles.load("esp32c3")
SEED = 6
_RAW = b"raw REPL; CTRL-B to exit\r\n>"


class Recorded:
    """An installation on a bare board, and every write of the flash that it took."""

    def __init__(self, running, directory: Path) -> None:
        self.image = directory / "board.img"
        self.trace = directory / "trace"
        request = Request(site=running.site, profile=C3, bundle=Bundle.load("fashion-mnist"), wait_s=None)
        with emulate(C3, self.image, size_kib=512, trace=self.trace) as board:
            Up(str(board.port), request, lambda _: None).run()
            reach(board)  # ends what writes
        self.installed = self.image.read_bytes()
        self.bare = b"\xff" * len(self.installed)

    def writes(self) -> Iterator[tuple[int, bytes]]:
        """(offset, bytes) of each write of the flash, in their order."""
        content, at = self.trace.read_bytes(), 0
        while at < len(content):
            offset, length = struct.unpack_from(">II", content, at)
            yield offset, content[at + 8 : at + 8 + length]
            at += 8 + length

    def after_cut(self, number: int) -> bytes:
        """The flash after the power failed at that write, counted from 1."""
        flash = bytearray(self.bare)
        for count, (offset, data) in enumerate(self.writes(), 1):
            written = data[: len(data) // 2] if count == number else data
            flash[offset : offset + len(written)] = written
            if count == number:
                break
        return bytes(flash)


@pytest.fixture(scope="module")
def recorded(running, tmp_path_factory):
    return Recorded(running, tmp_path_factory.mktemp("recorded"))


def reach(board: EmulatedBoard) -> bytes:
    """What a board answers as mpremote asks it: Ctrl-C, raw REPL, a program."""
    end = time.monotonic() + 20
    with serial.Serial(str(board.port), timeout=0.5) as port:
        seen = b""
        while _RAW not in seen:
            assert time.monotonic() < end, seen
            port.write(b"\r\x03\x03\r\x01")
            seen += port.read_until(_RAW)
        port.reset_input_buffer()
        port.write(b"import os; print(sorted(os.listdir('/')))\x04")
        return port.read_until(b"\x04>")


def boots(image: Path, content: bytes) -> bytes:
    """A board with this flash boots, is reached, and is still a file system afterwards."""
    image.write_bytes(content)
    with emulate(C3, image) as board:
        answer = reach(board)
    read_image(image).listdir("/")
    return answer


def test_an_installation_is_recorded_whole(recorded) -> None:
    flash = bytearray(recorded.bare)
    count = 0
    for offset, data in recorded.writes():
        flash[offset : offset + len(data)] = data
        count += 1
    assert bytes(flash) == recorded.installed
    assert count > 200


def test_a_power_cut_at_any_write_leaves_a_board_that_is_reached(recorded, tmp_path) -> None:
    total = sum(1 for _ in recorded.writes())
    # Before the file system's own first writes are done there is nothing but an empty board.
    chosen = sorted(random.Random(SEED).sample(range(5, total + 1), 8))
    for number in chosen:
        answer = boots(tmp_path / "cut.img", recorded.after_cut(number))
        assert b"OK[" in answer, (number, answer)


@pytest.mark.soak
def test_a_power_cut_at_every_write_leaves_a_board_that_is_reached(recorded, tmp_path) -> None:
    total = sum(1 for _ in recorded.writes())
    for number in range(1, total + 1):
        answer = boots(tmp_path / "cut.img", recorded.after_cut(number))
        assert b"OK[" in answer, (number, answer)
        if number % 50 == 0:
            with emulate(C3, tmp_path / "cut.img") as board:
                asked = [sys.executable, "-m", "mpremote", "connect", str(board.port), "eval", "6 * 7"]
                done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
                assert done.stdout.strip() == "42", (number, done.stdout, done.stderr)
    print(f"{total} writes, and a board that is reached after a power cut at each")


@pytest.mark.parametrize("part", [pytest.param(0.05, marks=pytest.mark.soak), 0.6])
def test_the_run_after_a_power_cut_finishes_the_work(running, recorded, tmp_path, part) -> None:
    total = sum(1 for _ in recorded.writes())
    request = Request(site=running.site, profile=C3, bundle=Bundle.load("fashion-mnist"))
    with emulate(C3, tmp_path / "board.img", size_kib=512) as board:
        port = str(board.port)
        board.cut_at_write(int(total * part))
        with pytest.raises(BoardError):
            Up(port, request, lambda _: None).run()
        assert board.writes >= int(total * part)
        board.cut_at_write(0)
        report = Up(port, request, lambda _: None).run()
    assert report["verified"]


def test_power_that_fails_on_demand_takes_the_port_with_it(tmp_path) -> None:
    with emulate(C3, tmp_path / "board.img", size_kib=256) as board:
        reach(board)
        before = board.boots
        board.cut_power()
        end = time.monotonic() + 20
        while board.boots == before:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert b"OK[" in reach(board)
