"""RP2040 and RP2350. `machine.unique_id()` is the flash chip's number, 8 bytes.

The CYW43 chip's default power saving delays what the board receives; 0xA11140 turns it off (Pico W
documentation).
"""

from machine import unique_id  # noqa: F401

from .littlefs import flush, open_log  # noqa: F401

_PM_NONE = 0xA11140


def connect(wifi):
    if wifi:
        from . import wlan

        wlan.connect(wifi, _PM_NONE)
