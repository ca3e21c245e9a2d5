"""The downlink: each fragment is verified on its arrival, in any order after the first (docs/protocol.md,
section 4).

One datagram at a time, in a buffer made once. What a frame can do:

- A first slice whose MAC verifies takes the buffer; whatever it held before is given up. Nothing else frees
  it, so nobody without the key can make the device forget what it verified.
- A later slice is kept if the tag in the verified first slice fits, and dropped alone if it does not.
- One slice that comes before its first one waits for it, unverified, in a place of its own.
- A complete reply to the message that the device waits for is opened. The first one that opens is the answer.

Every frame ends as `accepted` or as a reason in `rejected`; no input raises.

`trust` in the one gateway that is heard, 0..255, moves by what that gateway authenticated and by nothing
else: an answer that opens raises it slowly, one that does not halves it, once a message. It is how much the
agent spends on retries, never whether a frame is looked at.

    receiver = Receiver(eui64, gateway, epoch, pad(k_frag_dn), block_cipher(k_msg_dn), downlink(...), memory)
    receiver.expect(counter)
    if receiver.on_frame(frame) == ANSWER: receiver.answer ...
"""

from struct import pack, unpack_from

from .ccm import TAG, ccm
from .compat import const
from .hmac import digest, same
from .lowpan import FRAME_MAX, PAYLOAD_MAX, parse
from .message import tag_input

ANSWER = const(1)
CUSTODY = const(2)
_MAC = const(8)
_SALT = const(8)
ROOM = PAYLOAD_MAX + FRAME_MAX  # bytes of memory that a receiver works in


