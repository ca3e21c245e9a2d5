"""The message: the UDP payload of one datagram (docs/protocol.md, section 2).

```
offset size
0      1   version (2) | kind (2) | epoch mod 4 (2) | F (1) | 0 (1)
1      4   counter
F=1:   5 1 attempt (3) | n (5)         n = fragments after the first, 1..31
       6 1 step, in units of 8 bytes
       7 4n  tags 1..n
m      8   MAC of the hop              m = 5, or 7 + 4n with F
m+8    ..  sealed
```

This module knows the layout, and which bytes a MAC or a tag covers. It holds no keys: `security.chain`
computes. All offsets are those of the UDP payload, all integers are big endian. A device or a gateway is its
EUI-64, 8 bytes.

Reasons: `truncated`, `bad-version`, `reserved-bit`, `no-manifest` (several fragments, but F = 0), `too-large`
(sender: no cut exists). `bad-manifest` is a property, `FirstSlice.cut_problem`: it means something only once
the MAC has shown who wrote it.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from wire.errors import WireError

PORT = 0xF0B0
VERSION = 1
MAC_LENGTH = 8
TAG_LENGTH = 4
FIRST_TAG = bytes(TAG_LENGTH)  # tag_0, what tag_1 chains over
MAX_SLICES_AFTER_FIRST = 31
MAX_ATTEMPT = 7
MAX_COUNTER = 0xFFFF_FFFF
MAX_PAYLOAD = 1280 - 40 - 8  # of the largest datagram, 1280 bytes of IPv6

_F = 0b10
_RESERVED = 0b01
_HEAD = struct.Struct(">BI")
_TAG_HEAD = struct.Struct(">B8sIBHH4s")
_MAC_HEAD = struct.Struct(">B16s16sHHH")


class Kind(IntEnum):
    """What a message is."""

    DATA = 0  # device -> edge server: a sealed latent
    REPLY = 1  # to the device: a custody ack or a sealed answer
    HELLO = 2  # reserved
    UPDATE = 3  # reserved


_KINDS = tuple(Kind)


def octet0(kind: int, epoch: int, *, fragmented: bool = False) -> int:
    """The first octet: protocol version, kind, epoch mod 4, F."""
    if not 0 <= kind <= 3:
        raise ValueError(f"kind is {kind}, expected 0..3")
    return VERSION << 6 | kind << 4 | (epoch & 3) << 2 | (_F if fragmented else 0)


def without_f(octet: int) -> int:
    """Octet 0 with F cleared: what the associated data, and both batches, carry."""
    return octet & ~_F


def kind_of(octet: int) -> Kind:
    return _KINDS[octet >> 4 & 3]


def epoch_of(octet: int) -> int:
    """The key epoch mod 4."""
    return octet >> 2 & 3


def check_octet0(octet: int) -> None:
    """Raises WireError `bad-version` or `reserved-bit`."""
    if octet >> 6 != VERSION:
        raise WireError("bad-version", f"a message has version {octet >> 6}, expected {VERSION}")
    if octet & _RESERVED:
        raise WireError("reserved-bit", "a message has its reserved bit set, expected 0")


def datagram_tag(counter: int) -> int:
    """The 6LoWPAN datagram tag that a message with this counter travels under."""
    return counter & 0xFFFF


def associated_data(octet: int, counter: int) -> bytes:
    """What sealing authenticates besides the plaintext: octet 0 with F cleared ‖ counter (5 bytes)."""
    return _HEAD.pack(without_f(octet), counter)


def header_length(n: int) -> int:
    """m, the offset of the MAC, for n fragments after the first (0 = unfragmented)."""
    return 7 + TAG_LENGTH * n if n else 5


class FirstSlice:
    """The first slice of a message, taken apart. `FirstSlice.parse` is the one way in for bytes from outside.

    Attributes:
        data: the slice itself, P0 bytes; all of the payload if the message is unfragmented.
        payload_length: P, of the whole UDP payload.
        octet0, kind, epoch2, counter: as in the layout above; epoch2 is the epoch mod 4.
        fragmented: F.
        attempt, n, step: of the manifest; 0 without one. `step` is in units of 8 bytes.
        header_length: m. `sealed_start` is m + 8.
        cut_problem: why the cut does not follow from P, P0, n and step; None if it does.
    """

    __slots__ = (
        "attempt",
        "counter",
        "cut_problem",
        "data",
        "epoch2",
        "fragmented",
        "header_length",
        "kind",
        "n",
        "octet0",
        "payload_length",
        "sealed_start",
        "step",
    )

    def __init__(self, data: bytes, payload_length: int) -> None:
        size = len(data)
        if size < 5 + MAC_LENGTH:
            raise WireError("truncated", f"a message has {size} bytes, expected at least {5 + MAC_LENGTH}")
        octet, counter = _HEAD.unpack_from(data)
        check_octet0(octet)
        self.data = data
        self.payload_length = payload_length
        self.octet0: int = octet
        self.kind = kind_of(octet)
        self.epoch2 = epoch_of(octet)
        self.counter: int = counter
        self.fragmented = bool(octet & _F)
        if self.fragmented:
            self.attempt = data[5] >> 5
            self.n = data[5] & 31
            self.step = data[6]
            self.header_length = 7 + TAG_LENGTH * self.n
        else:
            self.attempt = self.n = self.step = 0
            self.header_length = 5
            if size < payload_length:
                raise WireError(
                    "no-manifest",
                    f"a message of {payload_length} bytes comes in fragments without a manifest",
                )
        self.sealed_start = self.header_length + MAC_LENGTH
        if size < self.sealed_start or size > payload_length:
            raise WireError(
                "truncated",
                f"a first slice has {size} bytes, expected {self.sealed_start} to {payload_length}",
            )
        self.cut_problem = self._cut_problem()

    @classmethod
    def parse(cls, data: bytes, payload_length: int) -> "FirstSlice":
        """Take apart the UDP payload bytes of a first fragment (or of a whole datagram).

        Args:
            data: the UDP payload bytes that this frame carries.
            payload_length: UDP payload length of the whole datagram.

        Raises:
            WireError: `truncated`, `bad-version`, `reserved-bit`, `no-manifest`.
        """
        return cls(data, payload_length)

    @property
    def tags(self) -> tuple[bytes, ...]:
        """Tags 1..n of the manifest, 4 bytes each."""
        return tuple(self.data[at : at + TAG_LENGTH] for at in range(7, self.header_length, TAG_LENGTH))

    def tag(self, i: int) -> bytes:
        """tag_i, 0 <= i <= n; tag_0 is four zero bytes."""
        at = 7 + TAG_LENGTH * (i - 1)
        return self.data[at : at + TAG_LENGTH] if i else FIRST_TAG

    @property
    def mac(self) -> bytes:
        return self.data[self.header_length : self.sealed_start]

    @property
    def sealed(self) -> bytes:
        """The sealed bytes that this slice carries; all of them if the message is unfragmented."""
        return self.data[self.sealed_start :]

    @property
    def slices(self) -> tuple[tuple[int, int], ...]:
        """(offset, length) of slices 1..n. Raises WireError `bad-manifest` if there is a `cut_problem`."""
        problem = self.cut_problem
        if problem:
            raise WireError("bad-manifest", problem)
        return tuple(self.slice_at(i) for i in range(1, self.n + 1))

    def _cut_problem(self) -> str | None:
        first, total, stride = len(self.data), self.payload_length, 8 * self.step
        if not self.fragmented:
            return None
        if total > MAX_PAYLOAD:
            return f"the payload has {total} bytes, at most {MAX_PAYLOAD} fit a datagram"
        if self.n == 0 or self.step == 0:
            return f"a manifest names {self.n} slices in steps of {stride} bytes"
        if first % 8:
            return f"the first slice has {first} bytes, expected a multiple of 8"
        if not first + (self.n - 1) * stride < total <= first + self.n * stride:
            return f"{first} + {self.n} slices of {stride} bytes do not make {total} bytes"
        return None

    def index_of(self, offset: int, length: int) -> int | None:
        """The slice 1..n that lies exactly at this offset and has this length; None if the manifest has none.

        This refuses a wrong boundary before any hash is computed.
        """
        if self.cut_problem or not length:
            return None
        i, rest = divmod(offset - len(self.data), 8 * self.step)
        i += 1
        if rest or not 1 <= i <= self.n or self.slice_at(i) != (offset, length):
            return None
        return i

    def slice_at(self, i: int) -> tuple[int, int]:
        """(offset, length) of slice i, 1..n; means something only while `cut_problem` is None."""
        offset = len(self.data) + (i - 1) * 8 * self.step
        return offset, min(8 * self.step, self.payload_length - offset)


def mac_input(src: bytes, dst: bytes, src_port: int, dst_port: int, first: FirstSlice) -> bytes:
    """The bytes under the MAC of the hop. `src` and `dst` are IPv6 addresses, 16 bytes each."""
    return b"".join(
        (
            _MAC_HEAD.pack(1, src, dst, src_port, dst_port, first.payload_length),
            first.data[: first.header_length],
            first.data[first.sealed_start :],
        )
    )


def tag_input(device: bytes, counter: int, i: int, offset: int, *, previous_tag: bytes, data: bytes) -> bytes:
    """The bytes under tag_i of slice `data` at `offset`; `device` is the device's EUI-64, up and down."""
    return _TAG_HEAD.pack(2, device, counter, i, offset, len(data), previous_tag) + data


