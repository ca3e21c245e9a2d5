"""Flashing: real esptool against a mock of the chip's boot loader, UF2 into a directory; both read back."""

import contextlib
import hashlib
import http.server
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from esp32_mock_bootloader import mock_bootloader
from typer.testing import CliRunner

from models.bundle import Bundle
from provisioning import access, flashing, images, profiles, up
from provisioning.board import Board
from provisioning.emulated import emulate
from provisioning.errors import BoardError, FlashError
from provisioning.images import Segment
from provisioning.site_file import ImageSection
from slimwire.cli import app

C3 = profiles.load("esp32c3")
PICO = profiles.load("pico-w")


def esp_image(path: Path, chip: int = 5) -> Path:
    """What begins as an application for an ESP chip: magic, header with the chip's number, then data."""
    content = bytearray(b"\xe9\x01\x02\x20" + bytes(20) + os.urandom(6000))
    content[12:14] = struct.pack("<H", chip)
    path.write_bytes(content)
    return path


def uf2(path: Path, segments: list[Segment], family: int = PICO.flash.family) -> Path:
    """A UF2 file with blocks of 256 bytes."""
    blocks = [
        (segment.address + at, segment.content[at : at + 256])
        for segment in segments
        for at in range(0, len(segment.content), 256)
    ]
    content = b""
    for number, (address, data) in enumerate(blocks):
        head = (0x0A324655, 0x9E5D5157, 0x2000, address, len(data), number, len(blocks), family)
        content += struct.pack("<8I", *head) + data.ljust(476, b"\0") + struct.pack("<I", 0x0AB16F30)
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def chip():
    with mock_bootloader("esp32c3") as mock:
        yield mock


