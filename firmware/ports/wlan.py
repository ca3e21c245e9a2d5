"""Wi-Fi in station mode, for boards whose MicroPython has `network`.

After a power cut a board is up before its access point: it waits as long as it takes, and says so now and
then. Later a task looks whether the connection is there, and makes it anew: some drivers give up.
"""

import asyncio
from time import sleep_ms

import network

from ..compat import ticks_diff, ticks_ms


def connect(wifi, power_save, patience_ms=20000, watch_s=10):
    """Join the access point and stay with it. power_save: the value for WLAN.config(pm=...); patience_ms: of
    one attempt; watch_s: between two looks.
    """
    wlan = network.WLAN(network.STA_IF)
    wlan.active(True)
    wlan.config(pm=power_save)
    while not wlan.isconnected():
        _join(wlan, wifi)
        start = ticks_ms()
        while not wlan.isconnected() and ticks_diff(ticks_ms(), start) <= patience_ms:
            sleep_ms(100)
        if not wlan.isconnected():
            print("slimwire: no Wi-Fi: %s does not take this device; trying again" % wifi["ssid"])
    # It runs once the agent does; MicroPython keeps it.
    asyncio.create_task(_watch(wlan, wifi, watch_s))  # noqa: RUF006


def _join(wlan, wifi):
    try:
        wlan.disconnect()
    except OSError:
        pass  # it was not connected
    try:
        wlan.connect(wifi["ssid"], wifi["key"])
    except OSError:
        pass  # the driver is at it, or not ready: the next attempt tells


async def _watch(wlan, wifi, watch_s):
    away = False
    while True:
        await asyncio.sleep(watch_s)
        if wlan.isconnected():
            away = False
        elif away:
            _join(wlan, wifi)  # after a whole turn, in which the driver may do it by itself
        else:
            away = True
