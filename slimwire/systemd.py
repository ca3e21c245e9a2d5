"""systemd units of our services: the sandbox they share, and putting them in place.

`Staged` writes below a root: "/" for this machine, another directory for an image or a package.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slimwire.errors import SlimwireError

#: Lines of [Service] for a service that owns its state directory and nothing else (systemd.exec(5)).
SANDBOX = """\
DynamicUser=yes
UMask=0077
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectProc=invisible
NoNewPrivileges=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
CapabilityBoundingSet=
AmbientCapabilities=
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
Environment=PYTHONUNBUFFERED=1
"""

UNITS = "etc/systemd/system"


def program() -> list[str]:
    """What starts Slimwire here: the console script beside this Python, else `python -m slimwire`."""
    script = Path(sys.executable).with_name("slimwire")
    if script.is_file():
        return [str(script)]
    found = shutil.which("slimwire")
    return [found] if found else [sys.executable, "-m", "slimwire"]


def hidden_program(extra: str) -> str:
    """Why a sandboxed service cannot start the Slimwire that runs here; "" if it can.

    extra: the one to install elsewhere.
    """
    for where in (Path(program()[0]), Path(sys.executable).resolve()):
        if where.parts[1:2] in (("home",), ("root",)):
            return (
                f"{where} lies in a home directory, which the service cannot read; install Slimwire "
                "elsewhere first: /usr/bin/python3 -m venv /opt/slimwire && "
                f"/opt/slimwire/bin/pip install 'slimwire[{extra}]'"
            )
    return ""


def is_running() -> bool:
    """Whether systemd is this machine's init (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def _run(command: list[str]) -> int:
    """Run a command; what it prints goes to standard error, which is for people."""
    return subprocess.run(command, stdout=sys.stderr, check=False).returncode


@dataclass
class Staged:
    """Files and units below `root`.

    Attributes:
        root: "/" or the directory that stands for it.
        run: runs a command (systemctl) and returns its exit status; only where `root` is "/".
    """

    root: Path
    run: Callable[[list[str]], int] = _run

    @property
    def live(self) -> bool:
        """Whether this is the running machine, whose systemd is told of changes."""
        return self.root == Path("/") and is_running()

    def path(self, name: str) -> Path:
        """Where `name`, relative to the root, is."""
        return self.root / name

    def unit(self, name: str) -> Path:
        """Where a unit of the administrator's lies."""
        return self.path(UNITS) / name

    def write(self, path: Path, content: bytes, mode: int) -> bool:
        """Put a file in place whole and durably, owned by its directory's owner; False: it was there so.

        Raises:
            SlimwireError: it cannot be written.
        """
        try:
            if path.is_file() and path.read_bytes() == content and path.stat().st_mode & 0o777 == mode:
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.new")
            temporary.unlink(missing_ok=True)
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
            with os.fdopen(handle, "wb") as file:
                owner = path.parent.stat()
                if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()) and os.geteuid() == 0:
                    os.fchown(handle, owner.st_uid, owner.st_gid)
                os.fchmod(handle, mode)
                file.write(content)
                file.flush()
                os.fsync(handle)
            temporary.replace(path)
            sync_directory(path.parent)
        except OSError as error:
            raise unwritable(path, error) from error
        return True

    def remove(self, path: Path) -> bool:
        """Remove a file durably; False: there was none."""
        try:
            path.unlink()
            sync_directory(path.parent)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise unwritable(path, error) from error
        return True

    def systemctl(self, *words: str, check: bool = True) -> None:
        """Run systemctl where systemd runs; nothing otherwise. Raises SlimwireError where it fails."""
        if not self.live:
            return
        status = self.run(["systemctl", *words])
        if status and check:
            raise SlimwireError(
                f"systemctl {' '.join(words)} ended with status {status}",
                remedy=f"journalctl -xeu {words[-1]}",
            )


def sync_directory(path: Path) -> None:
    """Make what was created, renamed or removed in a directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unwritable(path: Path, error: OSError) -> SlimwireError:
    """What to tell of a path that cannot be written."""
    return SlimwireError(
        f"{path} cannot be written: {error.strerror}",
        remedy="run it with sudo, or stage it elsewhere with --root DIR",
    )
