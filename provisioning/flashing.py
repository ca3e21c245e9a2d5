"""MicroPython onto a board: esptool for ESP32 chips, a copied file for RP2 chips; then read back.

esptool runs as a process of its own: it is what owners of such boards use, and its licence (GPL) is not
ours.
"""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from provisioning import access, images
from provisioning.board import Board
from provisioning.errors import BoardError, FlashError
from provisioning.images import Image, Segment
from provisioning.profiles import Profile
from provisioning.site_file import ImageSection

_BAUD = 460800
_TIMEOUT_S = 600.0
_RESTART_S = 20.0
_INFO = "INFO_UF2.TXT"
#: The image as it is: esptool can put mode, speed and size of the flash into its header.
_KEEP = ["--no-progress", "--flash-mode", "keep", "--flash-freq", "keep", "--flash-size", "keep"]
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Flashed(NamedTuple):
    """What was done, for people, and the port of the board now; "": none came."""

    detail: str
    port: str


def flash(port: str, profile: Profile, source: ImageSection, *, erase: bool = False) -> Flashed:
    """Put MicroPython on a board and read it back.

    Args:
        port: device path or `socket://`; for RP2 boards the directory of the drive that BOOTSEL shows.
        source: the image. erase: everything first; where the chip's boot loader alone cannot, not.

    Raises:
        FlashError: the image cannot be used, flashing failed, or what was read back differs.
        BoardError: there is no such board at the port.
    """
    image = check(profile, source)
    if profile.flash.method == "uf2":
        return _uf2(Path(port), profile, image)
    return Flashed(_esptool(port, profile, image, erase=erase), port)


def check(profile: Profile, source: ImageSection) -> Image:
    """The image, had and checked for such boards. Raises FlashError."""
    if profile.flash.method == "none":
        raise FlashError(
            f"how to flash {profile.title} is not known",
            remedy="flash MicroPython as its makers describe, or name the board's own profile: --board",
        )
    image = images.fetch(source.image, source.sha256)
    if profile.flash.method == "uf2":
        images.read_uf2(image, profile)
    else:
        images.check_esp(image, profile)
    return image


def chip_of(port: str) -> str:
    """The name of the ESP chip at a port, as esptool finds it. Raises BoardError: none answers."""
    said = _run_esptool(port, "auto", ["chip-id"])
    found = re.search(r"(?:Chip type|Detecting chip type\S*|Chip is):?\s+(ESP[\w-]+)", said)
    if found is None:
        raise BoardError(f"esptool does not name the chip at {port}", fault="no-chip")
    return found[1].lower().replace("-", "")


def verify_memory(board: Board, segments: list[Segment]) -> None:
    """See that a running board's memory holds these bytes: its flash is mapped there. Raises FlashError."""
    wrong = board.differing([(segment.address, segment.content) for segment in segments])
    if wrong:
        raise FlashError(
            f"the flash of the board at {board.port} differs from the image at 0x{wrong[0]:08x}",
            remedy="flash it again; if it stays so, the flash is worn out",
            fault="read-back",
        )


def _esptool(port: str, profile: Profile, image: Image, *, erase: bool) -> str:
    at = hex(profile.flash.offset)
    everything = ["--erase-all"] if erase and _has_lines(port) else []
    _run_esptool(port, profile.chip, ["write-flash", *_KEEP, *everything, at, str(image.path)])
    with tempfile.TemporaryDirectory(prefix="slimwire-") as scratch:
        back = Path(scratch) / "back.bin"
        _run_esptool(port, profile.chip, ["read-flash", "--no-progress", at, str(image.size), str(back)])
        if image.path.read_bytes() != back.read_bytes():
            raise FlashError(
                f"what was read back from {port} is not what was written",
                remedy="flash it again, at another cable or USB port; if it stays so, the flash is worn out",
                fault="read-back",
            )
    return f"{image.size} bytes at {at}, read back"


