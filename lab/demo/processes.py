"""Child processes of a run: each in a process group of its own, logged to a file, and none left behind
however the run ends.

`Family` starts and stops them. It is a context manager: leaving it, by return, exception, Ctrl-C or SIGTERM,
ends every group (SIGTERM, then SIGKILL), in the opposite order of their start. Should this process itself be
killed without warning, the kernel ends the children (`PR_SET_PDEATHSIG`).
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

from slimwire.errors import SlimwireError

_PR_SET_PDEATHSIG = 1
_TAIL_LINES = 15
_STOP_SECONDS = 4.0


class TierError(SlimwireError):
    """A part of the run did not start, or ended too early."""

    exit_code = 4


@dataclass
class Child:
    """One running part. `log` holds its stdout and stderr; `ends`: it may end by itself, with status 0."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    ends: bool = False

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def tail(self) -> str:
        """The last lines it wrote."""
        lines = self.log.read_text("utf-8", "replace").splitlines()[-_TAIL_LINES:]
        return "\n".join(f"    {self.name}| {line}" for line in lines) or f"    ({self.name} wrote nothing)"


class Family:
    """All children of one run.

    Args:
        logs: existing directory for `<name>.log` files.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self.children: list[Child] = []

    def __enter__(self) -> "Family":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_all()

    def start(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        *,
        ends: bool = False,
    ) -> Child:
        """Start `command` (first item.

        The program) with `env` added to this environment. Raises TierError.
        """
        log = self._logs / f"{name}.log"
        with log.open("wb") as out:
            try:
                process = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    cwd=cwd,
                    env={**os.environ, **(env or {})},
                    start_new_session=True,
                    preexec_fn=_die_with_parent(os.getpid()),  # noqa: PLW1509 (one thread, two system calls)
                )
            except OSError as error:
                raise TierError(f"cannot start {name}: {error}", remedy=f"look at {command[0]}") from error
        child = Child(name, process, log, ends)
        self.children.append(child)
        return child

    def wait_until(self, child: Child, ready: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until `ready()`.

        Raises TierError with the tail of its log if `child` ends first or `seconds` pass.
        """
        end = time.monotonic() + seconds
        while not ready():
            if not child.alive:
                raise TierError(
                    f"{child.name} ended with status {child.process.returncode} before {what}\n"
                    f"{child.tail()}",
                    remedy=f"the whole log is {child.log}",
                )
            if time.monotonic() > end:
                raise TierError(
                    f"{child.name}: no {what} within {seconds:.0f} s\n{child.tail()}",
                    remedy=f"the whole log is {child.log}",
                )
            time.sleep(0.05)

    def check(self) -> None:
        """Raises TierError if a child has ended that should not have."""
        for child in self.children:
            status = child.process.poll()
            if status is not None and not (child.ends and status == 0):
                raise TierError(
                    f"{child.name} ended with status {status} in the middle of the run\n{child.tail()}",
                    remedy=f"the whole log is {child.log}",
                )

    def stop(self, child: Child, seconds: float = _STOP_SECONDS) -> None:
        """End a child's group: SIGTERM, and SIGKILL after `seconds`."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGTERM)
        try:
            child.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # Also what the child itself may have started in its group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()

    def stop_all(self) -> None:
        """End every child, last started first. Another Ctrl-C meanwhile does not cut this short."""
        with _deaf():
            for child in reversed(self.children):
                self.stop(child)
            self.children.clear()


def _die_with_parent(parent: int) -> Callable[[], None]:
    """What the child does between fork and exec: ask to be ended with its parent."""
    libc = ctypes.CDLL(None, use_errno=True)

    def set_death_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it is gone already
            os._exit(1)

    return set_death_signal


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Ignore SIGINT, SIGTERM and SIGHUP for a moment."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into KeyboardInterrupt, as Ctrl-C is one, so that the same cleanup runs."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def free_tcp_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
