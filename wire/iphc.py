"""IPv6 header compression for 802.15.4: IPHC and next-header compression (RFC 6282 §3 and §4).

      0   1   2   3   4   5   6   7   8   9  10  11  12  13  14  15
    +---+---+---+---+---+---+---+---+---+---+---+---+---+---+---+---+
    | 0   1   1 |  TF   | NH| HLIM  |CID|SAC|  SAM  | M |DAC|  DAM  |  [contexts]  in-line fields
    +---+---+---+---+---+---+---+---+---+---+---+---+---+---+---+---+

    UDP        | 1 1 1 1 0 | C | P P |          ports, then the checksum unless C
    extension  | 1 1 1 0 | EID 3 | NH |         [next header], length in octets, the header's octets

Between link-local addresses made from the frame's own addresses, with UDP ports 61616..61631 at both ends,
6 bytes replace the 48 of IPv6 and UDP: 7e 33, f3, ports, checksum.

Reasons: `truncated`, `dispatch`, `iphc-mode`, `context-missing`, `address-missing`, `nhc`, `extension-chain`,
`extension-length`, `datagram-size`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from wire import eui64
from wire.errors import WireError
from wire.ipv6 import HEADER_SIZE, UDP, UDP_HEADER_SIZE, Ipv6Header, UdpHeader, udp_checksum

#: Headers (IPv6, extensions, UDP) that one datagram may stack: more is an attack on the decompressor.
MAX_HEADERS = 8
#: IPv6 counts no more octets, without a jumbo payload; datagram_size, where there is one, only 2047.
MAX_DATAGRAM = HEADER_SIZE + 0xFFFF

_NHC_UDP, _NHC_UDP_MASK = 0xF0, 0xF8
_NHC_EXTENSION, _NHC_EXTENSION_MASK = 0xE0, 0xF0
_HOP_BY_HOP, _IPV6, _ROUTING, _FRAGMENT, _OPTIONS, _MOBILITY = 0, 41, 43, 44, 60, 135
_EXTENSIONS = {0: _HOP_BY_HOP, 1: _ROUTING, 2: _FRAGMENT, 3: _OPTIONS, 4: _MOBILITY, 7: _IPV6}
_HOP_LIMITS = {1: 1, 64: 2, 255: 3}
_LINK_LOCAL = bytes.fromhex("fe80000000000000")
_SHORT_IID = bytes.fromhex("000000fffe00")
_UNSPECIFIED = bytes(16)


class Prefix(NamedTuple):
    """A context: `length` bits of `address`, 16 bytes."""

    address: bytes
    length: int = 64


Contexts = Mapping[int, Prefix]


@dataclass(slots=True)
class Decompressed:
    """What a compressed datagram, or its first fragment, says.

    Args:
        header: the outermost IPv6 header.
        udp: the UDP header, if it was compressed; its checksum is 0 where it was elided and the payload, of
            which this may be the first fragment only, isn't all there.
        headers: the headers' octets in their uncompressed form.
        payload: the octets after the compressed headers, as on the air.
        nhc: which next-header compressions were met, in order: "ext", "ipv6", "udp".
    """

    header: Ipv6Header
    udp: UdpHeader | None
    headers: bytes
    payload: bytes
    nhc: tuple[str, ...]


def decompress(
    data: bytes,
    l2_src: bytes | None,
    l2_dst: bytes | None,
    contexts: Contexts | None = None,
    datagram_size: int | None = None,
) -> Decompressed:
    """Read a datagram, or the first fragment of one, that starts with an IPHC header.

    Args:
        data: from the IPHC dispatch on.
        l2_src, l2_dst: link-layer addresses, 8 or 2 bytes, from which elided addresses follow.
        contexts: the contexts in force, by their number 0..15.
        datagram_size: octets of the uncompressed datagram, if `data` is a first fragment.

    Raises:
        WireError: see the reasons above.
    """
    reader = _Reader(data, contexts or {})
    header = reader.ipv6(
        eui64.iid(l2_src) if l2_src is not None else None, eui64.iid(l2_dst) if l2_dst is not None else None
    )
    payload = data[reader.at :]
    size = reader.size + len(payload)
    whole = datagram_size is None or datagram_size == size
    total = size if datagram_size is None else datagram_size
    if size > total or total > MAX_DATAGRAM:
        raise WireError("datagram-size", f"{size} octets of a datagram of {total}: at most {MAX_DATAGRAM} go")
    parts = []
    left = total
    for piece in reader.pieces:
        if isinstance(piece, bytes):
            parts.append(piece)
            left -= len(piece)
            continue
        if isinstance(piece, Ipv6Header):
            left -= HEADER_SIZE
            piece.payload_length = left
        else:
            piece.length = left
            if reader.checksum_elided and whole:
                inner = reader.innermost
                piece.checksum = udp_checksum(inner.src, inner.dst, piece.sport, piece.dport, payload)
        parts.append(piece.emit())
    return Decompressed(header, reader.udp, b"".join(parts), payload, tuple(reader.nhc))


class _Reader:
    """Walks the compressed headers of one datagram, and keeps what they expand to in order."""

    def __init__(self, data: bytes, contexts: Contexts) -> None:
        self.data = data
        self.at = 0
        self.contexts = contexts
        self.pieces: list[Ipv6Header | UdpHeader | bytes] = []
        self.size = 0
        self.nhc: list[str] = []
        self.udp: UdpHeader | None = None
        self.checksum_elided = False
        self.innermost: Ipv6Header

    def take(self, count: int) -> bytes:
        end = self.at + count
        taken = self.data[self.at : end]
        if len(taken) != count:
            raise WireError(
                "truncated", f"the compressed header promises {end} bytes, and {len(self.data)} are there"
            )
        self.at = end
        return taken

    def push(self, piece: Ipv6Header | UdpHeader | bytes, size: int) -> None:
        if len(self.pieces) == MAX_HEADERS:
            raise WireError("extension-chain", f"more than {MAX_HEADERS} headers in one datagram")
        self.pieces.append(piece)
        self.size += size

    def ipv6(self, src_iid: bytes | None, dst_iid: bytes | None) -> Ipv6Header:
        """One IPHC header and the compressed headers that follow it."""
        first, second = self.take(2)
        if first & 0xE0 != 0x60:
            raise WireError("dispatch", f"dispatch 0x{first:02x}: IPHC starts with the bits 011")
        src_context = dst_context = 0
        if second & 0x80:
            both = self.take(1)[0]
            src_context, dst_context = both >> 4, both & 0x0F
        traffic_class, flow_label = self._traffic(first >> 3 & 0x03)
        compressed = bool(first & 0x04)
        next_header = -1 if compressed else self.take(1)[0]
        hop_limit = (0, 1, 64, 255)[first & 0x03] or self.take(1)[0]
        if second & 0x40:
            src = self._stateful(second >> 4 & 0x03, src_context, src_iid)
        else:
            src = self._stateless(second >> 4 & 0x03, src_iid, "source")
        mode = second & 0x03
        if second & 0x08:
            dst = self._multicast_stateful(mode, dst_context) if second & 0x04 else self._multicast(mode)
        elif second & 0x04:
            if mode == 0:
                raise WireError("iphc-mode", "M=0, DAC=1, DAM=0 is reserved")
            dst = self._stateful(mode, dst_context, dst_iid)
        else:
            dst = self._stateless(mode, dst_iid, "destination")
        if compressed:
            next_header = self._next_protocol()
        header = Ipv6Header(src, dst, next_header, 0, hop_limit, traffic_class, flow_label)
        self.innermost = header
        self.push(header, HEADER_SIZE)
        if compressed:
            self._compressed(src, dst)
        return header

    def _traffic(self, form: int) -> tuple[int, int]:
        """Traffic class and flow label; in line, ECN comes before DSCP."""
        if form == 3:
            return 0, 0
        first = self.take(1)[0]
        ecn = first >> 6
        if form == 2:
            return (first & 0x3F) << 2 | ecn, 0
        if form == 1:
            return ecn, (first & 0x0F) << 16 | int.from_bytes(self.take(2), "big")
        return (first & 0x3F) << 2 | ecn, int.from_bytes(self.take(3), "big") & 0xFFFFF

    def _stateless(self, mode: int, iid: bytes | None, which: str) -> bytes:
        if mode == 3:
            if iid is None:
                raise WireError("address-missing", f"the {which} is elided, and the frame names none")
            return _LINK_LOCAL + iid
        if mode == 2:
            return _LINK_LOCAL + _SHORT_IID + self.take(2)
        if mode == 1:
            return _LINK_LOCAL + self.take(8)
        return self.take(16)

    def _context(self, number: int) -> Prefix:
        prefix = self.contexts.get(number)
        if prefix is None:
            raise WireError("context-missing", f"an address needs context {number}, which isn't known here")
        return prefix

    def _stateful(self, mode: int, number: int, iid: bytes | None) -> bytes:
        if mode == 0:
            return _UNSPECIFIED
        prefix = self._context(number)
        if mode == 1:
            low = self.take(8)
        elif mode == 2:
            low = _SHORT_IID + self.take(2)
        elif iid is not None:
            low = iid
        elif prefix.length == 128:
            low = bytes(8)
        else:
            raise WireError("address-missing", "an address is elided, and the frame names none")
        return _overlay(prefix, int.from_bytes(low, "big"))

    def _multicast(self, mode: int) -> bytes:
        if mode == 0:
            return self.take(16)
        if mode == 3:
            return b"\xff\x02" + bytes(13) + self.take(1)
        head = b"\xff" + self.take(1)
        low = self.take(5 if mode == 1 else 3)
        return head + bytes(14 - len(low)) + low

    def _multicast_stateful(self, mode: int, number: int) -> bytes:
        if mode:
            raise WireError("iphc-mode", f"M=1, DAC=1, DAM={mode} is reserved")
        prefix = self._context(number)
        inline = self.take(6)
        high = _overlay(Prefix(prefix.address, min(prefix.length, 64)), 0)[:8]
        return b"\xff" + inline[:2] + bytes((min(prefix.length, 64),)) + high + inline[2:]

    def _next_protocol(self) -> int:
        """The protocol of the compressed header that comes next, which is not consumed."""
        if self.at >= len(self.data):
            raise WireError("truncated", "a compressed next header is promised, and none is there")
        return _nhc_protocol(self.data[self.at])

    def _compressed(self, src: bytes, dst: bytes) -> None:
        while True:
            nhc = self.take(1)[0]
            protocol = _nhc_protocol(nhc)
            if protocol == UDP:
                self._udp(nhc)
                return
            if protocol == _IPV6:
                if nhc & 0x01:
                    raise WireError("nhc", "NH is set in the compression of an IPv6 header")
                self.nhc.append("ipv6")
                self.ipv6(src[8:], dst[8:])
                return
            self.nhc.append("ext")
            if not self._extension(nhc, protocol):
                return

    def _extension(self, nhc: int, protocol: int) -> bool:
        """One extension header; whether another compressed header follows."""
        compressed = bool(nhc & 0x01)
        next_header = -1 if compressed else self.take(1)[0]
        if protocol == _FRAGMENT:
            # No length in this one: its reserved octet stands there, and six octets follow.
            second, body = self.take(1)[0], self.take(6)
        else:
            body = self.take(self.take(1)[0])
            missing = -(2 + len(body)) % 8
            if missing and protocol not in (_HOP_BY_HOP, _OPTIONS):
                raise WireError(
                    "extension-length",
                    f"an extension header of {2 + len(body)} octets: expected a multiple of 8",
                )
            if missing:
                # The sender elided the trailing padding option (RFC 6282 §4.2).
                body += bytes((1, missing - 2)) + bytes(missing - 2) if missing > 1 else b"\0"
            if not body:
                raise WireError("extension-length", "an extension header without octets")
            second = (2 + len(body)) // 8 - 1
        if compressed:
            next_header = self._next_protocol()
        self.push(bytes((next_header, second)) + body, 2 + len(body))
        return compressed

    def _udp(self, nhc: int) -> None:
        ports = nhc & 0x03
        if ports == 3:
            both = self.take(1)[0]
            sport, dport = 0xF0B0 | both >> 4, 0xF0B0 | both & 0x0F
        elif ports == 0:
            four = self.take(4)
            sport, dport = four[0] << 8 | four[1], four[2] << 8 | four[3]
        else:
            three = self.take(3)
            if ports == 1:
                sport, dport = three[0] << 8 | three[1], 0xF000 | three[2]
            else:
                sport, dport = 0xF000 | three[0], three[1] << 8 | three[2]
        self.checksum_elided = bool(nhc & 0x04)
        checksum = 0 if self.checksum_elided else int.from_bytes(self.take(2), "big")
        self.nhc.append("udp")
        self.udp = UdpHeader(sport, dport, UDP_HEADER_SIZE, checksum)
        self.push(self.udp, UDP_HEADER_SIZE)


def _nhc_protocol(nhc: int) -> int:
    if nhc & _NHC_UDP_MASK == _NHC_UDP:
        return UDP
    if nhc & _NHC_EXTENSION_MASK == _NHC_EXTENSION:
        protocol = _EXTENSIONS.get(nhc >> 1 & 0x07)
        if protocol is not None:
            return protocol
    raise WireError(
        "nhc", f"next-header compression 0x{nhc:02x}: expected UDP (0xf0..f7) or an extension (0xe0..ef)"
    )


def _overlay(prefix: Prefix, low: int) -> bytes:
    """The context's bits, then those of `low` (RFC 6282 §3.1.1: bits of a context are always used)."""
    mask = (1 << 128) - (1 << 128 - prefix.length)
    return (int.from_bytes(prefix.address, "big") & mask | low & ~mask).to_bytes(16, "big")


