"""Linux: MicroPython's unix port, and CPython. The system has the network; a program has no number of its own."""

from . import files


def unique_id():
    return b""


def connect(wifi):
    """Nothing to do: the system brought the network up."""


def Store(directory):
    return files.Store(directory, files.flush)


def open_log(path):
    """MicroPython writes through; CPython is told to at each line."""
    try:
        return open(path, "a", buffering=1)
    except TypeError:
        return open(path, "a")
