"""Files, as all ports have them."""

import os

_ENOENT = 2


class Store:
    """Small files of one directory; `write` returns once the data is on the medium."""

    def __init__(self, directory, sync):
        self._directory = directory
        self._sync = sync

    def read(self, name):
        """The file's bytes, or None if there is none."""
        try:
            with open(self._directory + name, "rb") as file:
                return file.read()
        except OSError as error:
            if error.errno != _ENOENT:
                raise
            return None

    def write(self, name, data):
        with open(self._directory + name, "wb") as file:
            file.write(data)
            self._sync(file)


def flush(file):
    """Push a file's data to the medium.

    MicroPython's flush does it: fsync on the unix port, a commit on littlefs. CPython's only empties the buffer.
    """
    file.flush()
    if hasattr(os, "fsync"):
        os.fsync(file.fileno())
    elif hasattr(os, "sync"):
        os.sync()


class CommittedLog:
    """A text file on littlefs, committed after each line; without that a power cut takes all of it."""

    def __init__(self, path):
        self._file = open(path, "a")

    def write(self, line):
        self._file.write(line)
        self._file.flush()

    def close(self):
        self._file.close()
