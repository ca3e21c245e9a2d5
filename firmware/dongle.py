"""A gateway's radio co-processor for ESP-NOW: an ESP32 board on a serial line, the gateway at its other end.

Both ways it passes 802.15.4 frames on and looks no further than their addresses: on the air without their
FCS, on the line with it, in SLIP (RFC 1055), as the gateway's UART leg has them. It holds no key and decides
nothing; what is genuine, the gateway and the device find out.

    /main.py        import firmware.dongle; firmware.dongle.run()
    /dongle.json    {"format": 1, "channel": 6, "uart": {"id": 1, "tx": 4, "rx": 5, "baud": 115200}}

Without `uart` the line is the board's USB console, which then takes no Ctrl-C.

A frame for a device goes to the MAC address that the device was last heard from, else to everybody; of
ESP-NOW's 20 peers the one unheard for longest makes room. Whoever sends in a device's name from elsewhere
diverts what is meant for it until it sends again: on the air anybody can disturb anybody.
"""

import asyncio
import json
import select
import sys

from .compat import const
from .errors import SettingsError, refuse
from .links.espnow import start
from .links.zep import fcs, readable
from .lowpan import FRAME_MAX

_EVERYBODY = b"\xff" * 6
_PEERS = const(19)  # and everybody
_END, _ESC, _ESC_END, _ESC_ESC = const(0xC0), const(0xDB), const(0xDC), const(0xDD)
_DESTINATION, _SOURCE, _HEADER = const(5), const(13), const(21)


class Peers:
    """Who was heard from where. now: the driver, which sends to peers that it knows."""

    def __init__(self, now):
        self._now = now
        self._heard = []  # (EUI-64 as in frames, MAC address), the latest last
        now.add_peer(_EVERYBODY)

    def heard(self, name, address):
        heard = self._heard
        for i in range(len(heard)):
            if heard[i][0] == name:
                entry = heard.pop(i)
                if entry[1] == address:
                    heard.append(entry)
                    return
                self._drop(entry[1])
                break
        if len(heard) == _PEERS:
            self._drop(heard.pop(0)[1])
        try:
            self._now.add_peer(address)
        except OSError:
            pass  # of another device at the same address
        heard.append((name, address))

    def _drop(self, address):
        if not [entry for entry in self._heard if entry[1] == address]:
            self._now.del_peer(address)

    def where(self, name):
        for entry in self._heard:
            if entry[0] == name:
                return entry[1]
        return _EVERYBODY


def escaped(frame, n):
    """The first n bytes of a frame and their FCS, as they are on the line."""
    check = fcs(frame, n)
    out = bytearray(b"\xc0")
    for i in range(n + 2):
        byte = frame[i] if i < n else check & 0xFF if i == n else check >> 8
        if byte == _END:
            out.extend(b"\xdb\xdc")
        elif byte == _ESC:
            out.extend(b"\xdb\xdd")
        else:
            out.append(byte)
    out.append(_END)
    return out


class Frames:
    """Frames out of the bytes of a line; noise costs the frame it is in."""

    def __init__(self):
        self._frame = bytearray(FRAME_MAX + 2)
        self._n = 0
        self._escape = False

    def take(self, byte):
        """The frame that ends with this byte, without its FCS, until the next byte; else None."""
        if byte == _END:
            n = self._n - 2
            self._n = 0
            self._escape = False
            frame = self._frame
            if n < _HEADER or n > FRAME_MAX or fcs(frame, n) != frame[n] | frame[n + 1] << 8:
                return None
            return memoryview(frame)[:n]
        if self._escape:
            self._escape = False
            byte = _END if byte == _ESC_END else _ESC
        elif byte == _ESC:
            self._escape = True
            return None
        if self._n < len(self._frame):
            self._frame[self._n] = byte
        self._n += 1  # of one that is too long nothing is kept, and it is not sent
        return None


async def to_line(now, peers, line):
    """From the air to the gateway."""
    while True:
        await readable(now)
        sender, packet = now.irecv(0)
        if sender and _HEADER <= len(packet) <= FRAME_MAX:
            peers.heard(bytes(packet[_SOURCE:_HEADER]), bytes(sender))
            line.write(escaped(packet, len(packet)))


async def to_air(now, peers, line):
    """From the gateway to the air."""
    frames = Frames()
    byte = bytearray(1)
    poll = select.poll()
    poll.register(line, select.POLLIN)
    while True:
        await readable(line)
        while poll.poll(0):
            if not line.readinto(byte):
                return  # the line is closed
            frame = frames.take(byte[0])
            if frame:
                try:
                    now.send(peers.where(bytes(frame[_DESTINATION:_SOURCE])), frame, False)
                except OSError:
                    pass  # the driver's queue is full: lost, as on the air


async def serve(now, reading, writing):
    """Until the line is closed."""
    peers = Peers(now)
    up = asyncio.create_task(to_line(now, peers, writing))
    await to_air(now, peers, reading)
    up.cancel()


def load(path):
    """(channel, the section of the UART or None) of dongle.json. Raises SettingsError."""
    from .config import Section

    try:
        with open(path) as file:
            settings = json.load(file)
    except (OSError, ValueError):
        refuse("there is no %s, or it is no JSON" % path, "the dongle's settings", "see firmware/dongle.py")
    top = Section(settings, path)
    top.number("format", 1, 1)
    channel = top.number("channel", 1, 14)
    if top.get("uart") is None:
        return channel, None
    uart = Section(top.get("uart"), path + " uart")
    section = [uart.number(key, 0, 255) for key in ("id", "tx", "rx")]
    section.append(uart.number("baud", 9600, 4000000, 115200))
    return channel, section


def run(path="/dongle.json"):
    try:
        channel, uart = load(path)
    except SettingsError as error:
        print("slimwire:", error)
        return
    now = start(channel)
    if uart:
        from machine import UART, Pin

        line = UART(uart[0], uart[3], tx=Pin(uart[1]), rx=Pin(uart[2]), rxbuf=1024)
        asyncio.run(serve(now, line, line))
        return
    import micropython

    if hasattr(micropython, "kbd_intr"):
        micropython.kbd_intr(-1)
    asyncio.run(serve(now, sys.stdin.buffer, sys.stdout.buffer))
