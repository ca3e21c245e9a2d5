"""ESP32 (all variants). `machine.unique_id()` is the 6-byte base MAC; littlefs commits a file when it is flushed.

Modem sleep delays what the board receives by up to a beacon interval (100 ms and more), so it is off while the agent runs.
"""

from machine import unique_id  # noqa: F401

from . import files
from .wlan import connect as _connect

_PM_NONE = 0  # network.WLAN.PM_NONE


def connect(wifi):
    if wifi:
        _connect(wifi, _PM_NONE)


def Store(directory):
    return files.Store(directory, files.flush)


def open_log(path):
    return files.CommittedLog(path)
