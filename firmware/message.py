"""The uplink message: seal once, cut, tags, MAC (docs/protocol.md, section 2).

A `Message` is one buffer that every message of the device is built in. What a counter sealed stays there,
so a retry sends the same bytes again.

    message = Message(eui64, epoch, pad(k_frag_up), block_cipher(k_msg_up), uplink(...), memory)
    length = encode_into(symbols, n, head, message.body)
    message.seal(counter, head.model_tag, width_index, report, length)
    for i in range(message.frames):
        n = message.frame(i, out)
"""

from struct import pack

from .ccm import TAG, ccm
from .compat import const
from .hmac import digest
from .lowpan import FIRST_ROOM, PAYLOAD_MAX, SLICE_ROOM, WHOLE_ROOM
from .lowpan import frame as lowpan_frame

_INNER = const(6)  # inner header
_MAC = const(8)
_FRONT = const(63)  # what the largest datagram, of 13 frames, has in front of its sealed bytes
AROUND = const(77)  # bytes of memory that a message takes besides its coded symbols: front, inner header, tag
ROOM_MAX = PAYLOAD_MAX - AROUND


def link_report(duration_ms, retries, queue, battery=0):
    """The 24 bits of the link report; every field saturates. duration_ms 0: none yet; battery 0: unknown."""
    exponent = 0
    while duration_ms > 255 and exponent < 15:
        duration_ms >>= 1
        exponent += 1
    duration_ms = exponent << 8 | min(duration_ms, 255)
    return duration_ms << 12 | min(retries, 15) << 8 | min(queue, 15) << 4 | min(battery, 15)


def tag_input(eui64, counter, i, offset, length, previous):
    """What tag i covers besides the slice: 02, device, counter, index, offset, length, tag i-1."""
    return b"\2" + eui64 + pack(">IBHH", counter, i, offset, length) + previous


class Message:
    """See the module. body: where to put coded symbols; sealed, frames: of the message sealed last.

    whole: bytes of UDP payload that the link takes in one piece. secret: for firmware.rotation, where there
    is room to switch while the device runs: the root, and the site's name behind it.
    """

    whole = WHOLE_ROOM
    secret = None

    def __init__(self, eui64, epoch, key, encrypt, hop, memory):
        """memory: AROUND bytes, and as many as the coded symbols of a message may have, at most ROOM_MAX;
        others' own while no message is sealed or sent.
        """
        self._eui64 = eui64
        self._octet0 = 0x40 | (epoch & 3) << 2  # version 1, kind data
        self._key = key
        self._encrypt = encrypt
        self._header, self._words, self._covered = hop
        self._buffer = memoryview(memory)
        self.body = self._buffer[_FRONT + _INNER : -TAG]
        self.counter = self.frames = self._first = self._sequence = 0
        self.sealed = self._payload = None

    def seal(self, counter, model_tag, width, report, length):
        """Seal the first `length` bytes of `body` under a counter never used before, and cut them into
        frames.
        """
        eui64, key = self._eui64, self._key
        end = _FRONT + _INNER + length
        text = self._buffer[_FRONT:end]
        text[:_INNER] = pack(">HBBH", model_tag, width << 4, report >> 16, report & 0xFFFF)
        aad = pack(">BI", self._octet0, counter)
        tag = ccm(self._encrypt, b"\0" + eui64 + aad[1:], aad, text, False)
        self._buffer[end : end + TAG] = tag[:TAG]
        end += TAG
        self.sealed = self._buffer[_FRONT:end]
        # As few frames as hold the message with its tags.
        n = 0
        m = 5
        if m + _MAC + end - _FRONT > self.whole:
            while not n or m + _MAC + end - _FRONT > FIRST_ROOM + n * SLICE_ROOM:
                n += 1
                m = 7 + 4 * n
        payload = self._buffer[_FRONT - m - _MAC : end]
        length = first = len(payload)
        payload[:5] = aad
        if n:
            first = FIRST_ROOM
            payload[0] |= 2  # F
            payload[5] = n  # attempt 0: the same bytes are never cut anew
            payload[6] = SLICE_ROOM >> 3
            tag = b"\0\0\0\0"
            for i in range(1, n + 1):
                offset = first + (i - 1) * SLICE_ROOM
                piece = payload[offset : offset + SLICE_ROOM]
                tag = digest(key, tag_input(eui64, counter, i, offset, len(piece), tag), piece)[:4]
                payload[3 + 4 * i : 7 + 4 * i] = tag
        payload[m : m + _MAC] = digest(
            key, b"\1", self._covered, pack(">H", length), payload[:m], payload[m + _MAC : first]
        )[:_MAC]
        self.counter = counter
        self.frames = n + 1
        self._first = first
        self._payload = payload

    def frame(self, i, out):
        """Write frame i to `out` (FRAME_MAX bytes); its length.

        Whenever it is asked for, the same bytes behind the next sequence number: a radio that drops what
        repeats a sequence number must not take a retry for a duplicate.
        """
        counter, first = self.counter, self._first
        offset = first + (i - 1) * SLICE_ROOM if i else 0
        return lowpan_frame(out, self.header(), self._words, counter & 0xFFFF, self._payload, first, offset)

    def header(self):
        """The 802.15.4 header of the next frame to the gateway; to be used before it is asked for again."""
        header = self._header
        header[2] = self._sequence
        self._sequence = self._sequence + 1 & 0xFF
        return header