def emit_header(octet: int, counter: int, tags: list[bytes], step: int = 0, attempt: int = 0) -> bytes:
    """Octets 0..m-1. F follows from the tags: none = unfragmented.

    Args:
        octet: octet 0, F ignored.
        tags: tags 1..n.
        step: in units of 8 bytes, 1..255 with tags.
        attempt: 0..7, raised when the same sealed bytes are cut anew.
    """
    if not tags:
        return _HEAD.pack(without_f(octet), counter)
    if len(tags) > MAX_SLICES_AFTER_FIRST or not 1 <= step <= 255 or not 0 <= attempt <= MAX_ATTEMPT:
        raise ValueError(f"no manifest has {len(tags)} tags, step {step}, attempt {attempt}")
    manifest = bytes((attempt << 5 | len(tags), step)) + b"".join(tags)
    return _HEAD.pack(octet | _F, counter) + manifest


class FrameRooms(NamedTuple):
    """Bytes of UDP payload that fit a frame: unfragmented, as first fragment, as a later one."""

    single_room: int
    first_room: int
    slice_room: int

    @classmethod
    def of(cls, mac_room: int) -> "FrameRooms":
        """For frames with `mac_room` bytes of MAC payload (`wire.ieee802154.room`): 98, 88, 96 with EUI-64s.

        IPv6 and UDP between link-local addresses compress to 6 bytes (RFC 6282); FRAG1 takes 4 bytes, FRAGN 5
        (RFC 4944, section 5.3).
        """
        return cls(mac_room - 6, (mac_room - 10) & ~7, (mac_room - 5) & ~7)


