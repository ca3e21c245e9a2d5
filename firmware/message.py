"""The uplink message: seal once, cut, tags, MAC (docs/protocol.md, section 2).

A `Message` is one buffer that every message of the device is built in. What a counter sealed stays there until the
next `seal`, so a retry sends the same bytes again.

    message = Message(path, eui64, epoch, Hmac(k_frag_up), k_msg_up, room)
    length = encode_into(symbols, n, head, message.body)
    message.seal(counter, head.model_tag, width_index, report, length)
    for i in range(message.frames):
        n = message.frame(i, buffer)
"""

from struct import pack, pack_into

from .ccm import TAG, Ccm
from .compat import const
from .lowpan import FIRST_ROOM, PAYLOAD_MAX, SLICE_ROOM, WHOLE_ROOM

INNER_HEADER = const(6)
OVERHEAD = INNER_HEADER + TAG  # of sealing
_MAC = const(8)
_HEADER_MAX = const(64)  # 12 tags: what the largest datagram needs
VERSION_1 = const(0x40)
F = const(2)

BODY_MAX = PAYLOAD_MAX - (7 + 4 * 12 + _MAC) - OVERHEAD


def link_report(duration_ms, retries, queue, battery=0):
    """The 24 bits of the link report; every field saturates. duration_ms 0: nothing to report yet."""
    exponent = 0
    while duration_ms > 255:
        if exponent == 15:
            duration_ms = 255
            break
        duration_ms >>= 1
        exponent += 1
    return exponent << 20 | duration_ms << 12 | min(retries, 15) << 8 | min(queue, 15) << 4 | min(battery, 15)


def tag_input(eui64, counter, i, offset, length, previous):
    """What tag i covers besides the slice: 02, device, counter, index, offset, length, tag i-1."""
    return b"\x02" + eui64 + pack(">IBHH", counter, i, offset, length) + previous


class Message:
    """See the module. `body`: where to put coded symbols; `frames`: of the sealed message; `sealed`: its bytes."""

    def __init__(self, path, eui64, epoch, frag_key, msg_key, room):
        """room: bytes of coded symbols that a message may have, at most BODY_MAX."""
        self._path = path
        self._eui64 = eui64
        self._octet0 = VERSION_1 | (epoch & 3) << 2
        self._frag_key = frag_key
        self._ccm = Ccm(msg_key)
        self._buffer = memoryview(bytearray(_HEADER_MAX + OVERHEAD + min(room, BODY_MAX)))
        self.body = self._buffer[_HEADER_MAX + INNER_HEADER : len(self._buffer) - TAG]
        self.counter = self.frames = 0
        self.sealed = self._payload = self._buffer[:0]

    def seal(self, counter, model_tag, width, report, length):
        """Seal the first `length` bytes of `body` under a counter never used before, and cut the result."""
        buffer = self._buffer
        buffer[_HEADER_MAX : _HEADER_MAX + INNER_HEADER] = pack(
            ">HBBH", model_tag, width << 4, report >> 16, report & 0xFFFF
        )
        length += INNER_HEADER
        number = pack(">I", counter)
        self._ccm.seal(
            b"\0" + self._eui64 + number, bytes((self._octet0,)) + number, buffer, _HEADER_MAX, length
        )
        length += TAG
        self.counter = counter
        self.sealed = buffer[_HEADER_MAX : _HEADER_MAX + length]
        self._cut(length)

    def _cut(self, length):
        """Header, tags and MAC in front of the sealed bytes, in the fewest frames that hold them."""
        n = 0
        m = 5
        if m + _MAC + length > WHOLE_ROOM:
            n = 1
            while 7 + 4 * n + _MAC + length > FIRST_ROOM + n * SLICE_ROOM:
                n += 1
            m = 7 + 4 * n
        start = _HEADER_MAX - m - _MAC
        payload = self._buffer[start : _HEADER_MAX + length]
        pack_into(">BI", payload, 0, self._octet0 | (F if n else 0), self.counter)
        first = len(payload)
        if n:
            first = FIRST_ROOM
            payload[5] = n  # attempt 0: the same bytes are never cut anew here
            payload[6] = SLICE_ROOM >> 3
            tag = b"\0\0\0\0"
            for i in range(1, n + 1):
                offset = first + (i - 1) * SLICE_ROOM
                piece = payload[offset : offset + SLICE_ROOM]
                covered = tag_input(self._eui64, self.counter, i, offset, len(piece), tag)
                tag = self._frag_key.digest(covered, piece)[:4]
                payload[3 + 4 * i : 7 + 4 * i] = tag
        payload[m : m + _MAC] = self._frag_key.digest(
            b"\x01",
            self._path.up,
            pack(">H", len(payload)),
            payload[:m],
            payload[m + _MAC : first],
        )[:_MAC]
        self._payload = payload
        self._first = first
        self.frames = n + 1

    def frame(self, i, out):
        """Write frame i to `out` (FRAME_MAX bytes); its length. The slice is the same whenever it is asked for."""
        offset = self._first + (i - 1) * SLICE_ROOM if i else 0
        return self._path.frame(out, self.counter & 0xFFFF, self._payload, self._first, offset)
