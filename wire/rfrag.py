"""RFC 8931 §5: the recoverable fragment and its acknowledgement.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
                    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
                    |1 1 1 0 1 0 0|E| datagram_tag  |                 RFRAG
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |X|sequence |   fragment_size   |       fragment_offset         |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
                    |1 1 1 0 1 0 1|E| datagram_tag  |                 RFRAG-ACK
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |             bitmap, sequence 0 at the left                    |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

Size and offset count octets of the **compressed** datagram. In sequence 0, fragment_offset is the datagram's
size; an offset of 0 is the sender's abort. Reasons: `truncated`, `dispatch`, `frag-length`.
"""

from dataclasses import dataclass

from wire.errors import WireError

HEADER_SIZE = 6
#: Fragments of one datagram, and the octets that fragment_size can count in each.
SEQUENCES = 32
MAX_FRAGMENT = 1023
NULL_BITMAP = 0
FULL_BITMAP = 0xFFFFFFFF


@dataclass(slots=True)
class Rfrag:
    """A recoverable fragment.

    Args:
        tag: datagram_tag, 8 bits.
        sequence: 0..31, 0 for the first fragment.
        offset: fragment_offset, 16 bits: where the payload starts, or in sequence 0 the datagram's size.
        payload: octets of the compressed datagram, at most 1023.
        ack_request: X.
        congestion: E.
    """

    tag: int
    sequence: int
    offset: int
    payload: bytes
    ack_request: bool = False
    congestion: bool = False

    @property
    def is_abort(self) -> bool:
        """Whether the sender gives the datagram up."""
        return self.offset == 0

    @classmethod
    def parse(cls, data: bytes) -> "Rfrag":
        """Read a fragment. In sequence 0, that it is no longer than its datagram is checked too.

        Raises:
            WireError: see the reasons above.
        """
        _check(data, 0xE8, "RFRAG")
        word = data[2] << 8 | data[3]
        offset = data[4] << 8 | data[5]
        payload = data[HEADER_SIZE:]
        if word & 0x3FF != len(payload):
            raise WireError(
                "frag-length", f"fragment_size {word & 0x3FF}, and {len(payload)} octets are there"
            )
        sequence = word >> 10 & 0x1F
        if offset and sequence == 0 and len(payload) > offset:
            raise WireError(
                "frag-length", f"a first fragment of {len(payload)} octets in a datagram of {offset}"
            )
        return cls(data[1], sequence, offset, payload, bool(word & 0x8000), bool(data[0] & 1))

    def emit(self) -> bytes:
        """The fragment's bytes."""
        word = self.ack_request << 15 | self.sequence << 10 | len(self.payload)
        header = (
            bytes((0xE8 | self.congestion, self.tag))
            + word.to_bytes(2, "big")
            + self.offset.to_bytes(2, "big")
        )
        return header + self.payload


@dataclass(slots=True)
class RfragAck:
    """An acknowledgement. `bitmap`: 32 bits, sequence 0 the most significant; 0 aborts, all ones is done."""

    tag: int
    bitmap: int
    congestion: bool = False

    @property
    def is_abort(self) -> bool:
        """Whether the receiver gives the datagram up."""
        return self.bitmap == NULL_BITMAP

    @classmethod
    def parse(cls, data: bytes) -> "RfragAck":
        """Read an acknowledgement.

        Raises:
            WireError: see the reasons above; `frag-length` if anything follows it.
        """
        _check(data, 0xEA, "RFRAG-ACK")
        if len(data) != HEADER_SIZE:
            raise WireError("frag-length", f"an RFRAG-ACK of {len(data)} bytes: expected {HEADER_SIZE}")
        return cls(data[1], int.from_bytes(data[2:], "big"), bool(data[0] & 1))

    def emit(self) -> bytes:
        """The acknowledgement's bytes."""
        return bytes((0xEA | self.congestion, self.tag)) + self.bitmap.to_bytes(4, "big")


def _check(data: bytes, dispatch: int, name: str) -> None:
    if len(data) < HEADER_SIZE:
        raise WireError("truncated", f"{len(data)} bytes of {name}: its header has {HEADER_SIZE}")
    if data[0] & 0xFE != dispatch:
        raise WireError(
            "dispatch", f"dispatch 0x{data[0]:02x}: {name} starts with the bits {dispatch >> 1:07b}"
        )
