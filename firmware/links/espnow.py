"""802.15.4 frames in ESP-NOW packets, to and from a gateway's dongle: ESP32 boards without an access point.

A packet is one frame without its FCS; ESP-NOW has its own check, acknowledgement and repetition below. It
carries 250 bytes, and a frame has at most 125. What the dongle does with it is in `firmware.dongle`.
"""

import espnow
import network

from ..errors import refuse
from ..lowpan import FRAME_MAX
from .zep import readable

_PM_NONE = 0  # network.WLAN.PM_NONE: asleep, the radio misses what comes


def start(channel):
    """The driver, on a Wi-Fi channel, with every packet that is sent to this board."""
    wlan = network.WLAN(network.STA_IF)
    wlan.active(True)
    try:
        wlan.disconnect()
    except OSError:
        pass  # it was not connected
    wlan.config(channel=channel)
    wlan.config(pm=_PM_NONE)
    now = espnow.ESPNow()
    now.active(True)
    return now


def open_link(settings, longest):
    """The link that the settings name: `dongle`, 6 bytes, and `channel`. Raises SettingsError."""
    link = settings["link"]
    try:
        now = start(link["channel"])
        now.add_peer(link["dongle"])
    except (OSError, ValueError) as error:
        refuse("ESP-NOW: %s" % error, "a dongle's MAC address and its channel", "correct link in device.json")
    return EspNowLink(now, settings["eui64"], link["dongle"], link["gap_ms"])


class EspNowLink:
    def __init__(self, now, eui64, dongle, gap_ms):
        self.eui64 = eui64
        self.mtu = FRAME_MAX
        self.gap_ms = gap_ms
        self.reject = None
        self._now = now
        self._dongle = dongle

    async def send(self, frame):
        self._now.send(self._dongle, frame, False)  # False: without waiting for the acknowledgement

    async def recv(self):
        while True:
            await readable(self._now)
            sender, packet = self._now.irecv(0)  # into the driver's buffer, which the next one overwrites
            if sender == self._dongle:
                return memoryview(packet)
            if sender:
                self.reject("foreign")

    def close(self):
        self._now.active(False)