@dataclass(frozen=True, slots=True)
class Cut:
    """How a payload is divided. All in bytes of UDP payload.

    Attributes:
        payload_length: P = m + 8 + sealed length.
        first: P0, of the first slice; P if n is 0.
        n: slices after the first; 0 = unfragmented.
        step: length of slices 1..n-1 in units of 8 bytes; 0 if n is 0.
    """

    payload_length: int
    first: int
    n: int
    step: int

    @property
    def header_length(self) -> int:
        return header_length(self.n)

    @classmethod
    def plan(cls, sealed_length: int, single_room: int, first_room: int, slice_room: int) -> "Cut":
        """The cut into the fewest frames, each but the last one filled.

        m depends on n, and n on m: the manifest is part of the payload. The smallest n that holds its own
        manifest is the answer.

        Args:
            sealed_length: of the sealed bytes.
            single_room: payload bytes that fit one frame without fragmentation header.
            first_room: payload bytes that fit a first fragment; rounded down to a multiple of 8.
            slice_room: payload bytes that fit a later fragment; rounded down to a multiple of 8.

        Raises:
            ValueError: the rooms are not those of one link (single >= first >= 24, slice >= 8).
            WireError: `too-large`: more than 31 slices, more than 1280 bytes of IPv6, or a manifest that does
                not fit the first frame.
        """
        first, stride = first_room & ~7, min(slice_room & ~7, 255 * 8)
        if not (single_room >= first >= 24 and stride):
            raise ValueError(
                f"no link has frames with room for {single_room}, {first_room}, {slice_room} bytes"
            )
        whole = header_length(0) + MAC_LENGTH + sealed_length
        if whole <= min(single_room, MAX_PAYLOAD):
            return cls(whole, whole, 0, 0)
        for n in range(1, MAX_SLICES_AFTER_FIRST + 1):
            m = header_length(n)
            total = m + MAC_LENGTH + sealed_length
            if total > MAX_PAYLOAD or first < m + MAC_LENGTH:
                break
            if total <= first + n * stride:
                return cls(total, first, n, stride // 8)
        raise WireError(
            "too-large",
            f"{sealed_length} sealed bytes fit no datagram: at most {MAX_PAYLOAD} bytes of payload, in "
            f"slices of {first}, then {stride} bytes, with a manifest that fits the first slice",
        )
