"""IPv6 (RFC 8200 §3), UDP (RFC 768) and their checksum (RFC 8200 §8.1).

     0                   1                   2                   3
    +-------+---------------+---------------------------------------+
    | 6     | traffic class | flow label                            |
    +-------+---------------+---------------+-----------------------+
    | payload length                | next header   | hop limit     |
    +-------------------------------+---------------+---------------+
    | source address, 16 bytes                                      |
    | destination address, 16 bytes                                 |
    +---------------------------------------------------------------+

    +-------------------------------+-------------------------------+
    | source port                   | destination port              |
    | length                        | checksum                      |
    +-------------------------------+-------------------------------+

Addresses are `bytes` of 16. Reasons: `truncated`, `ipv6-version`, `udp-length`.
"""

import ipaddress
import struct
from dataclasses import dataclass
from typing import NamedTuple

from wire.errors import WireError

HEADER_SIZE = 40
UDP_HEADER_SIZE = 8
#: Bytes of IPv6 and UDP header in front of a UDP payload without extension headers.
UDP_OFFSET = HEADER_SIZE + UDP_HEADER_SIZE
#: Smallest MTU of IPv6, and the largest datagram that RFC 4944 promises to carry.
MTU = 1280
TCP, UDP, ICMPV6 = 6, 17, 58
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _OPTIONS = 0, 43, 44, 60
_MAX_EXTENSIONS = 8

_HEADER = struct.Struct(">IHBB16s16s")
_UDP = struct.Struct(">HHHH")


class Upper(NamedTuple):
    """What follows the extension headers of an IPv6 payload.

    Attributes:
        protocol: its number; that of an extension header if the walk ended there.
        offset: where it starts in the IPv6 payload, in octets.
        routed: whether a routing header still has segments to visit: then checksums are not those of the
            destination address in the IPv6 header.
    """

    protocol: int
    offset: int
    routed: bool


def upper_layer(next_header: int, payload: bytes) -> Upper:
    """Walk the extension headers of an IPv6 payload (RFC 8200 §4), eight at most.

    The walk ends before a header that is cut short, and before the fragment header of a real fragment, which
    holds only a part of what follows.
    """
    at, routed = 0, False
    for _ in range(_MAX_EXTENSIONS):
        if next_header not in (_HOP_BY_HOP, _ROUTING, _FRAGMENT, _OPTIONS) or at + 8 > len(payload):
            break
        size = 8 if next_header == _FRAGMENT else 8 * payload[at + 1] + 8
        if at + size > len(payload):
            break
        # Offset and M flag; the two bits between them are reserved.
        if next_header == _FRAGMENT and (payload[at + 2] or payload[at + 3] & 0xF9):
            break
        routed |= next_header == _ROUTING and payload[at + 3] > 0
        next_header = payload[at]
        at += size
    return Upper(next_header, at, routed)


def text(address: bytes) -> str:
    """An IPv6 address of 16 bytes as RFC 5952 text."""
    return str(ipaddress.IPv6Address(address))


@dataclass(slots=True)
class Ipv6Header:
    """The fixed IPv6 header. `payload_length` counts what follows it, in bytes."""

    src: bytes
    dst: bytes
    next_header: int
    payload_length: int
    hop_limit: int = 64
    traffic_class: int = 0
    flow_label: int = 0

    @classmethod
    def parse(cls, data: bytes) -> "Ipv6Header":
        """Read the first 40 bytes of `data`; whether the payload is all there is the caller's to check.

        Raises:
            WireError: `truncated` or `ipv6-version`.
        """
        if len(data) < HEADER_SIZE:
            raise WireError("truncated", f"{len(data)} bytes of IPv6: the header has {HEADER_SIZE}")
        word, length, next_header, hop_limit, src, dst = _HEADER.unpack_from(data)
        if word >> 28 != 6:
            raise WireError("ipv6-version", f"IP version {word >> 28}: expected 6")
        return cls(src, dst, next_header, length, hop_limit, word >> 20 & 0xFF, word & 0xFFFFF)

    def emit(self) -> bytes:
        """The header's 40 bytes."""
        word = 6 << 28 | self.traffic_class << 20 | self.flow_label
        return _HEADER.pack(word, self.payload_length, self.next_header, self.hop_limit, self.src, self.dst)


@dataclass(slots=True)
class UdpHeader:
    """The UDP header. `length` counts the header's 8 bytes too."""

    sport: int
    dport: int
    length: int
    checksum: int

    @classmethod
    def parse(cls, data: bytes) -> "UdpHeader":
        """Read the first 8 bytes of `data`.

        Raises:
            WireError: `truncated`, or `udp-length` if the length does not even cover the header.
        """
        if len(data) < UDP_HEADER_SIZE:
            raise WireError("truncated", f"{len(data)} bytes of UDP: the header has {UDP_HEADER_SIZE}")
        header = cls(*_UDP.unpack_from(data))
        if header.length < UDP_HEADER_SIZE:
            raise WireError(
                "udp-length", f"UDP length {header.length}: the header alone has {UDP_HEADER_SIZE}"
            )
        return header

    def emit(self) -> bytes:
        """The header's 8 bytes."""
        return _UDP.pack(self.sport, self.dport, self.length, self.checksum)


def pseudo_header(src: bytes, dst: bytes, length: int, next_header: int) -> bytes:
    """The 40 bytes that an upper-layer checksum covers besides the segment of `length` bytes."""
    return src + dst + length.to_bytes(4, "big") + next_header.to_bytes(4, "big")


def ones_complement(data: bytes) -> int:
    """The one's complement sum of `data` as 16-bit words, 0..65534 (where 65535 and 0 are one value)."""
    # 2^16 = 1 modulo 2^16 - 1: the sum of the words is the whole number's remainder.
    number = int.from_bytes(data, "big")
    return (number << 8 if len(data) & 1 else number) % 0xFFFF


def udp_checksum(src: bytes, dst: bytes, sport: int, dport: int, payload: bytes) -> int:
    """The UDP checksum, 1..65535, of `payload` sent between these addresses (16 bytes) and ports."""
    length = UDP_HEADER_SIZE + len(payload)
    header = _UDP.pack(sport, dport, length, 0)
    return 0xFFFF - ones_complement(pseudo_header(src, dst, length, UDP) + header + payload)


def checksum_is_good(src: bytes, dst: bytes, next_header: int, segment: bytes) -> bool:
    """Whether a segment, with its checksum in place, sums up as RFC 8200 §8.1 asks."""
    return ones_complement(pseudo_header(src, dst, len(segment), next_header) + segment) == 0
