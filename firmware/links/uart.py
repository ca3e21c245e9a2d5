"""802.15.4 frames to and from a radio co-processor on a serial line, in SLIP (RFC 1055), with their FCS.

    END  frame, END as ESC ESC_END, ESC as ESC ESC_ESC  END

Both ways the same; the co-processor sends what it gets and gives back what it hears.
"""

from struct import pack_into

from ..compat import const
from ..errors import refuse
from ..lowpan import FRAME_MAX
from .zep import fcs, readable

_END, _ESC, _ESC_END, _ESC_ESC = const(0xC0), const(0xDB), const(0xDC), const(0xDD)
_CHUNK = const(64)


def open_link(settings, longest):
    """The link that the settings name: the board's UART of number `uart`, or on Linux the terminal `path`,
    which `stty -F PATH raw -echo min 0 time 0 BAUD` prepared: reading gives what there is.

    longest: bytes of the longest message, which may take many frames.
    """
    link = settings["link"]
    try:
        if link["path"]:
            port = open(link["path"], "r+b", 0)
        else:
            from machine import UART

            port = UART(link["uart"], baudrate=link["baud"], timeout=0, rxbuf=1024)
    except (OSError, ValueError) as error:
        refuse("UART: %s" % error, "a serial port of this board", "correct link in device.json")
    return UartLink(port, settings["eui64"], link["gap_ms"])


class UartLink:
    def __init__(self, port, eui64, gap_ms):
        """port: has read(n), which gives None or nothing where there are no bytes yet, and write(data)."""
        self.eui64 = eui64
        self.mtu = FRAME_MAX
        self.gap_ms = gap_ms
        self.reject = None
        self._port = port
        self._out = bytearray(2 * (FRAME_MAX + 2) + 2)
        self._in = bytearray(FRAME_MAX + 2)
        self._check = bytearray(2)
        self._have = 0
        self._escaped = self._bad = False
        self._chunk = b""
        self._at = 0  # in the chunk

    async def send(self, frame):
        pack_into("<H", self._check, 0, fcs(frame, len(frame)))
        out = self._out
        out[0] = _END
        at = 1
        for part in (frame, self._check):
            for byte in part:
                if byte in (_END, _ESC):
                    out[at] = _ESC
                    at += 1
                    byte = _ESC_END if byte == _END else _ESC_ESC
                out[at] = byte
                at += 1
        out[at] = _END
        done = 0
        view = memoryview(out)[: at + 1]
        while done < len(view):
            done += self._port.write(view[done:]) or 0

    async def recv(self):
        while True:
            while self._at < len(self._chunk):
                byte = self._chunk[self._at]
                self._at += 1
                if byte == _END:
                    n = self._have - 2
                    bad = self._bad or self._escaped
                    self._have = 0
                    self._bad = self._escaped = False
                    data = self._in
                    if bad or -2 < n < 1:
                        self.reject("bad-slip")
                    elif n > 0:
                        if fcs(data, n) == data[n] | data[n + 1] << 8:
                            return memoryview(data)[:n]
                        self.reject("bad-fcs")
                elif self._bad:
                    pass
                elif self._escaped:
                    self._escaped = False
                    self._bad = byte not in (_ESC_END, _ESC_ESC)
                    self._put(_END if byte == _ESC_END else _ESC)
                elif byte == _ESC:
                    self._escaped = True
                else:
                    self._put(byte)
            await readable(self._port)
            self._chunk = self._port.read(_CHUNK) or b""
            self._at = 0

    def _put(self, byte):
        if self._have == len(self._in):
            self._bad = True
        else:
            self._in[self._have] = byte
            self._have += 1

    def close(self):
        close = getattr(self._port, "close", None) or self._port.deinit  # a file's; a UART's
        close()