def compress(
    header: Ipv6Header, l2_src: bytes | None, l2_dst: bytes | None, udp: UdpHeader | None = None
) -> bytes:
    """The shortest stateless compression of an IPv6 header and, if given, the UDP header after it.

    The lengths are not sent: a receiver derives them from the frame or from the fragments' datagram_size. The
    UDP checksum always is.

    Args:
        header: its `next_header` is sent in line unless `udp` is given.
        l2_src, l2_dst: the frame's addresses, 8 or 2 bytes: an IPv6 address that follows from one is elided.
        udp: the UDP header, if it follows the IPv6 header directly.
    """
    ecn, dscp = header.traffic_class & 0x03, header.traffic_class >> 2
    if header.flow_label == 0:
        form, traffic = (2, bytes((ecn << 6 | dscp,))) if header.traffic_class else (3, b"")
    elif dscp == 0:
        form, traffic = 1, (ecn << 22 | header.flow_label).to_bytes(3, "big")
    else:
        form, traffic = 0, (ecn << 30 | dscp << 24 | header.flow_label).to_bytes(4, "big")
    hops = _HOP_LIMITS.get(header.hop_limit, 0)
    if header.src == _UNSPECIFIED:
        src_mode, src = 0x40, b""
    else:
        mode, src = _compress_unicast(header.src, l2_src)
        src_mode = mode << 4
    if header.dst[0] == 0xFF:
        dst_mode, dst = _compress_multicast(header.dst)
    else:
        dst_mode, dst = _compress_unicast(header.dst, l2_dst)
    return b"".join(
        (
            bytes((0x60 | form << 3 | (0x04 if udp else 0) | hops, src_mode | dst_mode)),
            traffic,
            b"" if udp else bytes((header.next_header,)),
            b"" if hops else bytes((header.hop_limit,)),
            src,
            dst,
            _compress_udp(udp) if udp else b"",
        )
    )