def _run_esptool(port: str, chip: str, arguments: list[str]) -> str:
    if importlib.util.find_spec("esptool") is None:
        raise FlashError(
            "esptool is not installed here, which flashes ESP32 chips",
            remedy="pip install 'slimwire[provision]'",
        )
    lines = [] if _has_lines(port) else ["--before", "no-reset", "--after", "no-reset", "--no-stub"]
    command = [sys.executable, "-m", "esptool", "--chip", chip, "--port", port, "--baud", str(_BAUD)]
    try:
        done = subprocess.run(
            [*command, *lines, *arguments],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            env={**os.environ, "NO_COLOR": "1", "TERM": "dumb"},
        )
    except subprocess.TimeoutExpired as error:
        raise FlashError(
            f"esptool did not end in {_TIMEOUT_S:.0f} s at {port}", remedy="see the cable; try again"
        ) from error
    said = _COLOUR.sub("", done.stdout + done.stderr)
    if done.returncode:
        raise _trouble(port, chip, said)
    return said


def _trouble(port: str, chip: str, said: str) -> BoardError | FlashError:
    """What esptool's words mean."""
    wrong = re.search(r"This chip is (\S+?),? not (\S+?)\.", said)
    if wrong:
        return BoardError(
            f"the chip at {port} is {wrong[1]}",
            expected=chip,
            remedy=f"--board {wrong[1].lower().replace('-', '')}, or connect the other board",
            fault="wrong-chip",
        )
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "nothing")
    if "Failed to connect" in said or "No serial data received" in said:
        return BoardError(
            f"no ESP32 boot loader answers at {port}",
            remedy="hold BOOT, press and let go of RESET, let go of BOOT, try again; see that the cable "
            "carries data",
            fault="no-bootloader",
        )
    return FlashError(
        f"esptool failed at {port}: {last}", remedy="see the cable and the port, then try again"
    )


def _has_lines(port: str) -> bool:
    """Whether a port has the control lines that reset a board into its boot loader."""
    return not port.startswith("socket://") and not os.path.realpath(port).startswith("/dev/pts/")


def _uf2(drive: Path, profile: Profile, image: Image) -> Flashed:
    """Copy an image to the drive of a chip's boot loader, and read it back."""
    segments = images.read_uf2(image, profile)
    info = drive / _INFO
    try:
        found = re.search(r"^Board-ID:\s*(\S+)", info.read_text("utf-8", "replace"), re.MULTILINE)
    except OSError as error:
        raise BoardError(
            f"{drive} is not the drive of an RP2 board",
            expected=f"a directory with {_INFO}",
            remedy="hold BOOTSEL while connecting the board, and name where its drive is mounted: --port DIR",
            fault="no-bootloader",
        ) from error
    name = found[1] if found else "nothing"
    if name != profile.flash.board_id:
        raise BoardError(
            f"the drive {drive} is a board's that says it is {name}",
            expected=f"{profile.flash.board_id} ({profile.title})",
            remedy="name the other board (--board), or connect this one",
            fault="wrong-chip",
        )
    content = image.path.read_bytes()
    before = {port.device for port in access.ports()}
    target = drive / "slimwire.uf2"
    try:
        with target.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise FlashError(
            f"{target} cannot be written: {error.strerror}", remedy="connect the board again, holding BOOTSEL"
        ) from error
    size = sum(len(segment.content) for segment in segments)
    back = _read_back(target)
    if back is None:
        return _restarted(profile, segments, before, f"{size} bytes, ")
    if back != content:
        raise FlashError(
            f"what was read back from {target} is not what was written",
            remedy="connect the board again, holding BOOTSEL, and try once more",
            fault="read-back",
        )
    return Flashed(f"{size} bytes in {len(segments)} stretches, read back", "")


def _restarted(profile: Profile, segments: list[Segment], before: set[str], what: str) -> Flashed:
    """Wait for the board that a chip became, and compare its flash. Raises FlashError: it differs."""
    end = time.monotonic() + _RESTART_S
    while time.monotonic() < end:
        for port in access.ports():
            if port.device not in before and port.usb in profile.usb:
                board = Board(port.device)
                board.probe()
                verify_memory(board, segments)
                return Flashed(
                    f"{what}read back from the board's memory; it is at {port.device} now", port.device
                )
        time.sleep(0.2)
    return Flashed(
        f"{what}which the chip took and restarted; no port came in {_RESTART_S:.0f} s to read back from", ""
    )


def _read_back(target: Path) -> bytes | None:
    """The file, None: the drive is gone, as a chip's is once it has the last block."""
    time.sleep(0.1)
    try:
        return target.read_bytes()
    except OSError:
        return None
