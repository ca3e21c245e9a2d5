"""Wi-Fi in station mode, for boards whose MicroPython has `network`."""

from time import sleep_ms

import network

from ..compat import ticks_diff, ticks_ms

_TIMEOUT_MS = 20000


def connect(wifi, power_save):
    """Join the access point; OSError after 20 s. power_save: the value for WLAN.config(pm=...)."""
    wlan = network.WLAN(network.STA_IF)
    wlan.active(True)
    wlan.config(pm=power_save)
    if wlan.isconnected():
        return
    wlan.connect(wifi["ssid"], wifi["key"])
    start = ticks_ms()
    while not wlan.isconnected():
        if ticks_diff(ticks_ms(), start) > _TIMEOUT_MS:
            wlan.disconnect()
            raise OSError("no Wi-Fi: %s did not take this device in 20 s" % wifi["ssid"])
        sleep_ms(100)
