"""The files that a board gets: firmware as .py or compiled for it, and where each lies."""

import hashlib
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from firmware.build import HOST_ONLY, SOURCE, compile_to
from provisioning.errors import ProvisionError

FOLDER = "/lib/firmware"
MAIN = "/main.py"

_MPY_VERSION = 6
_MPY_SUB_VERSION = 3
# sys.implementation._mpy >> 10, as MicroPython numbers native architectures, to mpy-cross's names.
_ARCHITECTURES = {
    1: "x86",
    2: "x64",
    3: "armv6",
    4: "armv6m",
    5: "armv7m",
    6: "armv7em",
    7: "armv7emsp",
    8: "armv7emdp",
    9: "xtensa",
    10: "xtensawin",
    11: "rv32imc",
    12: "rv64imc",
}


_built: dict[str | None, "Payload"] = {}
_building = threading.Lock()


@dataclass(frozen=True, slots=True)
class Payload:
    """Files by their absolute path on the board, and how the firmware is coded.

    Attributes:
        files: path to content.
        architecture: mpy-cross's name of the board's, None: sources.
    """

    files: Mapping[str, bytes]
    architecture: str | None

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(map(len, self.files.values()))

    def digests(self) -> dict[str, str]:
        """SHA-256 in hex by path."""
        return {path: hashlib.sha256(content).hexdigest() for path, content in self.files.items()}

    def digest(self) -> str:
        """One SHA-256 in hex over paths and contents."""
        digests = "".join(f"{digest} {path}\n" for path, digest in sorted(self.digests().items()))
        return hashlib.sha256(digests.encode()).hexdigest()


def architecture_of(mpy: int) -> str | None:
    """The name of a board's architecture from its `sys.implementation._mpy`; None if .mpy files won't do."""
    if mpy & 0xFF != _MPY_VERSION or mpy >> 8 & 3 != _MPY_SUB_VERSION:
        return None
    return _ARCHITECTURES.get(mpy >> 10 & 0xF)


def architecture_of_file(header: bytes) -> str | None:
    """The name of the architecture that a .mpy file is for, from its first four bytes; None: any, or no .mpy.

    Header: "M", version, flags (bits 2..: architecture, bits 0..1: sub-version), bits of a small int
    (MicroPython, "MicroPython .mpy files").
    """
    if len(header) < 4 or header[:1] != b"M":
        return None
    return _ARCHITECTURES.get(header[2] >> 2)


def firmware(architecture: str | None) -> Payload:
    """`build`, once a process and architecture, however many boards want it at once."""
    with _building:
        if architecture not in _built:
            with tempfile.TemporaryDirectory(prefix="slimwire-") as scratch:
                _built[architecture] = build(architecture, Path(scratch))
        return _built[architecture]


def build(architecture: str | None, directory: Path) -> Payload:
    """The firmware for a board.

    Args:
        architecture: what to compile for, which saves the board time and memory; None: send the sources.
        directory: for the compiler's work.

    Raises:
        ProvisionError: the compiler fails.
    """
    files = {MAIN: (SOURCE / "boot" / "main.py").read_bytes()}
    if architecture is None:
        for source in SOURCE.rglob("*.py"):
            name = source.relative_to(SOURCE)
            if str(name) not in HOST_ONLY and name.parts[0] != "boot":
                files[f"{FOLDER}/{name.as_posix()}"] = source.read_bytes()
        return Payload(files, None)
    try:
        compile_to(directory / "compiled", architecture)
    except subprocess.CalledProcessError as error:
        raise ProvisionError(
            f"the firmware does not compile for {architecture}: {' '.join(map(str, error.cmd))} failed",
            remedy="see mpy-cross's words above, or install the sources instead: --source",
        ) from error
    compiled = directory / "compiled" / SOURCE.name
    for target in compiled.rglob("*.mpy"):
        files[f"{FOLDER}/{target.relative_to(compiled).as_posix()}"] = target.read_bytes()
    return Payload(files, architecture)
