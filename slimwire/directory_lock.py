"""One process for each state directory."""

import fcntl
import os
from pathlib import Path

from slimwire.errors import SlimwireError


class DirectoryLock:
    """A state directory that belongs to this process until `release`, or its end, however it ends.

    Args:
        directory: made with `mode` if missing; None: what lives in memory only needs no lock.
        name: of the file in it that carries the lock.
        held: what to tell when another process has it.
        failure: what is raised when it has, or when the directory cannot be used.
    """

    def __init__(
        self, directory: Path | None, name: str, held: str, failure: type[SlimwireError], *, mode: int = 0o777
    ) -> None:
        self._handle: int | None = None
        if directory is None:
            return
        try:
            directory.mkdir(mode=mode, parents=True, exist_ok=True)
            handle = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise failure(
                f"the state directory {directory} cannot be used: {error.strerror}",
                remedy="name a directory that this user can write: --state DIR",
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise failure(held, remedy="stop that one, or give this one its own --state directory") from None
        self._handle = handle

    def release(self) -> None:
        """Let go of it; doing that again does nothing."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
