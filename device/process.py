"""One device process: the firmware's agent with a LiteRT head, until it is told to end.

The directory is a board's file system: head.bin, counter.a, counter.b, the source's files, the log. The
identity, device.json, may lie elsewhere (a systemd credential).
"""

import asyncio
import contextlib
import fcntl
import importlib
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device.errors import DeviceError
from device.events import log_event
from device.head import LiteRtHead, encode_into
from device.sources import LINUX, open_source
from slimwire.notify import notify

#: Events after which `--once` has what it waits for.
_LAST = ("answer", "lost", "skipped")
#: How often the agent is asked to end until it does: an answer interrupts its wait in the same way.
_AGAIN_S = 0.05


@dataclass
class Job:
    """What a process is to do.

    Attributes:
        config: device.json. state: the directory of everything else, which the process writes to.
        source: a source section in place of the one in device.json.
        once: end after the first sample. seconds: end after so long, None: never.
        on_event: takes each event of the agent as it happens, an object of the agent's log.
    """

    config: Path
    state: Path
    source: Mapping[str, Any] | None = None
    once: bool = False
    seconds: float | None = None
    on_event: Callable[[dict[str, Any]], None] = log_event


class _OneSampleTakenError(Exception):
    """Ends the agent where it asks for a second sample."""


class _OneSample:
    """A source that has one sample."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._taken = False

    def capture_into(self, buffer: memoryview) -> int:
        if self._taken:
            raise _OneSampleTakenError
        self._taken = True
        return int(self._source.capture_into(buffer))

    def close(self) -> None:
        self._source.close()


def run(job: Job) -> list[dict[str, Any]]:
    """Run the agent until SIGTERM, SIGINT or the job's own end. Once a process.

    Returns:
        the events of the job's one sample, oldest first; of a longer job, none.

    Raises:
        DeviceError: the device is not fit to send, or another process uses its directory; says why, and what
            to do.
    """
    _check_private(job.config)
    events: list[dict[str, Any]] = []
    with alone(job.state), contextlib.ExitStack() as opened:
        runner = _Runner(job.seconds)

        def on_line(line: str) -> None:
            event = json.loads(line)
            notify("WATCHDOG=1")  # the agent goes on: it reports every two seconds, whatever else happens
            job.on_event(event)
            if job.once:
                events.append(event)
                if event["e"] in _LAST:
                    runner.stop()

        agent, parts = _assemble(job, on_line)
        for part in parts:
            opened.callback(part.close)
        notify("READY=1")
        try:
            asyncio.run(runner.serve(agent))
        finally:
            notify("STOPPING=1")
            agent.report()
            agent.log("end", '"heap_free":0')
    return events


def _assemble(job: Job, on_line: Callable[[str], None]) -> tuple[Any, Any]:
    """(agent, what to close): the firmware's own parts, but for head, coder and what Linux does otherwise."""
    setup = importlib.import_module("firmware.setup")
    firmware_error: type[Exception] = importlib.import_module("firmware.errors").SettingsError
    importlib.import_module("firmware.rans").encode_into = encode_into  # type: ignore[attr-defined]
    read, storage, open_part = setup._load, setup._storage, setup._open

    def load(root: str) -> tuple[Any, Any]:
        """The firmware's own `_load`, with the settings read from where they are here."""
        config = importlib.import_module("firmware.config")
        parse = config.load

        def load_settings(_path: str) -> Any:
            settings = parse(str(job.config))
            if job.source is not None:
                settings["source"] = {"order": "", **job.source}
            return settings

        config.load = load_settings  # type: ignore[attr-defined]
        return read(root)  # type: ignore[no-any-return]

    def open_storage(settings: dict[str, Any], root: str) -> tuple[Any, Any, Any]:
        log, write, counters = storage(settings, root)

        def write_line(line: str) -> None:
            if settings["log"]:  # else the log is standard output, which is for what --json prints
                write(line)
            on_line(line)

        return log, write_line, counters

    def head(path: str, _mode: str) -> LiteRtHead:
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise DeviceError(
                f"{path} cannot be read: {error.strerror}", remedy="copy head.bin from the bundle"
            ) from error
        return LiteRtHead(data, setup._SCRATCH)

    def open_any(what: str, kind: str, *arguments: Any) -> Any:
        if what != "source":
            return open_part(what, kind, *arguments)
        settings, root, shape = arguments
        if kind in LINUX:
            made = open_source(settings, Path(root), shape)
        else:
            at = "" if Path(settings.get("path", "")).is_absolute() else root
            made = open_part(what, kind, settings, at, shape)
        return _OneSample(made) if job.once else made

    own = {"_load": load, "_storage": open_storage, "_head": head, "_open": open_any}
    try:
        agent, parts = setup.assemble(f"{job.state}/", own)
    except firmware_error as error:
        raise DeviceError(str(error)) from error
    except OSError as error:
        raise DeviceError(
            f"the device cannot start: {error}", remedy="look at link and source in device.json"
        ) from error
    return agent, parts


class _Runner:
    """Runs an agent, and ends it between two of its steps when a signal or `stop` asks for it."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, agent: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(agent.run(self._seconds))
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.stop)
        with contextlib.suppress(asyncio.CancelledError, _OneSampleTakenError):
            await self._task

    def stop(self) -> None:
        """Ask the agent to end, and again until it has."""
        if self._loop is not None and self._task is not None and not self._task.done():
            self._loop.call_soon(self._task.cancel)
            self._loop.call_later(_AGAIN_S, self.stop)


def _check_private(config: Path) -> None:
    """Refuse an identity that others can read. What systemd hands over as a credential is its own affair."""
    try:
        with config.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise DeviceError(
            f"{config} cannot be used: {error.strerror}",
            expected="the device's identity and settings",
            remedy="enrol the device, and name its file with --config",
        ) from error
    if mode & 0o077 and config.parent != Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nowhere")):
        raise DeviceError(
            f"{config} holds the device's root secret, and others may read it (mode {mode & 0o777:04o})",
            expected="mode 0600",
            remedy=f"chmod 600 {config}",
        )


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Hold the directory: two processes on one pair of counters would seal two messages under one nonce."""
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise DeviceError(
            f"the state directory {directory} cannot be used: {error.strerror}",
            expected="the directory of head.bin, counter.a and counter.b",
            remedy="name it with --state",
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DeviceError(
                f"another process runs the device in {directory}",
                expected="one, since two would use the same message counters",
                remedy="stop the other one (systemctl status slimwire-device), then start this one",
            ) from error
        yield
    finally:
        os.close(handle)
