"""802.15.4 frames in UDP: ZEP version 2, to and from one address (a radio medium, or the gateway itself).

0 "EX" | 2 version 2 | 3 type 1 | 4 channel | 5 device u16 | 7 mode 1 | 8 LQI | 9 time u64
17 sequence u32 | 21 reserved | 31 length | 32 the frame with its FCS
"""

import socket
from struct import pack_into

from ..compat import const, micropython, ptr8
from ..lowpan import FRAME_MAX

try:
    from asyncio import core

    def readable(sock):
        """To be awaited: until there is something to receive."""
        yield core._io_queue.queue_read(sock)

except ImportError:
    from ..standins import readable

_HEADER = const(32)
_LONGEST = const(160)  # one byte more than a packet with the longest frame has: what is longer is refused


@micropython.viper
def fcs(data: ptr8, n: int) -> int:
    """The frame check sequence of n bytes: ITU-T CRC-16, reflected (IEEE 802.15.4-2015 section 7.2.10)."""
    crc = 0
    i = 0
    while i < n:
        x = (crc ^ data[i]) & 0xFF
        x = (x ^ x << 4) & 0xFF
        crc = crc >> 8 ^ x << 8 ^ x << 3 ^ x >> 4
        i += 1
    return crc


def open_link(settings, longest):
    """The link that the settings name. longest: bytes of the longest message, which may take many frames."""
    link = settings["link"]
    link = ZepLink(
        link["host"], link["port"], settings["eui64"], link["bind"], link["channel"], link["gap_ms"]
    )
    ZepLink.__init__ = None
    return link


class ZepLink:
    def __init__(self, host, port, eui64, bind, channel, gap_ms):
        self.eui64 = eui64
        self.mtu = FRAME_MAX
        self.gap_ms = gap_ms
        self.reject = None
        self._sequence = 0
        self._buffer = bytearray(_HEADER + FRAME_MAX + 2)
        pack_into(">2sBBB2sBB", self._buffer, 0, b"EX", 2, 1, channel, eui64[6:], 1, 255)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # Addresses are passed on as getaddrinfo gives them, tuple or bytes. Connected: only what the peer
        # sends is received.
        if bind:
            self._socket.bind(socket.getaddrinfo("0.0.0.0", bind)[0][-1])
        self._socket.connect(socket.getaddrinfo(host, port, socket.AF_INET)[0][-1])
        self._socket.setblocking(False)

    async def send(self, frame):
        n = len(frame)
        buffer = self._buffer
        self._sequence += 1
        buffer[31] = n + 2
        buffer[_HEADER : _HEADER + n] = frame
        pack_into(">I", buffer, 17, self._sequence)
        pack_into("<H", buffer, _HEADER + n, fcs(frame, n))
        self._socket.send(memoryview(buffer)[: _HEADER + n + 2])

    async def recv(self):
        while True:
            await readable(self._socket)
            data = memoryview(self._socket.recv(_LONGEST))
            n = len(data) - _HEADER - 2
            if n < 0:
                reason = "truncated"
            elif data[:4] != b"EX\2\1":
                reason = "not-zep"
            elif data[31] != n + 2:
                reason = "zep-length"
            elif fcs(data[_HEADER:], n) != data[-2] | data[-1] << 8:
                reason = "bad-fcs"
            else:
                return data[_HEADER:-2]
            self.reject(reason)

    def close(self):
        self._socket.close()
