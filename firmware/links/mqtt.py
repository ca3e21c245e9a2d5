"""Wi-Fi devices: messages through an MQTT 3.1.1 broker, one a PUBLISH (docs/protocol.md, section 2.4).

Each packet is written with one send: Nagle's algorithm, and brokers that wait for the rest, cost tens of
milliseconds otherwise. The broker's acknowledgements are not waited for: what counts is the gateway's, and
the agent sends again. Memory is two buffers; a larger packet is passed over.

A connection that ends is made anew, after a pause that doubles up to half a minute and differs between
devices, so that a broker that restarts does not meet them all at once.
"""

import asyncio
import socket
from binascii import hexlify
from struct import pack, pack_into, unpack_from

from ..compat import const
from ..lowpan import PAYLOAD_MAX
from ..message import Message
from ..receiver import Receiver

try:
    from asyncio import core

    def readable(sock):
        """To be awaited: until there is something to receive."""
        yield core._io_queue.queue_read(sock)

    def writable(sock):
        """To be awaited: until something can be sent, or a connection is there."""
        yield core._io_queue.queue_write(sock)

    wait_for = asyncio.wait_for

except ImportError:
    from ..standins import readable, wait_for, writable

_HEADER = const(3)  # of a PUBLISH: type, remaining length of one byte or two
_FIRST = const(7)  # in front of a message: 0, counter, length
_IN = const(256)  # of a packet that is read: 105 bytes of a reply, and its topic
_SILENCE = const(30)  # s; then a ping, and after as much again the connection is given up
_PAUSE = const(1)  # s before another attempt
_PAUSE_MAX = const(32)
_CONNACK, _PUBLISH, _SUBACK = const(0x20), const(0x30), const(0x90)


def _text(data):
    return pack(">H", len(data)) + data


class WideMessage(Message):
    """A message of one piece, however long it is."""

    whole = PAYLOAD_MAX

    def frame(self, i, out):
        """Write the fragment that carries the message to `out`; its length."""
        payload = self._payload
        n = _FIRST + len(payload)
        pack_into(">BIH", out, 0, 0, self.counter, len(payload))
        out[_FIRST:n] = payload
        return n


class WideReceiver(Receiver):
    """Takes fragments of replies instead of frames."""

    def fields(self, frame):
        end = len(frame)
        if end < 6:
            return "truncated"
        i, counter = unpack_from(">BI", frame, 0)
        if i:
            if not self._size:
                return "no-first"
            return self._size, counter & 0xFFFF, self._first + (i - 1) * self._stride, frame[5:]
        if end < 8:
            return "truncated"
        size = frame[5] << 8 | frame[6]
        if not end - _FIRST <= size <= PAYLOAD_MAX:
            return "bad-size"
        if frame[8:12] != frame[1:5]:
            return "wrong-counter"
        return size, counter & 0xFFFF, 0, frame[_FIRST:]


def open_link(settings, longest):
    """The link that the settings name. longest: bytes of the longest message, which it sends in one piece."""
    link = settings["link"]
    link = MqttLink(
        link["host"],
        link["port"],
        settings["eui64"],
        settings["site"],
        link["password"],
        longest,
        link["tls"],
    )
    MqttLink.__init__ = None
    return link


