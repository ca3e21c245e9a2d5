"""One MicroPython board, driven by mpremote in a process of its own.

mpremote is what board owners already use; its command line is its stable interface. Secrets never appear in
an argument: they travel in files.
"""

import hashlib
import json
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from binascii import b2a_base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from provisioning import access
from provisioning.errors import BoardError

_QUICK_S = 40.0
_COPY_S = 900.0
_RESET_S = 0.25
_BOOT_S = 2.0

_PROBE = """
import sys, os, json, time
try:
    import machine
    unique = bytes(machine.unique_id())
except (ImportError, AttributeError):
    unique = b""
stat = os.statvfs("/")
impl = sys.implementation
name = os.uname().machine if hasattr(os, "uname") else getattr(impl, "_machine", sys.platform)
epoch = 0 if time.gmtime(0)[0] == 1970 else 946684800
print(json.dumps([name, list(impl.version[:3]), getattr(impl, "_mpy", 0),
    "".join(["%02x" % b for b in unique]), stat[1] * stat[2], stat[0] * stat[3], int(time.time()) + epoch]))
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

# Everything that a host wants to know of an installation, in one go. What is secret is told as a digest with
# the host's own random number in it: it can be compared, and is worth nothing later.
_LOOK = """
import os, json
from hashlib import sha256
from binascii import hexlify
nonce, buffer = {nonce!r}, bytearray(512)
def hex(data):
    return hexlify(data).decode()
def digest(name):
    digest = sha256()
    with open(name, "rb") as file:
        while True:
            n = file.readinto(buffer)
            if not n:
                return hex(digest.digest())
            digest.update(memoryview(buffer)[:n])
def walk(path):
    for entry in os.ilistdir(path):
        full = path.rstrip("/") + "/" + entry[0]
        if entry[1] & 0x4000:
            for inner in walk(full):
                yield inner
        else:
            yield full
def veil(section):
    for name in section:
        if isinstance(section[name], dict):
            veil(section[name])
        elif name in {secret!r}:
            section[name] = hex(sha256(nonce + section[name].encode()).digest())
def said(kind, value):
    print(json.dumps([kind, value]))
for name in {names!r} + [n for n in walk("/") if n.startswith({folder!r} + "/")]:
    try:
        said("file", [name, digest(name)])
        if name.endswith(".mpy"):
            with open(name, "rb") as file:
                said("mpy", [name, hex(file.read(4))])
    except OSError:
        pass
for name in {counters!r}:
    try:
        with open(name, "rb") as file:
            said("counter", hex(file.read()))
    except OSError:
        pass
try:
    with open("/device.json") as file:
        settings = json.load(file)
    del settings["root"]
    veil(settings)
    said("settings", settings)
    from firmware.setup import _load  # as the device itself starts: after a rotation, the epoch is another
    start, keys = _load("/")
    said("keys", [start["epoch"], hex(sha256(nonce + keys[0] + keys[1]).digest())])
except Exception as error:
    said("trouble", repr(error))
"""
_PROLOGUE = """import os
from binascii import a2b_base64 as d
def folders(names):
    for name in names:
        try:
            os.mkdir(name)
        except OSError as error:
            if error.errno != 17:
                raise"""
#: Bytes of files in one program, and in one line of it: what a small heap compiles.
_PIECE = 3072
_LINE = 768

_MEMORY = """
import uctypes
from hashlib import sha256
from binascii import hexlify
for address, size, wanted in {segments!r}:
    if hexlify(sha256(uctypes.bytearray_at(address, size)).digest()).decode() != wanted:
        print(address)
