"""Serial ports of this computer: which there are, who may open one, who has it, and what its lines do."""

import contextlib
import errno
import fcntl
import grp
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import serial
from serial.tools import list_ports

from provisioning.errors import BoardError

_INTERRUPT = b"\r\x03\x03"
_SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Port:
    """A serial port that is there: device path, what USB says of it ("" where it is no USB port)."""

    device: str
    usb: str
    serial: str
    description: str


def ports() -> list[Port]:
    """Every serial port of this computer."""
    return [
        Port(
            each.device,
            "" if each.vid is None else f"{each.vid:04x}:{each.pid:04x}",
            each.serial_number or "",
            each.description if each.description != "n/a" else "",
        )
        for each in sorted(list_ports.comports())
    ]


def candidates() -> str:
    """The ports that are here, as part of a remedy."""
    here = [port.device for port in ports()]
    return "ports here: " + ", ".join(here) if here else "no serial port is here: connect the board"


def resolve(wanted: Sequence[str]) -> list[str]:
    """Device paths of what a command line names: `auto` (every USB port), `id:SERIAL`, a path, or a pattern.

    Each once, in the order named. A pattern passes over plain files: an emulated board's image lies beside
    its port. Raises BoardError: one of them names no port.
    """
    found: dict[str, None] = {}
    for name in wanted:
        if name == "auto":
            matches = [port.device for port in ports() if port.usb]
        elif name.startswith("id:"):
            matches = [port.device for port in ports() if port.serial == name.removeprefix("id:")]
        elif Path(name).exists():
            matches = [name]
        else:
            matches = sorted(path for path in glob(name) if not Path(path).is_file())
        if not matches:
            raise BoardError(
                f"no board is plugged in that --port {name} would find"
                if name == "auto" or name.startswith("id:")
                else f"there is no port {name}",
                remedy="connect it, with a cable that carries data, or name its port with --port. "
                + candidates(),
                fault="no-port",
            )
        found.update(dict.fromkeys(matches))
    return list(found)


def check(port: str) -> None:
    """See that this user can open a port, and that nobody else has it. Raises BoardError."""
    error = refused(port)
    if error is not None:
        raise error


def refused(port: str) -> BoardError | None:
    """Why a port cannot be opened, None: it can."""
    try:
        handle = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except FileNotFoundError:
        return BoardError(f"there is no port {port}", remedy=candidates(), fault="no-port")
    except PermissionError:
        return BoardError(f"this user may not open {port}", remedy=_permission(port), fault="no-permission")
    except OSError as error:
        if error.errno == errno.EBUSY:
            return _busy(port)
        return BoardError(f"{port} cannot be opened: {error.strerror}", remedy=candidates(), fault="no-port")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as pyserial does
        fcntl.flock(handle, fcntl.LOCK_UN)
    except BlockingIOError:
        return _busy(port)
    except OSError:
        return None  # a port that cannot be locked
    finally:
        os.close(handle)
    return None


def _permission(port: str) -> str:
    group = ""
    with contextlib.suppress(OSError, KeyError):
        group = grp.getgrgid(os.stat(port).st_gid).gr_name
    if group in ("", "root"):
        return f"let this user read and write {port}: a udev rule, or sudo chmod"
    return f"join the group that owns it, then log in again: sudo usermod -aG {group} $USER"


def _busy(port: str) -> BoardError:
    holders = _holders(port)
    who = f" ({', '.join(holders)})" if holders else ""
    return BoardError(
        f"the port {port} is in use by another program{who}",
        remedy="close it: a serial monitor, an editor, another mpremote"
        + "".join(f"; or: kill {each.split()[-1]}" for each in holders[:1]),
        fault="port-busy",
    )


def _holders(port: str) -> list[str]:
    """Programs that have a port open, as "name, process 12", as far as this user may see."""
    device = os.path.realpath(port)
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(process.name) != os.getpid() and any(
                os.readlink(handle) == device for handle in (process / "fd").iterdir()
            ):
                name = (process / "comm").read_text().strip()
                found.append(f"{name}, process {process.name}")
    return sorted(found)


def interrupt(port: str) -> None:
    """Ctrl-C, several times, and a while for what runs to end."""
    for _ in range(3):
        with _open(port) as line:
            line.write(_INTERRUPT)
        time.sleep(_SETTLE_S / 3)


def press_reset(port: str) -> None:
    """Pull the reset line as USB-serial bridges of boards have it wired (RTS), and wait for the boot.

    Where a port has no such line nothing happens.
    """
    with _open(port) as line, contextlib.suppress(OSError):
        line.dtr = False
        line.rts = True
        time.sleep(0.1)
        line.rts = False
    time.sleep(_SETTLE_S)


def silent(port: str, seconds: float = 0.75) -> bool:
    """Whether a port says nothing in this time even when it is interrupted and asked for a prompt."""
    end = time.monotonic() + seconds
    with _open(port) as line:
        line.write(_INTERRUPT + b"\r\x02\r")
        while time.monotonic() < end:
            if line.read(1):
                return False
    return True


def listen(port: str, seconds: float | None) -> Iterator[str]:
    """What a board says, a line at a time, without interrupting it; until `seconds` pass, None: for ever."""
    end = None if seconds is None else time.monotonic() + seconds
    held = b""
    with _open(port) as line:
        while end is None or time.monotonic() < end:
            held += line.read(max(1, line.in_waiting))
            *lines, held = held.split(b"\n")
            for each in lines:
                yield each.decode("utf-8", "replace").rstrip("\r")


@contextlib.contextmanager
def _open(port: str) -> Iterator[serial.Serial]:
    """A port, for this program alone. Raises BoardError."""
    try:
        line = serial.serial_for_url(port, baudrate=115200, timeout=0.1, exclusive=True, do_not_open=True)
        line.dtr = line.rts = False
        line.open()
    except (serial.SerialException, ValueError) as error:
        raise refused(port) or BoardError(
            f"{port} cannot be opened: {error}", remedy=candidates(), fault="no-port"
        ) from error
    try:
        yield line
    except serial.SerialException as error:
        raise BoardError(
            f"{port} went away: {error}", remedy="see that the cable sits well", fault="no-port"
        ) from error
    finally:
        # Closing alone lets go only once no process that was started meanwhile has the handle any more.
        with contextlib.suppress(OSError, serial.SerialException):
            fcntl.flock(line.fileno(), fcntl.LOCK_UN)
        line.close()
