"""The downlink: each fragment is verified on its arrival, in any order after the first (docs/protocol.md, section 4).

One datagram at a time, in a buffer made once. What a frame can do:

- A first slice whose MAC verifies takes the buffer; whatever it held before is given up. Nothing else frees it, so
  nobody without the key can make the device forget what it verified.
- A later slice is kept if the tag in the verified first slice fits, and dropped alone if it does not.
- One slice that comes before its first one waits for it, unverified, in a place of its own.
- A complete reply to the message that the device waits for is opened. The first one that opens is the answer.

Every frame ends as `accepted` or as a reason in `rejected`; no input raises.

    receiver = Receiver(path, eui64, gateway, epoch, Hmac(k_frag_dn), k_msg_dn)
    receiver.expect(counter)
    if receiver.on_frame(frame) == ANSWER: receiver.cls, receiver.next_width ...
"""

from struct import pack, unpack_from

from .ccm import TAG, Ccm
from .compat import const
from .hmac import same
from .lowpan import FRAME_MAX, PAYLOAD_MAX, parse
from .message import VERSION_1, F, tag_input

ANSWER = const(1)
CUSTODY = const(2)

_MAC = const(8)
_REPLY = VERSION_1 | 0x10
_CUSTODY_LENGTH = const(14)
_SALT = const(8)
_ANSWER_LENGTH = const(6)
STATUS_MAX = const(3)
CUSTODY_STATUS = ("committed", "already", "full", "revoked")


