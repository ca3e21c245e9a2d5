"""One MicroPython board, driven by mpremote in a process of its own.

mpremote is what board owners already use; its command line is its stable interface. Secrets never appear in
an argument: they travel in files.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from serial.tools import list_ports

from provisioning.errors import ProvisionError

#: mpremote's own ways to name a port.
_NAMED = ("auto", "id:", "port:", "socket://", "rfc2217://")
_QUICK_S = 40.0
_COPY_S = 900.0

_PROBE = """
import sys, os, json
try:
    import machine
    unique = bytes(machine.unique_id())
except (ImportError, AttributeError):
    unique = b""
stat = os.statvfs("/")
impl = sys.implementation
print(json.dumps([getattr(impl, "_machine", sys.platform), list(impl.version[:3]), getattr(impl, "_mpy", 0),
    "".join(["%02x" % b for b in unique]), stat[1] * stat[2], stat[0] * stat[3]]))
"""

# Deletes what is not expected below a folder, and a list of files; afterwards prints what it deleted.
_CLEAR = """
import os, json
def walk(path):
    try:
        entries = list(os.ilistdir(path))
    except OSError:
        return
    for entry in entries:
        full = path + "/" + entry[0]
        if entry[1] & 0x4000:
            for inner in walk(full):
                yield inner
        else:
            yield full
keep, doomed = {keep!r}, {files!r}
for name in [n for n in walk({folder!r}) if n not in keep] + doomed:
    try:
        os.remove(name)
        print(json.dumps(name))
    except OSError:
        pass
if hasattr(os, "sync"):
    os.sync()
"""

_DIGESTS = """
import hashlib, json
from binascii import hexlify
buffer = bytearray(512)
for name in {names!r}:
    try:
        digest = hashlib.sha256()
        with open(name, "rb") as file:
            while True:
                n = file.readinto(buffer)
                if not n:
                    break
                digest.update(memoryview(buffer)[:n])
        print(json.dumps([name, hexlify(digest.digest()).decode()]))
    except OSError:
        print(json.dumps([name, ""]))
"""


@dataclass(frozen=True, slots=True)
class BoardInfo:
    """What a board says of itself.

    Attributes:
        machine: its name. version: MicroPython's.
        mpy: `sys.implementation._mpy`: which compiled code it runs; 0: none.
        unique_id: the chip's number, b"" where it has none.
        size, free: of its file system, bytes.
    """

    machine: str
    version: tuple[int, ...]
    mpy: int
    unique_id: bytes
    size: int
    free: int


class Board:
    """The board at a serial port, as mpremote names it: a device path, `auto`, or `id:SERIAL`.

    Raises:
        ProvisionError: there is no such port.
    """

    def __init__(self, port: str) -> None:
        self.port = port
        if not port.startswith(_NAMED) and not Path(port).exists():
            raise ProvisionError(f"there is no port {port}", remedy=_candidates())

    def probe(self) -> BoardInfo:
        """Ask the board what it is. Raises ProvisionError: nothing there, busy, or no MicroPython."""
        lines = self._exec(_PROBE)
        try:
            machine, version, mpy, unique_id, size, free = json.loads(lines[-1])
        except (IndexError, ValueError) as error:
            raise self._trouble("\n".join(lines)) from error
        return BoardInfo(machine, tuple(version), mpy, bytes.fromhex(unique_id), size, free)

    def clear(self, folder: str, keep: Sequence[str], files: Sequence[str]) -> list[str]:
        """Delete what is below `folder` and not in `keep`, and `files`; returns what there was."""
        code = _CLEAR.format(keep=list(keep), folder=folder, files=list(files))
        return [json.loads(line) for line in self._exec(code)]

    def copy(self, sources: Sequence[Path], say: Callable[[str], None]) -> None:
        """Copy files and folders, with what is in them, to the board's root; `say` hears of each.

        mpremote leaves out a file that is on the board already with the same digest.
        """
        for line in self._stream(["fs", "cp", "-r", *map(str, sources), ":/"], _COPY_S):
            target = line.strip().rpartition(" :")[2]
            if target:
                say(f"  {target}")

    def digests(self, names: Sequence[str]) -> dict[str, str]:
        """SHA-256 in hex of files on the board, by absolute path; "" for a file that is not there."""
        return dict(json.loads(line) for line in self._exec(_DIGESTS.format(names=list(names))))

    def reset(self) -> None:
        """Start the board anew, so that it runs what was installed."""
        self._mpremote(["reset"], _QUICK_S)

    def _exec(self, code: str) -> list[str]:
        return [line for line in self._mpremote(["exec", code], _QUICK_S) if line.strip()]

    def _mpremote(self, arguments: Sequence[str], timeout: float) -> list[str]:
        return list(self._stream(arguments, timeout))

    def _stream(self, arguments: Sequence[str], timeout: float) -> Iterator[str]:
        """Run mpremote and give what it says line by line, as it says it."""
        command = [sys.executable, "-u", "-m", "mpremote", "connect", self.port, *arguments]
        said: list[str] = []
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            limit = threading.Timer(timeout, process.kill)
            limit.start()
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    said.append(line)
                    yield line
                process.wait()
                overdue = not limit.is_alive()
            finally:
                limit.cancel()
                if process.poll() is None:
                    process.kill()
        if process.returncode:
            raise self._trouble("".join(said), timeout if overdue else 0.0)

    def _trouble(self, said: str, timeout: float = 0.0) -> ProvisionError:
        """What mpremote's words mean, and what to do about it."""
        last = said.strip().splitlines()[-1].strip() if said.strip() else ""
        if any(word in said for word in ("No space left", "ENOSPC", "Errno 28")):
            return ProvisionError(
                f"the flash of the board at {self.port} is full",
                remedy="delete files from it (`mpremote fs rm`), or install fewer --images",
            )
        if "no device found" in said or "no device with serial number" in said:
            return ProvisionError(
                f"no board is plugged in that --port {self.port} would find",
                remedy="connect it, with a cable that carries data, or name its port with --port. "
                + _candidates(),
            )
        if "failed to access" in said:
            return ProvisionError(
                f"the port {self.port} cannot be opened: {last}",
                remedy="close what else uses it (a serial monitor, an editor); join the group that owns it. "
                + _candidates(),
            )
        if "Traceback" in said and "mpremote" not in said:
            return ProvisionError(f"the board at {self.port} answers with an error: {last}")
        what = f"nothing for {timeout:.0f} s" if timeout else last or "nothing"
        return ProvisionError(
            f"no MicroPython answers at {self.port} (mpremote said: {what})",
            expected="a board that runs MicroPython 1.23 or newer",
            remedy="flash MicroPython first, press reset and try again, or name another port. "
            + _candidates(),
        )


def _candidates() -> str:
    ports = sorted(port.device for port in list_ports.comports())
    return "ports here: " + ", ".join(ports) if ports else "no serial port is here: connect the board"
