"""ESP32, all variants. `machine.unique_id()` is the base MAC, 6 bytes.

Modem sleep delays what the board receives by up to a beacon interval (100 ms and more), so it is off while
the agent runs.
"""

from machine import unique_id  # noqa: F401

from .littlefs import flush, open_log  # noqa: F401

_PM_NONE = 0  # network.WLAN.PM_NONE


def connect(wifi):
    if wifi:
        from . import wlan

        wlan.connect(wifi, _PM_NONE)
