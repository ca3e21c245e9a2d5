"""What comes back to a device: the answer (docs/protocol.md, section 2.2) and the custody ack (section 2.3).

```
answer (plaintext)                                  custody ack (UDP payload, exactly 14 bytes)
0  1  flags: bits 0, 1 = Unix time, epoch present   0  1  octet 0, kind 1
1  1  next width index (4 bits) | status (4 bits)   1  4  counter
2  2  class                                         5  1  status
4  2  confidence, in 1/65535                        6  8  MAC
6  4  Unix time in s, when flags bit 0
.. 4  key epoch to go on with, when flags bit 1
.. .. detail, UTF-8
```

Reasons: `truncated`, `reserved-bit`, `unknown-status`, `bad-utf8`, `bad-version`, `bad-kind`, `bad-length`.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from wire.errors import WireError
from wire.message import Kind, check_octet0, kind_of, without_f

CUSTODY_LENGTH = 14
MAX_DETAIL = 1024  # bytes of UTF-8: any sealed answer fits one datagram
FULL_CONFIDENCE = 65535

_ANSWER = struct.Struct(">BBHH")
_CUSTODY = struct.Struct(">BIB8s")
_HAS_TIME = 1
_HAS_EPOCH = 2


class Status(IntEnum):
    """Of an answer."""

    ANSWERED = 0
    UNKNOWN_MODEL = 1  # the model tag is not one the edge server has
    BAD_LATENT = 2  # the seal opened, the latent does not decode


class CustodyStatus(IntEnum):
    """Of a custody ack. On COMMITTED and ALREADY the device may forget the message."""

    COMMITTED = 0
    ALREADY = 1
    FULL = 2
    REVOKED = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """The edge server's answer to one latent, before sealing.

    Attributes:
        next_width: index of the width for the next sample, 0..15.
        status: see `Status`; class and confidence mean something with ANSWERED only.
        cls: class index, 0..65535.
        confidence: in 1/65535; `probability` is the same as a fraction.
        unix_time: seconds, or None.
        next_epoch: the full key epoch the device is to go on with, 0..2**32-1, or None: as it is.
        detail: text for people or applications, at most 1024 bytes of UTF-8.
    """

    next_width: int
    status: int = Status.ANSWERED
    cls: int = 0
    confidence: int = 0
    unix_time: int | None = None
    detail: str = ""
    next_epoch: int | None = None

    def __post_init__(self) -> None:
        fits = (
            0 <= self.next_width <= 15
            and 0 <= self.cls <= 0xFFFF
            and isinstance(self.confidence, int)
            and 0 <= self.confidence <= FULL_CONFIDENCE
            and (self.unix_time is None or 0 <= self.unix_time <= 0xFFFF_FFFF)
            and (self.next_epoch is None or 0 <= self.next_epoch <= 0xFFFF_FFFF)
            and len(self.detail.encode("utf-8")) <= MAX_DETAIL
        )
        if not fits:
            raise ValueError(
                f"an answer cannot carry {self}: integers in range, {MAX_DETAIL} bytes of detail"
            )
        object.__setattr__(self, "status", Status(self.status))

    @property
    def probability(self) -> float:
        """The confidence as a fraction, 0..1."""
        return self.confidence / FULL_CONFIDENCE

    def emit(self) -> bytes:
        flags, numbers = 0, b""
        for flag, number in ((_HAS_TIME, self.unix_time), (_HAS_EPOCH, self.next_epoch)):
            if number is not None:
                flags |= flag
                numbers += number.to_bytes(4, "big")
        head = _ANSWER.pack(flags, self.next_width << 4 | self.status, self.cls, self.confidence)
        return head + numbers + self.detail.encode("utf-8")

    @classmethod
    def parse(cls, data: bytes) -> "Answer":
        """From the plaintext of an opened answer.

        Raises:
            WireError: `truncated`, `reserved-bit`, `unknown-status`, `bad-utf8`, `bad-length`.
        """
        if len(data) < _ANSWER.size:
            raise WireError("truncated", f"an answer has {len(data)} bytes, expected at least {_ANSWER.size}")
        flags, packed, klass, confidence = _ANSWER.unpack_from(data)
        if flags & ~(_HAS_TIME | _HAS_EPOCH):
            raise WireError("reserved-bit", f"an answer has flags {flags:#04x}, expected 0..3")
        if packed & 15 > max(Status):
            raise WireError(
                "unknown-status", f"an answer has status {packed & 15}, expected 0..{max(Status)}"
            )
        at = _ANSWER.size
        numbers: list[int | None] = []
        for flag, name in ((_HAS_TIME, "a time"), (_HAS_EPOCH, "an epoch")):
            if not flags & flag:
                numbers.append(None)
                continue
            if len(data) < at + 4:
                raise WireError(
                    "truncated", f"an answer with {name} has {len(data)} bytes, expected {at + 4}"
                )
            numbers.append(int.from_bytes(data[at : at + 4], "big"))
            at += 4
        if len(data) - at > MAX_DETAIL:
            raise WireError(
                "bad-length", f"an answer has {len(data) - at} bytes of detail, at most {MAX_DETAIL}"
            )
        try:
            detail = data[at:].decode("utf-8")
        except UnicodeDecodeError as error:
            raise WireError("bad-utf8", f"an answer's detail is not UTF-8: {error.reason}") from None
        unix_time, next_epoch = numbers
        return cls(packed >> 4, packed & 15, klass, confidence, unix_time, detail, next_epoch)


@dataclass(frozen=True, slots=True)
class Custody:
    """A gateway's promise that it has committed a message durably.

    Attributes:
        octet0: kind 1, F = 0, the epoch of the message acknowledged.
        counter: of the message acknowledged.
        status: see `CustodyStatus`.
        mac: 8 bytes; `security.custody` makes and checks it.
    """

    octet0: int
    counter: int
    status: int
    mac: bytes

    def emit(self) -> bytes:
        return custody_head(self.octet0, self.counter, self.status) + self.mac

    @classmethod
    def parse(cls, data: bytes) -> "Custody":
        """From the UDP payload.

        Raises:
            WireError: `bad-length`, `bad-version`, `reserved-bit`, `bad-kind`, `unknown-status`.
        """
        if len(data) != CUSTODY_LENGTH:
            raise WireError("bad-length", f"a custody ack has {len(data)} bytes, expected {CUSTODY_LENGTH}")
        octet, counter, status, mac = _CUSTODY.unpack(data)
        check_octet0(octet)
        if kind_of(octet) is not Kind.REPLY or octet != without_f(octet):
            raise WireError("bad-kind", f"a custody ack starts with {octet:#04x}, expected kind 1 without F")
        if status > max(CustodyStatus):
            raise WireError(
                "unknown-status", f"a custody ack has status {status}, expected 0..{max(CustodyStatus)}"
            )
        return cls(octet, counter, CustodyStatus(status), mac)


def is_custody(payload: bytes) -> bool:
    """Whether a reply's UDP payload is a custody ack: an answer is at least 35 bytes, an ack exactly 14."""
    return len(payload) == CUSTODY_LENGTH


def custody_head(octet: int, counter: int, status: int) -> bytes:
    """The six bytes before the MAC."""
    return _CUSTODY.pack(octet, counter, status, b"")[:6]


def custody_mac_input(gateway: bytes, device: bytes, head: bytes) -> bytes:
    """The bytes under a custody ack's MAC; gateway and device are EUI-64s, `head` is `custody_head`."""
    return b"\x03" + gateway + device + head