class MqttLink:
    """See `firmware.links`. frame: where `WideMessage.frame` is to write, so that nothing is copied again."""

    def __init__(self, host, port, eui64, site, password, longest, tls=""):
        """longest: bytes of the longest message's UDP payload; tls: where `firmware.links.tls` finds its
        files, "" for none.
        """
        self._tls = tls
        self.eui64 = eui64
        self.mtu = _FIRST + longest
        self.gap_ms = 0
        self.reject = None
        self._address = host, port
        name = hexlify(eui64)
        base = b"slimwire/v1/" + site.encode() + b"/" + name + b"/"
        topic = _text(base + b"up")
        at = _HEADER + len(topic)
        self._out = bytearray(at + 2 + self.mtu)
        self._out[_HEADER:at] = topic
        self._at = at
        self.frame = memoryview(self._out)[at + 2 :]
        self._packet = 0
        state = base + b"state"
        # A clean session, a retained will at QoS 1, 2 * _SILENCE s of keep-alive.
        flags = 0x2E | (0xC0 if password else 0)
        body = (
            b"\0\4MQTT\4" + pack(">BH", flags, 2 * _SILENCE) + _text(name) + _text(state) + _text(b"offline")
        )
        if password:
            body += _text(name) + _text(password.encode())
        self._connect = self._whole(0x10, body)
        # What follows its acknowledgement: a subscription at QoS 0, and the birth, retained.
        self._hello = self._whole(0x82, b"\0\1" + _text(base + b"down") + b"\0") + self._whole(
            0x31, _text(state) + b"online"
        )
        self._bye = self._whole(0x31, _text(state) + b"offline") + b"\xe0\0"
        self._in = bytearray(_IN)
        self._have = self._used = self._skip = 0  # of _in: filled, given out; bytes to pass over
        self._pause = 0
        self._socket = None
        self._there = False  # the broker took us

    @staticmethod
    def _whole(kind, body):
        n = len(body)
        return (bytes((kind, n)) if n < 128 else bytes((kind, n & 127 | 128, n >> 7))) + body

    async def send(self, frame):
        if not self._there:
            raise OSError("not connected")
        out = self._out
        self._packet = self._packet % 0xFFFF + 1
        pack_into(">H", out, self._at, self._packet)
        end = self._at + 2 + len(frame)
        n = end - _HEADER
        start = 1
        if n < 128:
            out[2] = n
        else:
            start = 0
            out[1] = n & 127 | 128
            out[2] = n >> 7
        out[start] = 0x32  # PUBLISH, QoS 1
        await self._write(memoryview(out)[start:end])

    async def recv(self):
        while True:
            if not self._socket:
                await self._open()
            found = self._next()
            if found is not None:
                return found
            skip = self._skip
            room = memoryview(self._in)[: min(skip, _IN)] if skip else memoryview(self._in)[self._have :]
            try:
                n = await self._read(room)
            except OSError:
                self._drop()
                raise
            if skip:
                self._skip -= n
            else:
                self._have += n

    def close(self):
        if self._there:
            try:
                self._socket.send(self._bye)
            except OSError:
                pass
        self._drop()

    async def _open(self):
        if self._pause:
            await asyncio.sleep(self._pause * (192 + (self.eui64[7] & 127)) / 256)
        self._pause = min(2 * self._pause or _PAUSE, _PAUSE_MAX)
        sock = socket.socket()
        try:
            address = socket.getaddrinfo(self._address[0], self._address[1])[0][-1]
            try:
                sock.setsockopt(6, 1, 1)  # IPPROTO_TCP, TCP_NODELAY
            except OSError:
                pass  # a board without it
            sock.setblocking(False)
            try:
                sock.connect(address)
            except OSError as error:
                if error.errno not in (115, 119):  # EINPROGRESS, of Linux and of lwIP
                    raise
            await wait_for(writable(sock), _SILENCE)
            if self._tls:
                from . import tls

                sock = tls.connect(sock, self._tls, self._address[0])
            sock.send(self._connect)
        except (OSError, ValueError, asyncio.TimeoutError):  # ValueError: files that hold no certificate
            sock.close()
            raise OSError("no broker") from None
        self._socket = sock
        self._have = self._used = self._skip = 0

    async def _read(self, room):
        sock = self._socket
        read = getattr(sock, "readinto", None) or sock.recv_into  # MicroPython's, CPython's
        silent = False
        while True:
            try:
                # Before waiting: TLS may hold what no readiness tells of.
                n = read(room)
            except OSError as error:
                if error.errno not in (2, 11):  # CPython: TLS wants more, EAGAIN
                    raise
                n = None
            if n:
                return n
            if n == 0:
                break
            try:
                await wait_for(readable(sock), _SILENCE)
                silent = False
            except asyncio.TimeoutError:
                if silent or not self._there:
                    break
                silent = True
                await self._write(b"\xc0\0")
        raise OSError("the broker is gone")

    async def _write(self, data):
        """One send; only where the system takes a part of it, more."""
        sock = self._socket
        sent = sock.send(data) or 0
        while sent < len(data):
            try:
                await wait_for(writable(sock), 1)
            except asyncio.TimeoutError:
                pass
            else:
                sent += sock.send(data[sent:]) or 0
            if sock is not self._socket:
                raise OSError("the broker is gone")

    def _drop(self):
        self._there = False
        if self._socket:
            self._socket.close()
            self._socket = None

    def _next(self):
        """The payload of the next PUBLISH, in the buffer until the next call; None: more bytes first."""
        data = self._in
        while True:
            have = self._have - self._used
            if self._used:
                data[:have] = data[self._used : self._have]  # may lack memory: nothing is changed then
                self._have = have
                self._used = 0
            if have < 2:
                return None
            n = data[1]
            at = 2
            if n & 128:
                if have < 3:
                    return None
                if data[2] & 128:  # three bytes of length: nobody sends us that
                    self._drop()
                    raise OSError("a packet that is too long")
                n = n & 127 | data[2] << 7
                at = 3
            end = at + n
            if end > _IN:
                self.reject("oversized")
                self._skip = end - have
                self._have = 0
                return None
            if have < end:
                return None
            self._used = end
            kind = data[0]
            if kind & 0xF0 == _PUBLISH:
                at += 2 + (data[at] << 8 | data[at + 1]) if n > 1 else n
                if kind & 6:
                    at += 2
                if at <= end:
                    return memoryview(data)[at:end]
            elif kind == _CONNACK:
                if n != 2 or data[3]:
                    self._drop()
                    raise OSError("the broker refuses this device: %d" % data[3])
                self._socket.send(self._hello)
            elif kind == _SUBACK:
                self._there = True
                self._pause = 0
