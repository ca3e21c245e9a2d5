"""The receiving end of selective recovery (RFC 8931) at a device: recoverable fragments of an answer.

A recoverable fragment carries a slice like any other; `firmware.receiver` verifies it. This reads its header,
and makes the RFRAG-ACK that it may ask for. Where the heap is too small for it, the gateway's fragments are
refused as `bad-header`, and it falls back to RFC 4944.
"""

from struct import pack, unpack_from

from .compat import const
from .lowpan import PAYLOAD_MAX
from .recovery import Recovery

_AT = const(21)  # where a frame's MAC payload begins
_HEADERS = const(6)  # IPHC and NHC of a first fragment
_SPARE = const(4)  # acknowledgements a message for frames that did not authenticate themselves


class Recoverable(Recovery):
    """Both ends; see `Recovery`."""

    receives = True

    def __init__(self, always, wait_ms):
        super().__init__(always, wait_ms)
        self._ask = 0  # the last recoverable fragment wants an RFRAG-ACK
        self._counter = self._spare = self._accepted = 0

    def fields(self, frame, receiver, reason):
        """What `lowpan.parse` gives, for a frame that it refused for this reason; else why it is refused."""
        if len(frame) < _AT + 6 or frame[_AT] & 0xFC != 0xE8:
            return reason
        dispatch, tag, word, offset = unpack_from(">BBHH", frame, _AT)
        piece = frame[_AT + 6 :]
        length = len(piece)
        if dispatch & 2:
            return Recovery.fields(self, frame, receiver, reason)
        counter = receiver._awaited or receiver._answered
        if tag != counter & 0xFF:
            return "wrong-tag"
        if not offset:
            return "recovery-abort"
        if word & 0x3FF != length:
            return "bad-size"
        self._ask = word >> 15
        offset -= _HEADERS
        if word & 0x7C00:  # a later one
            size = receiver._size or offset + length
            if offset <= 0 or not 0 < length <= size - offset or size > PAYLOAD_MAX:
                return "bad-offset"
            return size, counter & 0xFFFF, offset, piece
        if length < _HEADERS + 5 or piece[0] & 0xFC != 0x7C or piece[1:4] != b"\x33\xf3\0":
            return "bad-header"
        length -= _HEADERS
        if not length <= offset <= PAYLOAD_MAX or (length != offset and length & 7):
            return "bad-size"
        return offset, counter & 0xFFFF, 0, piece[_HEADERS:]

    async def reply(self, link, message, receiver):
        """Send the RFRAG-ACK that the last frame asked for, if it gets one."""
        ack = self.ack(message, receiver)
        if ack:
            await link.send(ack)

    def ack(self, message, receiver):
        """The frame of that RFRAG-ACK, or None."""
        genuine = self._accepted != receiver.accepted
        self._accepted = receiver.accepted
        ask, self._ask = self._ask, 0
        if not ask:
            return None
        if not genuine:
            # A frame that did not authenticate itself gets few.
            if self._counter != receiver._newest:
                self._counter = receiver._newest
                self._spare = _SPARE
            if not self._spare:
                return None
            self._spare -= 1
        bitmap = 0
        if not receiver._awaited:
            bitmap = 0xFFFFFFFF
        elif receiver._size:
            bitmap = 0x80000000
            for i in range(receiver._n):
                if not receiver._missing >> i & 1:
                    bitmap |= 0x40000000 >> i
        header = message.header()
        return header + pack(">BBI", 0xEA, (receiver._awaited or receiver._answered) & 0xFF, bitmap)