def test_esptool_writes_an_image_and_reads_it_back(chip, tmp_path) -> None:
    image = esp_image(tmp_path / "c3.bin")
    arguments = ["provision", "flash", "--port", chip.url(), "--board", "esp32c3", "--image", str(image)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert f"{image.stat().st_size} bytes at 0x0, read back" in result.stdout
    asked = [sys.executable, "-m", "esptool", "--chip", "esp32c3", "--port", chip.url(), "--no-stub"]
    asked += ["--before", "no-reset", "--after", "no-reset", "read-flash", "0", "24", str(tmp_path / "b")]
    subprocess.run(asked, check=True, capture_output=True)
    assert (tmp_path / "b").read_bytes() == image.read_bytes()[:24]


def test_a_flash_that_keeps_something_else_is_found_out(chip, tmp_path, monkeypatch) -> None:
    image = esp_image(tmp_path / "c3.bin")
    real = subprocess.run

    def spoil(command, **options):
        done = real(command, **options)
        if "read-flash" in command:  # as worn flash does: one bit
            content = bytearray(Path(command[-1]).read_bytes())
            content[1000] ^= 1
            Path(command[-1]).write_bytes(content)
        return done

    monkeypatch.setattr(flashing.subprocess, "run", spoil)
    with pytest.raises(FlashError, match="read back") as error:
        flashing.flash(chip.url(), C3, ImageSection(image=str(image)))
    assert error.value.exit_code == 6


def test_the_wrong_chip_is_named_before_anything_is_written(chip, tmp_path) -> None:
    image = esp_image(tmp_path / "s3.bin", 9)
    with pytest.raises(FlashError, match=r"for the chip esp32s3\n.*one for esp32c3"):
        flashing.flash(chip.url(), C3, ImageSection(image=str(image)))
    with pytest.raises(BoardError) as error:
        flashing.flash(chip.url(), profiles.load("esp32s3"), ImageSection(image=str(image)))
    assert error.value.fault == "wrong-chip"
    assert "--board esp32c3" in error.value.remedy


@contextlib.contextmanager
def loader_at(port: Path) -> Iterator[None]:
    """A chip's boot loader on a pseudo-terminal."""
    command = [sys.executable, "-m", "esp32_mock_bootloader.cli", "run", "--pty", "--chip", "esp32c3"]
    loader = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        line = next(line for line in loader.stdout if "/dev/pts/" in line)
        port.symlink_to("/dev/pts/" + line.partition("/dev/pts/")[2].split()[0].strip("\"'.,"))
        yield
    finally:
        loader.terminate()
        loader.wait(20)


def test_discover_names_a_bare_chip(tmp_path, monkeypatch) -> None:
    port = tmp_path / "port"
    monkeypatch.setattr(access, "ports", lambda: [access.Port(str(port), "303a:1001", "1", "")])
    with loader_at(port):
        result = CliRunner().invoke(app, ["provision", "discover", "--look", "--json"])
    (found,) = json.loads(result.stdout)["ports"]
    assert (found["chip"], found["boards"]) == ("esp32c3", ["esp32c3"])
    assert "a bare esp32c3" in found["trouble"]


def test_a_bare_chip_becomes_a_verified_device(running, tmp_path, monkeypatch) -> None:
    """The port is the chip's boot loader until esptool wrote the image, then the board that it makes."""
    port = tmp_path / "port"
    with loader_at(port):
        image = esp_image(tmp_path / "c3.bin")
        request = up.Request(
            site=running.site,
            profile=C3,
            bundle=Bundle.load("fashion-mnist"),
            image=ImageSection(image=str(image)),
        )
        with emulate(C3, tmp_path / "board.img", tmp_path / "booted", size_kib=512):
            real = flashing.flash

            def flash_and_boot(*arguments, **options):
                said = real(*arguments, **options)
                port.unlink()
                port.symlink_to(tmp_path / "booted")
                return said

            monkeypatch.setattr(up.flashing, "flash", flash_and_boot)
            told = []
            report = up.Up(str(port), request, told.append).run()
    assert report["verified"]
    steps = {step["step"]: step for step in report["steps"]}
    assert steps["look"]["detail"] == "no MicroPython answers"
    assert "read back" in steps["micropython"]["detail"]


# --- images ---


def test_an_image_from_elsewhere_needs_its_digest_and_is_kept(tmp_path) -> None:
    image = esp_image(tmp_path / "c3.bin")
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    handler = type(
        "Quiet",
        (http.server.SimpleHTTPRequestHandler,),
        {
            "log_message": lambda *_: None,
            "__init__": lambda self, *a: http.server.SimpleHTTPRequestHandler.__init__(
                self, *a, directory=str(tmp_path)
            ),
        },
    )
    cache = tmp_path / "cache"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/c3.bin"
        with pytest.raises(FlashError, match="not pinned"):
            images.fetch(url, None, cache)
        with pytest.raises(FlashError, match="has the SHA-256"):
            images.fetch(url, "0" * 64, cache)
        assert list(cache.iterdir()) == []  # what is not what it should be is not kept
        assert images.fetch(url, digest, cache).size == image.stat().st_size
        server.shutdown()
    assert images.fetch(url, digest.upper(), cache).sha256 == digest  # nobody serves it any more
    with pytest.raises(FlashError, match="cannot be had"):
        images.fetch(url, "1" * 64, cache)


def test_a_file_that_is_no_image_is_refused(tmp_path) -> None:
    (tmp_path / "x").write_bytes(b"hello")
    with pytest.raises(FlashError, match="no image for ESP32 chips"):
        images.check_esp(images.fetch(str(tmp_path / "x"), None), C3)
    with pytest.raises(FlashError, match="no UF2 file"):
        images.read_uf2(images.fetch(str(tmp_path / "x"), None), PICO)
    with pytest.raises(FlashError, match="cannot be read"):
        images.fetch(str(tmp_path / "nothing"), None)


# --- RP2 ---


@pytest.fixture
def drive(tmp_path) -> Path:
    directory = tmp_path / "RPI-RP2"
    directory.mkdir()
    (directory / "INFO_UF2.TXT").write_text(
        "UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: RPI-RP2\r\n"
    )
    return directory


def test_uf2_is_copied_to_the_drive_and_read_back(drive, tmp_path) -> None:
    segments = [Segment(0x10000000, os.urandom(1000)), Segment(0x10040000, os.urandom(300))]
    image = uf2(tmp_path / "pico.uf2", segments)
    arguments = ["provision", "flash", "--port", str(drive), "--board", "pico-w", "--image", str(image)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "1300 bytes in 2 stretches, read back" in result.stdout
    assert (drive / "slimwire.uf2").read_bytes() == image.read_bytes()
    assert images.read_uf2(images.fetch(str(image), None), PICO) == segments


def test_a_uf2_for_another_chip_or_another_drive_is_refused(drive, tmp_path) -> None:
    other = uf2(tmp_path / "other.uf2", [Segment(0x10000000, b"x" * 256)], family=0xE48BFF59)
    with pytest.raises(FlashError, match="holds nothing for Raspberry Pi Pico W"):
        flashing.flash(str(drive), PICO, ImageSection(image=str(other)))
    with pytest.raises(BoardError, match="says it is RPI-RP2"):
        flashing.flash(str(drive), profiles.load("pico2-w"), ImageSection(image=str(other)))
    image = uf2(tmp_path / "pico.uf2", [Segment(0x10000000, b"x" * 256)])
    with pytest.raises(BoardError, match="is not the drive of an RP2 board"):
        flashing.flash(str(tmp_path), PICO, ImageSection(image=str(image)))
    assert [path.name for path in drive.iterdir()] == ["INFO_UF2.TXT"]


def test_a_drive_that_keeps_something_else_is_found_out(drive, tmp_path, monkeypatch) -> None:
    image = uf2(tmp_path / "pico.uf2", [Segment(0x10000000, os.urandom(512))])
    real = flashing._read_back

    def worn(target: Path) -> bytes | None:
        target.write_bytes(target.read_bytes()[:-1] + b"\0")
        return real(target)

    monkeypatch.setattr(flashing, "_read_back", worn)
    with pytest.raises(FlashError, match="not what was written"):
        flashing.flash(str(drive), PICO, ImageSection(image=str(image)))


@pytest.mark.soak
def test_a_drive_becomes_a_verified_device(running, drive, tmp_path, monkeypatch) -> None:
    image = uf2(tmp_path / "pico.uf2", [Segment(0x10000000, os.urandom(512))])
    request = up.Request(
        site=running.site,
        profile=PICO,
        bundle=Bundle.load("fashion-mnist"),
        image=ImageSection(image=str(image)),
    )
    with emulate(PICO, tmp_path / "flash.img") as board:
        there: list[access.Port] = []
        monkeypatch.setattr(access, "ports", lambda: list(there))
        port = access.Port(str(board.port), PICO.usb[0], "", "")
        monkeypatch.setattr(flashing, "_read_back", lambda _: there.append(port))
        monkeypatch.setattr(Board, "differing", lambda *_: [])
        report = up.Up(str(drive), request, lambda _: None).run()
    assert (report["port"], report["board"], report["verified"]) == (str(board.port), "pico-w", True)
    with pytest.raises(BoardError, match="--image FILE"):
        up.Up(str(drive), up.Request(request.site, PICO, request.bundle), lambda _: None).run()


@pytest.mark.parametrize("differs", [False, True])
def test_a_chip_that_restarts_is_read_back_from_its_memory(drive, tmp_path, monkeypatch, differs) -> None:
    image = uf2(tmp_path / "pico.uf2", [Segment(0x10000000, os.urandom(512))])
    asked = []

    def compare(_, segments):
        asked.extend(segments)
        return [0x10000000] if differs else []

    with emulate(PICO, tmp_path / "flash.img") as board:
        there: list[access.Port] = []
        monkeypatch.setattr(access, "ports", lambda: list(there))

        def gone(_: Path) -> None:  # with the drive; a port comes instead
            there.append(access.Port(str(board.port), PICO.usb[0], "", ""))

        monkeypatch.setattr(flashing, "_read_back", gone)
        monkeypatch.setattr(Board, "differing", compare)
        source = ImageSection(image=str(image))
        if differs:
            with pytest.raises(FlashError, match="differs from the image at 0x10000000"):
                flashing.flash(str(drive), PICO, source)
        else:
            flashed = flashing.flash(str(drive), PICO, source)
            assert f"it is at {board.port} now" in flashed.detail
            assert flashed.port == str(board.port)
    assert [(at, len(content)) for at, content in asked] == [(0x10000000, 512)]


def test_the_memory_of_a_running_board_is_compared_with_an_image(tmp_path) -> None:
    """An RP2's drive is gone once it has the image; its flash is then mapped into its memory."""
    with emulate(PICO, tmp_path / "flash.img") as board:
        opened = Board(str(board.port))
        opened.probe()
        opened._way = ("resume",)  # what it holds in memory stays
        made = "import uctypes; b = bytearray(bytes(range(256)) * 4); print(uctypes.addressof(b))"
        address = int(opened._exec(made)[0])
        good = [Segment(address, bytes(range(256))), Segment(address + 256, bytes(range(256)) * 3)]
        flashing.verify_memory(opened, good)
        with pytest.raises(FlashError, match=f"differs from the image at 0x{address + 256:08x}"):
            flashing.verify_memory(opened, [good[0], Segment(address + 256, b"other")])