"""
#: Names of settings whose values are secret.
_SECRET = ("key", "password", "token")


@dataclass(frozen=True, slots=True)
class BoardInfo:
    """What a board says of itself.

    Attributes:
        machine: its name. version: MicroPython's.
        mpy: `sys.implementation._mpy`: which compiled code it runs; 0: none.
        unique_id: the chip's number, b"" where it has none.
        size, free: of its file system, bytes.
        clock: Unix time in s, as the board believes.
    """

    machine: str
    version: tuple[int, ...]
    mpy: int
    unique_id: bytes
    size: int
    free: int
    clock: int = 0


@dataclass(frozen=True, slots=True)
class Installed:
    """What a board holds of an installation.

    Attributes:
        files: SHA-256 in hex of what was asked for and of all below the firmware's folder, by absolute path.
        headers: first four bytes of each .mpy file.
        counters: contents of its counter files.
        settings: `device.json` without its root secret, other secrets as digests; None: there is none.
        epoch: the key epoch in which it sends, which a rotation may have led on from that of the settings.
        keys: digest of what it sends with, to compare with `key_check`; "": it has no identity.
        nonce: what the digests were made with.
    """

    files: Mapping[str, str]
    headers: Mapping[str, bytes]
    counters: Sequence[bytes]
    settings: Mapping[str, Any] | None
    epoch: int
    keys: str
    nonce: bytes


def _programs(files: Mapping[str, bytes]) -> Iterator[str]:
    """MicroPython programs that write files; each holds at most `_PIECE` bytes of them."""
    folders = sorted({str(folder) for path in files for folder in PurePosixPath(path).parents} - {"/"})
    lines, size = [_PROLOGUE, f"folders({folders!r})"], 0
    for path, content in files.items():
        mode = "wb"
        for at in range(0, max(len(content), 1), _PIECE):
            piece = content[at : at + _PIECE]
            if size + len(piece) > _PIECE:
                yield "\n".join(lines)
                lines, size = [], 0
            size += len(piece)
            lines.append(f"f = open({path!r}, {mode!r})")
            for start in range(0, len(piece), _LINE):
                lines.append(f"f.write(d({b2a_base64(piece[start : start + _LINE], newline=False)!r}))")
            lines.append("f.close()")
            mode = "ab"
        lines.append(f"print({path!r})")
    yield "\n".join(lines)


def key_check(nonce: bytes, frag_up: bytes, frag_dn: bytes) -> str:
    """What a board that holds these keys answers to `nonce`: SHA-256(nonce, K_frag_up, K_frag_dn) in hex."""
    return hashlib.sha256(nonce + frag_up + frag_dn).hexdigest()


def veiled(settings: Mapping[str, Any], nonce: bytes) -> dict[str, Any]:
    """Settings without the root secret, other secrets as the digests that `Board.look` gives of them."""
    out: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            out[name] = veiled(value, nonce)
        elif name in _SECRET:
            out[name] = hashlib.sha256(nonce + str(value).encode()).hexdigest()
        elif name != "root":
            out[name] = value
    return out


class Board:
    """The board at a serial port: a device path, or a URL that pyserial takes.

    Args:
        press_reset: resets the board by its control lines; None: `access.press_reset`.

    Raises:
        BoardError: there is no such port, it is another program's, or this user may not open it.
    """

    def __init__(self, port: str, press_reset: Callable[[str], None] | None = None) -> None:
        self.port = port
        self._press_reset = press_reset or access.press_reset
        self._way: Sequence[str] = ()
        if "://" not in port:
            access.check(port)

    def probe(self) -> BoardInfo:
        """Ask the board what it is. Raises BoardError: nothing there, busy, or no MicroPython."""
        lines = self._enter(_PROBE)
        try:
            machine, version, mpy, unique_id, size, free, clock = json.loads(lines[-1])
        except (IndexError, ValueError) as error:
            raise self._trouble("\n".join(lines)) from error
        return BoardInfo(machine, tuple(version), mpy, bytes.fromhex(unique_id), size, free, clock)

    def look(self, folder: str, names: Sequence[str], counters: Sequence[str]) -> Installed:
        """What of an installation the board holds: files of these names and below `folder`, identity."""
        nonce = secrets.token_bytes(16)
        code = _LOOK.format(
            nonce=nonce, names=list(names), folder=folder, counters=list(counters), secret=_SECRET
        )
        said: dict[str, list[Any]] = {}
        for line in self._exec(code):
            kind, value = json.loads(line)
            said.setdefault(kind, []).append(value)
        settings = said.get("settings")
        epoch, keys = said.get("keys", [(0, "")])[0]
        return Installed(
            dict(said.get("file", [])),
            {name: bytes.fromhex(header) for name, header in said.get("mpy", [])},
            [bytes.fromhex(each) for each in said.get("counter", [])],
            settings[0] if settings else None,
            epoch,
            keys,
            nonce,
        )

    def digests(self, names: Sequence[str]) -> dict[str, str]:
        """SHA-256 in hex of files on the board, by absolute path; "" for a file that is not there."""
        files = self.look("/nothing", names, ()).files
        return {name: files.get(name, "") for name in names}

    def differing(self, segments: Sequence[tuple[int, bytes]]) -> list[int]:
        """Those addresses of the board's memory at which other bytes are than these."""
        wanted = [(at, len(data), hashlib.sha256(data).hexdigest()) for at, data in segments]
        return [int(line) for line in self._exec(_MEMORY.format(segments=wanted))]

    def clear(self, folder: str, keep: Sequence[str], files: Sequence[str]) -> list[str]:
        """Delete what is below `folder` and not in `keep`, and `files`; returns what there was."""
        code = _CLEAR.format(keep=list(keep), folder=folder, files=list(files))
        return [json.loads(line) for line in self._exec(code)]

    def copy(self, files: Mapping[str, bytes], say: Callable[[str], None]) -> None:
        """Write files, by absolute path, in this order; `say` hears of each that is done.

        A piece of up to 3 KiB is one program that the board runs: `mpremote fs cp` asks and answers for every
        256 bytes. The programs travel in files that only this user reads: they may hold secrets.
        """
        with tempfile.TemporaryDirectory(prefix="slimwire-") as scratch:
            scripts = []
            for number, program in enumerate(_programs(files)):
                script = Path(scratch) / f"{number}.py"
                script.write_text(program)
                scripts += ["run", str(script)]
            for line in self._stream([*self._way, *scripts], _COPY_S):
                say(line.strip())

    def reset(self) -> None:
        """Start the board anew, so that it runs what was installed; returns once it has begun to.

        mpremote ends 100 ms before the board resets: what is said to it meanwhile would be lost.
        """
        self._mpremote(["reset"], _QUICK_S)
        time.sleep(_RESET_S)

    def _enter(self, code: str) -> list[str]:
        """Run code on a board whose state is not known: a ladder of ways into its raw REPL.

        As mpremote does it; without the soft reset; after more Ctrl-C and a while; after a hard reset. The
        way that worked is used from then on. A port that says nothing even after a reset is not climbed.
        """
        if access.silent(self.port):
            self._press_reset(self.port)
            if access.silent(self.port, _BOOT_S):
                raise self._nobody("nothing")
        rungs: tuple[tuple[Sequence[str], Callable[[str], None]], ...] = (
            ((), lambda _: None),
            (("resume",), lambda _: None),
            (("resume",), access.interrupt),
            ((), self._press_reset),
        )
        first: BoardError | None = None
        for way, prepare in rungs:
            prepare(self.port)
            self._way = way
            try:
                return self._exec(code)
            except BoardError as error:
                if error.fault != "no-micropython":
                    raise
                first = first or error
        assert first is not None
        raise first

    def _exec(self, code: str) -> list[str]:
        return [line for line in self._mpremote([*self._way, "exec", code], _QUICK_S) if line.strip()]

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

    def _trouble(self, said: str, timeout: float = 0.0) -> BoardError:
        """What mpremote's words mean, and what to do about it."""
        last = said.strip().splitlines()[-1].strip() if said.strip() else ""
        if any(word in said for word in ("No space left", "ENOSPC", "Errno 28", "OSError: 28")):
            return BoardError(
                f"the flash of the board at {self.port} is full",
                remedy="delete files from it (`mpremote fs rm`), or install fewer images",
                fault="flash-full",
            )
        if "failed to access" in said:
            return access.refused(self.port) or BoardError(
                f"the port {self.port} cannot be opened: {last}",
                remedy="close what else uses it (a serial monitor, an editor); join the group that owns it. "
                + access.candidates(),
                fault="port-busy",
            )
        if "Traceback" in said and "mpremote" not in said:
            return BoardError(f"the board at {self.port} answers with an error: {last}")
        return self._nobody(f"nothing for {timeout:.0f} s" if timeout else last or "nothing")

    def _nobody(self, what: str) -> BoardError:
        return BoardError(
            f"no MicroPython answers at {self.port} (what came: {what})",
            expected="a board that runs MicroPython 1.23 or newer",
            remedy="flash MicroPython first (slimwire provision flash), press reset and try again, or name "
            "another port. " + access.candidates(),
            fault="no-micropython",
        )