class Receiver:
    """See the module.

    accepted: fragments that passed; rejected: {reason: frames}.
    answer: after ANSWER, (next width index, status, class, confidence in 1/65535, Unix time in s or None,
    detail). order: in it, the key epoch to go on with, 0: none. epochs: the present
    one, and the one before; trial: its mark: see firmware.rotation.
    custody: after CUSTODY, its status: 0 committed, 1 already, 2 full, 3 revoked.
    recovery: what reads recoverable fragments, if the device has it (`firmware.recovery`).
    """

    recovery = None

    def __init__(self, eui64, gateway, epoch, key, encrypt, hop, memory=None):
        """memory: ROOM bytes, others' own whenever no reply is awaited; None: the receiver makes them."""
        memory = memoryview(memory or bytearray(ROOM))
        self._eui64 = eui64
        self._gateway = gateway
        self._octet0 = 0x50 | (epoch & 3) << 2  # version 1, kind reply
        self._key = key
        self._encrypt = encrypt
        self._addresses, self._covered = hop
        self._payload = memory[:PAYLOAD_MAX]
        self._early = memory[PAYLOAD_MAX:ROOM]
        self._early_length = 0  # of the frame that waits for its first slice; 0 = none
        self._size = 0  # of the payload being collected; 0 = none
        self._first = self._m = self._stride = self._n = 0  # its cut
        self._missing = 0  # bit i - 1: slice i
        self._awaited = 0  # counter; 0 = none
        self._answered = self._oldest = self._newest = 0  # counters awaited so far
        self._doubted = 0  # counter for which trust fell
        self.trust = 128
        self.accepted = 0
        self.rejected = {}
        self.answer = None
        self.order = self.trial = self.custody = 0

    def expect(self, counter):
        """Act on the answer to `counter` from now on, 0: to none. What another has collected is given up."""
        if self._size:
            self._size = 0
            self.reject("unfinished")
        if self._early_length:
            self._early_length = 0
            self.reject("no-first")
        self._awaited = counter
        if counter:
            self._newest = counter
            self._oldest = self._oldest or counter

    def reject(self, reason):
        """Count a refused frame. Links call it too, for what is no frame at all."""
        self.rejected[reason] = self.rejected.get(reason, 0) + 1
        return 0

    def fields(self, frame):
        """Where a piece belongs, and the piece: see `firmware.lowpan.parse`."""
        return parse(frame, self._addresses)

    def on_frame(self, frame):
        """Take a frame without its FCS. ANSWER or CUSTODY where it completed one, else 0."""
        frame = memoryview(frame)
        fields = self.fields(frame)
        if self.recovery and fields in ("bad-header", "truncated"):
            fields = self.recovery.fields(frame, self, fields)
        if isinstance(fields, str):
            return self.reject(fields)
        size, tag, offset, piece = fields
        if not offset:
            return self._on_first(size, tag, piece)
        payload = self._payload
        if not self._size or tag != self._awaited & 0xFFFF:
            if self._size or not self._awaited or tag != self._awaited & 0xFFFF:
                return self.reject("no-first")
            if self._early_length:
                self.reject("no-first")
            self._early_length = len(frame)
            self._early[: len(frame)] = frame
            return 0
        if size != self._size:
            return self.reject("wrong-size")
        length = len(piece)
        stride = self._stride
        i = (offset - self._first) // stride
        if (
            i < 0
            or i >= self._n
            or offset != self._first + i * stride
            or length != min(stride, size - offset)
        ):
            return self.reject("wrong-cut")
        if not self._missing >> i & 1:
            return self.reject("duplicate" if payload[offset : offset + length] == piece else "overlap")
        # Tag i + 1 lies at 7 + 4i, after tag i, or after what stands for tag 0.
        tag = bytes(payload[3 + 4 * i : 7 + 4 * i]) if i else b"\0\0\0\0"
        mac = digest(self._key, tag_input(self._eui64, self._awaited, i + 1, offset, length, tag), piece)
        if not same(mac, payload[7 + 4 * i :], 4):
            return self.reject("bad-tag")
        payload[offset : offset + length] = piece
        self._missing &= ~(1 << i)
        self.accepted += 1
        return 0 if self._missing else self._complete()

    def _on_first(self, size, tag, piece):
        length = len(piece)
        if length < 5 + _MAC:
            return self.reject("truncated")
        octet0, counter = unpack_from(">BI", piece, 0)
        fragmented = octet0 & 2  # F
        if octet0 >> 6 != 1:
            return self.reject("bad-version")
        if octet0 & 1:
            return self.reject("reserved-bit")
        if (octet0 ^ self._octet0) & 0x30:
            return self.reject("unknown-kind")
        if (octet0 ^ self._octet0) & 0x0C:
            return self.reject("wrong-epoch")
        if tag is not None and tag != counter & 0xFFFF:
            return self.reject("wrong-tag")
        if length < size and not fragmented:
            return self.reject("no-manifest")
        # A whole reply of 14 bytes is a custody ack; an answer has 35 or more.
        custody = length == size == 14
        n = piece[5] & 31 if fragmented else 0
        m = 7 + 4 * n if fragmented else 5
        if custody:
            m = 6
            mac = digest(self._key, b"\3", self._gateway, self._eui64, piece[:m])
        elif length < m + _MAC:
            return self.reject("truncated")
        else:
            mac = digest(self._key, b"\1", self._covered, pack(">H", size), piece[:m], piece[m + _MAC :])
        if not same(mac, piece[m:], _MAC):
            return self.reject("bad-mac")

        # The gateway wrote it. Whether it is wanted now:
        if counter != self._awaited:
            if not self._oldest <= counter <= self._newest:
                return self.reject("unknown-counter")
            return self.reject("duplicate" if counter == self._answered else "late")
        if custody:
            self.accepted += 1
            self.custody = piece[5]
            return CUSTODY
        payload = self._payload
        if self._size == size and payload[:length] == piece:
            return self.reject("duplicate")
        stride = 8 * piece[6]
        if fragmented and not (n and length + (n - 1) * stride < size <= length + n * stride):
            return self.reject("bad-manifest")
        if self._size:
            self.reject("replaced")
        payload[:length] = piece
        self._size = size
        self._first = length
        self._m = m
        self._stride = stride
        self._n = n
        self._missing = (1 << n) - 1
        self.accepted += 1
        if not n:
            return self._complete()
        length = self._early_length
        if length:
            self._early_length = 0
            return self.on_frame(self._early[:length])
        return 0

    def _complete(self):
        """Open the collected reply to the awaited counter, and read it (section 2.2)."""
        trust = self.trust
        if self._doubted != self._awaited:
            self._doubted = self._awaited
            self.trust >>= 1  # until it opens
        start = self._m + _MAC + _SALT
        end = self._size - TAG
        self._size = 0
        if end < start + 6:
            return self.reject("bad-answer")
        payload = self._payload
        aad = pack(">BI", self._octet0, self._awaited)
        tag = ccm(
            self._encrypt, b"\1" + payload[start - _SALT : start] + aad[1:], aad, payload[start:end], True
        )
        if not same(tag, payload[end:], TAG):
            return self.reject("bad-seal")
        flags, packed, cls, confidence = unpack_from(">BBHH", payload, start)
        start += 6
        unix_time = None
        if flags & 1:
            if end < start + 4:
                return self.reject("bad-answer")
            unix_time = unpack_from(">I", payload, start)[0]
            start += 4
        order = 0
        if flags & 2:
            if end < start + 4:
                return self.reject("bad-answer")
            order = unpack_from(">I", payload, start)[0]
            start += 4
        try:
            detail = str(payload[start:end], "utf-8")
        except UnicodeError:
            return self.reject("bad-answer")
        if flags > 3 or packed & 15 > 2:
            return self.reject("bad-answer")
        self.answer = packed >> 4, packed & 15, cls, confidence, unix_time, detail
        self.order = order
        self.trust = trust + (262 - trust >> 3)
        self._answered = self._awaited
        self._awaited = 0
        return ANSWER
