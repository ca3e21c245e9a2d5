"""RP2040 and RP2350. `machine.unique_id()` is the 8-byte number of the flash chip; boards without Wi-Fi have no `network`.

The CYW43 chip's default power saving adds delay to what the board receives; 0xA11140 turns it off (Pico W documentation).
"""

from machine import unique_id  # noqa: F401

from . import files

_PM_NONE = 0xA11140


def connect(wifi):
    if wifi:
        from .wlan import connect

        connect(wifi, _PM_NONE)


def Store(directory):
    return files.Store(directory, files.flush)


def open_log(path):
    return files.CommittedLog(path)
