"""802.15.4 frames in UDP: ZEP version 2, to and from one address (a radio medium, or the gateway itself).

0 "EX" | 2 version 2 | 3 type 1 | 4 channel | 5 device u16 | 7 mode 1 | 8 LQI | 9 time u64 | 17 sequence u32 | 21 reserved |
31 length | 32 the frame with its FCS
"""

import asyncio
import socket
from struct import pack_into

from ..compat import const
from ..lowpan import FRAME_MAX

_HEADER = const(32)
_FCS = const(2)
_LONGEST = 32 + 255  # ZEP's own limit, so that a longer frame is seen, and refused as oversized

try:
    from asyncio import core  # MicroPython

    def _readable(sock):
        yield core._io_queue.queue_read(sock)

except ImportError:

    async def _readable(sock):
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(sock, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(sock)


def _table():
    """What four bits do to the CRC: ITU-T CRC-16, reflected (IEEE 802.15.4-2015 section 7.2.10)."""
    out = []
    for crc in range(16):
        for _ in range(4):
            crc = crc >> 1 ^ (0x8408 if crc & 1 else 0)
        out.append(crc)
    return tuple(out)


_NIBBLES = _table()


def fcs(data):
    """The frame check sequence of a frame, 16 bits."""
    crc = 0
    table = _NIBBLES
    for byte in data:
        crc = crc >> 4 ^ table[(crc ^ byte) & 15]
        crc = crc >> 4 ^ table[(crc ^ byte >> 4) & 15]
    return crc


class ZepLink:
    mtu = FRAME_MAX

    def __init__(self, host, port, eui64, bind=0, channel=26, gap_ms=2):
        self.eui64 = eui64
        self.gap_ms = gap_ms
        self.reject = None
        self._peer = (host, port)
        self._bind = bind
        self._socket = None
        self._sequence = 0
        self._buffer = bytearray(_HEADER + FRAME_MAX + _FCS)
        pack_into(">2sBBB2sBB", self._buffer, 0, b"EX", 2, 1, channel, bytes(eui64[6:]), 1, 255)

    def open(self):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if self._bind:
            self._socket.bind(socket.getaddrinfo("0.0.0.0", self._bind)[0][-1])
        # Only what comes from the peer is received; an address is passed on as getaddrinfo gives it.
        self._socket.connect(socket.getaddrinfo(self._peer[0], self._peer[1])[0][-1])
        self._socket.setblocking(False)

    async def send(self, frame):
        n = len(frame)
        buffer = self._buffer
        self._sequence += 1
        pack_into(">I", buffer, 17, self._sequence)
        buffer[31] = n + _FCS
        buffer[_HEADER : _HEADER + n] = frame
        pack_into("<H", buffer, _HEADER + n, fcs(frame))
        try:
            self._socket.send(memoryview(buffer)[: _HEADER + n + _FCS])
        except OSError:
            pass  # nobody there, or no room: the frame is lost, as on the air

    async def recv(self):
        while True:
            await _readable(self._socket)
            try:
                data = self._socket.recv(_LONGEST)
            except OSError:
                continue  # the peer was away when something was sent
            frame = memoryview(data)[_HEADER:]
            reason = _problem(data, frame)
            if reason is None:
                return frame[:-_FCS]
            self.reject(reason)

    def close(self):
        self._socket.close()


def _problem(data, frame):
    """Why a datagram is no frame, or None."""
    if len(data) < 4:
        return "truncated"
    if data[:2] != b"EX":
        return "zep-magic"
    if data[2] != 2:
        return "zep-version"
    if data[3] != 1:
        return "zep-type"
    if len(frame) < _FCS:
        return "truncated"
    if data[31] != len(frame):
        return "zep-length"
    if len(frame) > FRAME_MAX + _FCS:
        return "oversized"
    if fcs(frame[:-_FCS]) != frame[-2] | frame[-1] << 8:
        return "bad-fcs"
    return None
