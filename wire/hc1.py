"""The first header compression of 6LoWPAN, HC1 and HC_UDP (RFC 4944 §10); RFC 6282 replaced it.

     0   1   2   3   4   5   6   7
    +---+---+---+---+---+---+---+---+     SA, DA  bit 0: the prefix is link-local, and not sent
    |  SA   |  DA   | T |  NH   |HC2|             bit 1: the interface identifier follows from the frame
    +---+---+---+---+---+---+---+---+     T       traffic class and flow label are 0, and not sent
                                          NH      0 sent, 1 UDP, 2 ICMPv6, 3 TCP
    +---+---+---+---+---+---+---+---+     HC2     UDP is compressed too, and says how:
    | S | D | L |         0         |     S, D    the port is 61616 plus 4 bits;  L  the length follows
    +---+---+---+---+---+---+---+---+

Then, bit by bit without padding: hop limit 8, the source's prefix 64 and identifier 64, the destination's,
traffic class 8 and flow label 20, next header 8, ports 16 or 4, length 16, checksum 16. The payload starts at
the next byte.

Reasons: `truncated`, `dispatch`, `hc1`, `address-missing`, `datagram-size`.
"""

from wire import eui64
from wire.errors import WireError
from wire.iphc import MAX_DATAGRAM, Decompressed
from wire.ipv6 import HEADER_SIZE, ICMPV6, TCP, UDP, UDP_HEADER_SIZE, Ipv6Header, UdpHeader

DISPATCH = 0x42
_PORTS = 0xF0B0
_LINK_LOCAL = bytes.fromhex("fe80000000000000")
_NEXT_HEADERS = (None, UDP, ICMPV6, TCP)


class _Bits:
    """Takes fields of any number of bits off the front of `data`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, bits: int) -> int:
        start, end = self._at, self._at + bits
        last = -(-end // 8)
        if last > len(self._data):
            raise WireError("truncated", f"HC1 promises {last} bytes, and {len(self._data)} are there")
        self._at = end
        number = int.from_bytes(self._data[start // 8 : last], "big")
        return number >> 8 * last - end & (1 << bits) - 1

    def rest(self) -> bytes:
        return self._data[-(-self._at // 8) :]


def decompress(
    data: bytes, l2_src: bytes | None, l2_dst: bytes | None, datagram_size: int | None = None
) -> Decompressed:
    """Read a datagram, or the first fragment of one, that starts with the HC1 dispatch.

    Args:
        data: from the dispatch on.
        l2_src, l2_dst: link-layer addresses, 8 or 2 bytes, from which elided identifiers follow.
        datagram_size: octets of the uncompressed datagram, if `data` is a first fragment.

    Raises:
        WireError: see the reasons above.
    """
    bits = _Bits(data)
    dispatch = bits.take(8)
    if dispatch != DISPATCH:
        raise WireError("dispatch", f"dispatch 0x{dispatch:02x}: HC1 starts with 0x{DISPATCH:02x}")
    encoding = bits.take(8)
    next_header = _NEXT_HEADERS[encoding >> 1 & 3]
    ports = 0
    if encoding & 1:
        if next_header != UDP:
            raise WireError("hc1", f"HC1 0x{encoding:02x} says that more is compressed, and UDP isn't next")
        ports = bits.take(8)
    hop_limit = bits.take(8)
    src = _address(bits, encoding >> 6, l2_src, "source")
    dst = _address(bits, encoding >> 4, l2_dst, "destination")
    traffic_class, flow_label = (0, 0) if encoding & 8 else (bits.take(8), bits.take(20))
    if next_header is None:
        next_header = bits.take(8)
    header = Ipv6Header(src, dst, next_header, 0, hop_limit, traffic_class, flow_label)
    udp = None
    if encoding & 1:
        sport = _PORTS | bits.take(4) if ports & 0x80 else bits.take(16)
        dport = _PORTS | bits.take(4) if ports & 0x40 else bits.take(16)
        length = 0 if ports & 0x20 else bits.take(16)
        udp = UdpHeader(sport, dport, length, bits.take(16))
    payload = bits.rest()
    size = HEADER_SIZE + (UDP_HEADER_SIZE if udp else 0) + len(payload)
    total = size if datagram_size is None else datagram_size
    if size > total or total > MAX_DATAGRAM:
        raise WireError("datagram-size", f"{size} octets of a datagram of {total}: at most {MAX_DATAGRAM} go")
    header.payload_length = total - HEADER_SIZE
    if udp is not None and ports & 0x20:
        udp.length = header.payload_length
    headers = header.emit() + (udp.emit() if udp else b"")
    return Decompressed(header, udp, headers, payload, ("udp",) if udp else ())


def _address(bits: _Bits, form: int, l2: bytes | None, which: str) -> bytes:
    prefix = _LINK_LOCAL if form & 2 else bits.take(64).to_bytes(8, "big")
    if not form & 1:
        return prefix + bits.take(64).to_bytes(8, "big")
    if l2 is None:
        raise WireError("address-missing", f"the {which} is elided, and the frame names none")
    return prefix + eui64.iid(l2)
