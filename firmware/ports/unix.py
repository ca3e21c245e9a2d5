"""Linux, with MicroPython's unix port or CPython: the system has the network, and no number for a program."""

import os


def unique_id():
    return b""


def connect(wifi):
    """Nothing to do: the system brought the network up."""


def flush(file):
    """On MicroPython flush is fsync; CPython's only empties the buffer."""
    file.flush()
    if hasattr(os, "fsync"):
        os.fsync(file.fileno())


def open_log(path):
    """MicroPython writes through; CPython is told to at each line."""
    file = open(path, "a") if not hasattr(os, "fsync") else open(path, "a", buffering=1)
    return file, file.write
