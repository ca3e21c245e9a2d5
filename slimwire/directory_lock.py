"""One process for each state directory."""

import fcntl
import os
from pathlib import Path

from slimwire.errors import SlimwireError


def lock_directory(
    directory: Path, name: str, held: str, failure: type[SlimwireError], *, mode: int = 0o777
) -> int:
    """Make a state directory and lock it for this process. The lock ends with the process, however it ends.

    Args:
        directory: what it belongs to; made with `mode` if missing.
        name: of the file in it that carries the lock.
        held: what to tell when another process has it.
        failure: what is raised when it has, or when the directory cannot be used.

    Returns:
        The open file, to be closed when the directory is no longer used.
    """
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
    return handle