def compress_udp(
    src: bytes,
    dst: bytes,
    sport: int,
    dport: int,
    checksum: int,
    l2_src: bytes | None,
    l2_dst: bytes | None,
    hop_limit: int = 64,
) -> bytes:
    """The compressed IPv6 and UDP headers of a datagram, as the UDP payload follows them on the air.

    Args:
        src, dst: IPv6 addresses, 16 bytes.
        sport, dport: UDP ports.
        checksum: the UDP checksum, which `wire.ipv6.udp_checksum` computes.
        l2_src, l2_dst: the frame's addresses, 8 or 2 bytes.
        hop_limit: 1, 64 and 255 cost nothing.
    """
    header = Ipv6Header(src, dst, UDP, 0, hop_limit)
    return compress(header, l2_src, l2_dst, UdpHeader(sport, dport, 0, checksum))


def _compress_unicast(address: bytes, l2: bytes | None) -> tuple[int, bytes]:
    if address[:8] != _LINK_LOCAL:
        return 0, address
    low = address[8:]
    if l2 is not None and low == eui64.iid(l2):
        return 3, b""
    if low[:6] == _SHORT_IID:
        return 2, low[6:]
    return 1, low


def _compress_multicast(address: bytes) -> tuple[int, bytes]:
    if address[1] == 0x02 and not any(address[2:15]):
        return 0x0B, address[15:]
    if not any(address[2:13]):
        return 0x0A, address[1:2] + address[13:]
    if not any(address[2:11]):
        return 0x09, address[1:2] + address[11:]
    return 0x08, address


def _compress_udp(udp: UdpHeader) -> bytes:
    checksum = udp.checksum.to_bytes(2, "big")
    sport, dport = udp.sport, udp.dport
    if sport >> 4 == dport >> 4 == 0xF0B:
        return bytes((_NHC_UDP | 3, (sport & 0x0F) << 4 | dport & 0x0F)) + checksum
    if dport >> 8 == 0xF0:
        return bytes((_NHC_UDP | 1, sport >> 8, sport & 0xFF, dport & 0xFF)) + checksum
    if sport >> 8 == 0xF0:
        return bytes((_NHC_UDP | 2, sport & 0xFF, dport >> 8, dport & 0xFF)) + checksum
    return bytes((_NHC_UDP, sport >> 8, sport & 0xFF, dport >> 8, dport & 0xFF)) + checksum