class Receiver:
    """See the module.

    accepted: fragments that passed; rejected: {reason: frames}.
    After ANSWER: counter, next_width, status, cls, confidence (in 1/65535), unix_time (s, or None), detail (text).
    After CUSTODY: counter and status, an index of CUSTODY_STATUS.
    """

    def __init__(self, path, eui64, gateway, epoch, frag_key, msg_key):
        self._path = path
        self._eui64 = eui64
        self._gateway = gateway
        self._octet0 = _REPLY | (epoch & 3) << 2
        self._frag_key = frag_key
        self._ccm = Ccm(msg_key)
        self._payload = memoryview(bytearray(PAYLOAD_MAX))
        self._early = memoryview(bytearray(FRAME_MAX))
        self._early_length = 0  # of the frame that waits for its first slice; 0 = none
        self._size = 0  # of the payload being collected; 0 = none
        self._first = self._stride = self._n = self._m = self._missing = 0
        self._awaited = self._answered = 0  # counters; 0 = none
        self._oldest = self._newest = 0  # range of the counters awaited so far
        self.accepted = 0
        self.rejected = {}
        self.counter = self.next_width = self.status = self.cls = self.confidence = 0
        self.unix_time = None
        self.detail = ""

    def expect(self, counter):
        """From now on the answer to `counter` is the one to act on; what was collected for another is given up."""
        self._drop("unfinished")
        self._awaited = self._newest = counter
        self._oldest = self._oldest or counter

    def give_up(self):
        """No answer is awaited any more; one that still comes is counted as `late`."""
        self._drop("unfinished")
        self._awaited = 0

    def _drop(self, reason):
        if self._size:
            self._size = 0
            self.reject(reason)
        if self._early_length:
            self._early_length = 0
            self.reject("no-first")

    def reject(self, reason):
        """Count a refused frame. Links call it too, for what is no frame at all."""
        self.rejected[reason] = self.rejected.get(reason, 0) + 1
        return 0

    def on_frame(self, frame):
        """Take a frame without its FCS. ANSWER or CUSTODY where it completed one, else 0."""
        frame = memoryview(frame)
        reason = self._path.check(frame)
        if reason:
            return self.reject(reason)
        fields = parse(frame)
        if isinstance(fields, str):
            return self.reject(fields)
        size, tag, offset, piece = fields
        size -= 48
        if offset:
            return self._on_slice(frame, size, tag, offset, piece)
        return self._on_first(size, tag, piece)

    def _on_first(self, size, tag, piece):
        length = len(piece)
        if length < 5 + _MAC:
            return self.reject("truncated")
        octet0, counter = unpack_from(">BI", piece, 0)
        if octet0 & ~F != self._octet0:
            return self.reject(_octet0_problem(octet0, self._octet0))
        if tag is not None and tag != counter & 0xFFFF:
            return self.reject("wrong-tag")
        if tag is None and length == _CUSTODY_LENGTH and octet0 == self._octet0:
            return self._on_custody(counter, piece)
        n = m = 0
        if octet0 & F:
            n = piece[5] & 31
            m = 7 + 4 * n
        elif length < size:
            return self.reject("no-manifest")
        else:
            m = 5
        if length < m + _MAC:
            return self.reject("truncated")
        mac = self._frag_key.digest(
            b"\x01", self._path.down, pack(">H", size), piece[:m], piece[m + _MAC :]
        )
        if not same(memoryview(mac)[:_MAC], piece[m : m + _MAC]):
            return self.reject("bad-mac")

        # Written by the gateway. Whether it is wanted now:
        if counter != self._awaited:
            if not self._oldest <= counter <= self._newest:
                return self.reject("unknown-counter")
            return self.reject("duplicate" if counter == self._answered else "late")
        payload = self._payload
        if self._size == size and self._first == length and payload[:length] == piece:
            return self.reject("duplicate")
        stride = 8 * piece[6] if n else 0
        if octet0 & F and not length + (n - 1) * stride < size <= length + n * stride:
            return self.reject("bad-manifest")
        if self._size:
            self.reject("replaced")
        payload[:length] = piece
        self._size = size
        self._first = length
        self._stride = stride
        self._n = n
        self._m = m
        self._missing = (1 << n) - 1  # bit i-1: slice i
        self.accepted += 1
        if not n:
            return self._complete()
        if self._early_length:
            early = self._early[: self._early_length]
            self._early_length = 0
            return self.on_frame(early)
        return 0

    def _on_slice(self, frame, size, tag, offset, piece):
        payload = self._payload
        if not self._size or tag != unpack_from(">I", payload, 1)[0] & 0xFFFF:
            if self._size or tag != self._awaited & 0xFFFF or not self._awaited:
                return self.reject("no-first")
            if self._early_length:
                self.reject("no-first")
            self._early[: len(frame)] = frame
            self._early_length = len(frame)
            return 0
        if size != self._size:
            return self.reject("wrong-size")
        i, rest = divmod(offset - self._first, self._stride)
        length = len(piece)
        if rest or not 0 <= i < self._n or length != min(self._stride, size - offset):
            return self.reject("wrong-cut")
        if not self._missing >> i & 1:
            return self.reject("duplicate" if payload[offset : offset + length] == piece else "overlap")
        # Tag i+1 lies at 7 + 4i; the one before it, or the zero tag, precedes it.
        previous = bytes(payload[3 + 4 * i : 7 + 4 * i]) if i else b"\0\0\0\0"
        covered = tag_input(self._eui64, self._awaited, i + 1, offset, length, previous)
        digest = self._frag_key.digest(covered, piece)
        if not same(memoryview(digest)[:4], payload[7 + 4 * i : 11 + 4 * i]):
            return self.reject("bad-tag")
        payload[offset : offset + length] = piece
        self._missing &= ~(1 << i)
        self.accepted += 1
        return 0 if self._missing else self._complete()

    def _complete(self):
        """Open the collected reply to the awaited counter."""
        payload = self._payload
        size, start = self._size, self._m + _MAC
        self._size = 0
        length = size - start - _SALT  # of the answer and its seal's tag
        if length < _ANSWER_LENGTH + TAG:
            return self.reject("bad-answer")
        number = bytes(payload[1:5])
        nonce = b"\x01" + payload[start : start + _SALT] + number
        start += _SALT
        if not self._ccm.open(nonce, bytes((self._octet0,)) + number, payload, start, length):
            return self.reject("bad-seal")
        length -= TAG
        flags, packed, cls, confidence = unpack_from(">BBHH", payload, start)
        unix_time = None
        at = start + _ANSWER_LENGTH
        if flags & 1:
            if length < _ANSWER_LENGTH + 4:
                return self.reject("bad-answer")
            unix_time = unpack_from(">I", payload, at)[0]
            at += 4
        try:
            self.detail = str(payload[at : start + length], "utf-8")
        except UnicodeError:
            return self.reject("bad-answer")
        self.unix_time = unix_time
        self.cls = cls
        self.confidence = confidence
        self.next_width = packed >> 4
        self.status = packed & 15
        self.counter = self._answered = self._awaited
        self._awaited = 0
        return ANSWER

    def _on_custody(self, counter, piece):
        mac = self._frag_key.digest(b"\x03", self._gateway, self._eui64, piece[:6])
        if not same(memoryview(mac)[:_MAC], piece[6:14]):
            return self.reject("bad-mac")
        if piece[5] > STATUS_MAX:
            return self.reject("bad-answer")
        if counter != self._awaited:
            return self.reject("late" if self._oldest <= counter <= self._newest else "unknown-counter")
        self.accepted += 1
        self.counter = counter
        self.status = piece[5]
        return CUSTODY


def _octet0_problem(octet0, expected):
    """Why a first octet is not that of a reply to this device in this epoch."""
    if octet0 >> 6 != expected >> 6:
        return "bad-version"
    if octet0 & 1:
        return "reserved-bit"
    if octet0 & 0x30 != expected & 0x30:
        return "unknown-kind"
    return "wrong-epoch"
