"""RFC 4944 §5.3: the two fragment headers of 6LoWPAN, and the cut of a datagram into fragments.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |1 1 0 0 0|    datagram_size    |         datagram_tag          |   FRAG1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |1 1 1 0 0|    datagram_size    |         datagram_tag          |   FRAGN
    |datagram_offset|                                               units of 8 octets
    +-+-+-+-+-+-+-+-+

Size and offset count octets of the **uncompressed** IPv6 datagram. All fragments but the last are a multiple
of 8 of those octets long. Reasons: `truncated`, `dispatch`, `frag-size`, `frag-offset`, `frag-length`,
`frag-empty`, `frag-cut`.
"""

from dataclasses import dataclass

from wire.errors import WireError

FRAG1_SIZE = 4
FRAGN_SIZE = 5
#: An IPv6 datagram is no shorter than its header, and datagram_size has 11 bits.
MIN_DATAGRAM = 40
MAX_DATAGRAM = 2047


@dataclass(slots=True)
class Frag1:
    """A first fragment: `payload` starts with the dispatch of a (compressed) IPv6 header.

    Args:
        size: datagram_size in octets, 40..2047.
        tag: datagram_tag, 16 bits.
        payload: what follows the fragment header, as on the air.
    """

    size: int
    tag: int
    payload: bytes

    @classmethod
    def parse(cls, data: bytes) -> "Frag1":
        """Read a first fragment. How many octets it stands for only its decompression shows.

        Raises:
            WireError: see the reasons above.
        """
        size, tag = frag1_header(data)
        return cls(size, tag, data[FRAG1_SIZE:])

    def emit(self) -> bytes:
        """The fragment's bytes."""
        return (0xC000 | self.size).to_bytes(2, "big") + self.tag.to_bytes(2, "big") + self.payload


@dataclass(slots=True)
class FragN:
    """A later fragment.

    Args:
        size: datagram_size in octets, 40..2047.
        tag: datagram_tag, 16 bits.
        offset: where the payload starts in the uncompressed datagram, in octets, a multiple of 8, at least 8.
        payload: octets of the datagram.
    """

    size: int
    tag: int
    offset: int
    payload: bytes

    @classmethod
    def parse(cls, data: bytes) -> "FragN":
        """Read a later fragment, and check that it lies within its datagram.

        Raises:
            WireError: see the reasons above.
        """
        size, tag, offset = fragn_header(data)
        return cls(size, tag, offset, data[FRAGN_SIZE:])

    def emit(self) -> bytes:
        """The fragment's bytes."""
        header = (0xE000 | self.size).to_bytes(2, "big") + self.tag.to_bytes(2, "big")
        return header + bytes((self.offset >> 3,)) + self.payload


def frag1_header(data: bytes) -> tuple[int, int]:
    """(datagram_size, datagram_tag) of a first fragment; `Frag1.parse` without the object.

    Raises:
        WireError: see the reasons above.
    """
    if len(data) < FRAG1_SIZE:
        raise WireError("truncated", f"{len(data)} bytes of FRAG1: its header has {FRAG1_SIZE}")
    if data[0] & 0xF8 != 0xC0:
        raise WireError("dispatch", f"dispatch 0x{data[0]:02x}: FRAG1 starts with the bits 11000")
    size = (data[0] & 0x07) << 8 | data[1]
    if size < MIN_DATAGRAM:
        raise WireError("frag-size", f"datagram_size {size}: IPv6 starts at {MIN_DATAGRAM}")
    if len(data) == FRAG1_SIZE:
        raise WireError("frag-empty", "a first fragment without octets")
    return size, data[2] << 8 | data[3]


def fragn_header(data: bytes) -> tuple[int, int, int]:
    """(datagram_size, datagram_tag, offset in octets) of a later fragment; `FragN.parse` without the object.

    Raises:
        WireError: see the reasons above.
    """
    if len(data) < FRAGN_SIZE:
        raise WireError("truncated", f"{len(data)} bytes of FRAGN: its header has {FRAGN_SIZE}")
    if data[0] & 0xF8 != 0xE0:
        raise WireError("dispatch", f"dispatch 0x{data[0]:02x}: FRAGN starts with the bits 11100")
    size = (data[0] & 0x07) << 8 | data[1]
    if size < MIN_DATAGRAM:
        raise WireError("frag-size", f"datagram_size {size}: IPv6 starts at {MIN_DATAGRAM}")
    offset = data[4] << 3
    length = len(data) - FRAGN_SIZE
    if offset == 0:
        raise WireError("frag-offset", "datagram_offset 0: that place is the first fragment's")
    if length == 0:
        raise WireError("frag-empty", "a fragment without octets")
    if offset + length > size:
        raise WireError("frag-length", f"octets {offset}..{offset + length} of a datagram of {size}")
    if length & 7 and offset + length != size:
        raise WireError("frag-length", f"a middle fragment of {length} octets: expected a multiple of 8")
    return size, data[2] << 8 | data[3], offset


def cut(
    header: bytes,
    header_octets: int,
    payload: bytes,
    tag: int,
    room: int,
    first: int | None = None,
    step: int | None = None,
) -> list[bytes]:
    """Cut a datagram into 6LoWPAN payloads: one if it fits (and `first` is None), else FRAG1 and FRAGNs.

    Between EUI-64s, with the 6 bytes that compress 48 octets of IPv6 and UDP, up to 98 octets of payload go
    in one frame; else the first fragment carries 88 and each later one 96.

    Args:
        header: the headers as on the air, dispatch included (IPHC, or 0x41 and the bare IPv6 header).
        header_octets: how many octets of the uncompressed datagram `header` stands for, a multiple of 8.
        payload: the octets after those.
        tag: datagram_tag, 16 bits.
        room: bytes of MAC payload in a frame, `wire.ieee802154.room`.
        first: octets of payload in the first fragment, a multiple of 8; None takes all that fit.
        step: octets in each later fragment but the last, a multiple of 8; None takes all that fit.

    Raises:
        WireError: `frag-size` if the datagram has more than 2047 octets; `frag-cut` if `first` or `step` is
            not a positive multiple of 8 (`first` may be 0), or does not fit `room`.
    """
    if first is None and len(header) + len(payload) <= room:
        return [header + payload]
    size = header_octets + len(payload)
    if size > MAX_DATAGRAM:
        raise WireError("frag-size", f"a datagram of {size} octets: 6LoWPAN carries at most {MAX_DATAGRAM}")
    first_room = (room - FRAG1_SIZE - len(header) + header_octets) // 8 * 8 - header_octets
    step_room = (room - FRAGN_SIZE) // 8 * 8
    first = first_room if first is None else first
    step = step_room if step is None else step
    if not 0 <= first <= min(first_room, len(payload)) or first % 8:
        raise WireError(
            "frag-cut", f"a first slice of {first} octets: expected a multiple of 8 up to {first_room}"
        )
    if not 0 < step <= step_room or step % 8:
        raise WireError("frag-cut", f"slices of {step} octets: expected a multiple of 8 up to {step_room}")
    frames = [Frag1(size, tag, header + payload[:first]).emit()]
    for start in range(first, len(payload), step):
        frames.append(FragN(size, tag, header_octets + start, payload[start : start + step]).emit())
    return frames
