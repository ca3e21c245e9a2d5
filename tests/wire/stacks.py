"""Captures by hand, in the forms that stacks in the field send (RIOT, Contiki-NG, OpenThread, Zephyr, Linux).

Every case names what is in it and what a reader must find: (number of the frame that completes it, source,
destination, octets of IPv6, payload). Headers are literal bytes after RFC 4944, 6282, 6775 and 8931; only
checksums, and the cut into fragments, are computed.
"""

from dataclasses import dataclass, field

from tests.wire.captures import compressed_udp, rfrags
from wire import frag
from wire.eui64 import link_local
from wire.ieee802154 import FrameKind, MacFrame
from wire.ipv6 import ICMPV6, UDP, Ipv6Header, UdpHeader, ones_complement, pseudo_header, text, udp_checksum
from wire.rfrag import RfragAck

PAN = 0xABCD
#: EUI-64s and short addresses of three nodes, and the broadcast address.
A, B, C = (bytes.fromhex(f"00124b00060d9b{n:02x}") for n in (1, 2, 3))
SA, SB, SC, ALL = (bytes.fromhex(x) for x in ("0001", "0002", "0003", "ffff"))
CONTEXTS = {0: "fd00::/64", 1: "2001:db8:1:2::/64", 2: "2001:db8:0:0:aa:bb:cc:dd/128", 15: "fd11:22::/48"}

Found = tuple[int, str, str, int, str]


@dataclass
class Case:
    """Frames with their FCS, and the datagrams in them. Contexts are those of `CONTEXTS` if `contexts`."""

    frames: list[bytes]
    datagrams: list[Found]
    contexts: bool = False
    #: Frames of which no oracle but this module says what is in them.
    no_oracle: str = ""


CASES: dict[str, Case] = {}


def h(digits: str) -> bytes:
    return bytes.fromhex(digits)


@dataclass
class Air:
    """Makes frames, and numbers them."""

    src: bytes = A
    dst: bytes = B
    version: int = 1
    frames: list[bytes] = field(default_factory=list)
    datagrams: list[Found] = field(default_factory=list)

    def say(self, payload: bytes, src: bytes | None = None, dst: bytes | None = None, **more: object) -> None:
        seq = len(self.frames) & 0xFF
        fields = {"version": self.version} | more
        frame = MacFrame(FrameKind.DATA, seq, PAN, dst or self.dst, src or self.src, payload, **fields)  # type: ignore[arg-type]
        self.frames.append(frame.emit())

    def raw(self, frame: MacFrame) -> None:
        self.frames.append(frame.emit())

    def whole(self, src: bytes, dst: bytes, size: int, payload: bytes) -> None:
        """The last frame completes this datagram."""
        self.datagrams.append((len(self.frames), text(src), text(dst), size, payload.hex()))

    def case(self, name: str, *, contexts: bool = False, no_oracle: str = "") -> None:
        assert name not in CASES
        CASES[name] = Case(self.frames, self.datagrams, contexts, no_oracle)


def address(prefix: str, iid: bytes) -> bytes:
    return h(prefix).ljust(16 - len(iid), b"\0") + iid


def udp(src: bytes, dst: bytes, payload: bytes, sport: int = 0xF0B1, dport: int = 0xF0B2) -> bytes:
    """UDP, uncompressed."""
    length = 8 + len(payload)
    return UdpHeader(sport, dport, length, udp_checksum(src, dst, sport, dport, payload)).emit() + payload


def icmpv6(src: bytes, dst: bytes, body: bytes) -> bytes:
    """An ICMPv6 message with its checksum."""
    checksum = 0xFFFF - ones_complement(pseudo_header(src, dst, len(body), ICMPV6) + body)
    return body[:2] + checksum.to_bytes(2, "big") + body[4:]


LA, LB, LC = map(link_local, (A, B, C))
LSA, LSB = map(link_local, (SA, SB))
TEXT = b"hello, 6LoWPAN"


def _udp_ports() -> None:
    """NHC UDP: every form of the ports, with the checksum and without."""
    air = Air()
    for form, sport, dport, inline in (
        (0, 5683, 5684, "16331634"),
        (1, 5683, 0xF017, "163317"),
        (2, 0xF0AA, 1234, "aa04d2"),
        (3, 0xF0B4, 0xF0BF, "4f"),
    ):
        checksum = udp_checksum(LA, LB, sport, dport, TEXT).to_bytes(2, "big")
        air.say(h("7e33") + bytes((0xF0 | form,)) + h(inline) + checksum + TEXT)
        air.whole(LA, LB, 48 + len(TEXT), TEXT)
        air.say(h("7e33") + bytes((0xF4 | form,)) + h(inline) + TEXT)
        air.whole(LA, LB, 48 + len(TEXT), TEXT)
    air.case("udp-ports-and-elided-checksum")


def _traffic_class_and_hop_limit() -> None:
    air = Air()
    for first, inline in (
        ("62", "47054321"), ("6a", "854321"), ("72", "ee"), ("7a", ""), ("79", ""), ("7b", ""), ("78", "2a"),
    ):  # fmt: skip
        hop = inline[-2:] if first == "78" else ""
        air.say(h(first) + h("33") + h(inline.removesuffix(hop)) + h("3b") + h(hop))
        air.whole(LA, LB, 40, b"")
    air.case("traffic-class-flow-label-hop-limit")


def _addresses() -> None:
    """Stateless addresses, each mode; multicast, each mode; from and to short addresses."""
    air = Air()
    g, x = h("20010db8000000000000000000000abc"), h("20010db8000000000000000000000def")
    iid = h("0212aabbccddeeff")
    for modes, inline, src, dst in (
        ("33", "", LA, LB),
        ("00", (g + x).hex(), g, x),
        ("11", (iid + iid[::-1]).hex(), address("fe80", iid), address("fe80", iid[::-1])),
        ("22", "12345678", link_local(h("1234")), link_local(h("5678"))),
        ("4a", "02000001", bytes(16), h("ff02") + bytes(11) + h("000001")),
        ("3b", "1a", LA, h("ff02") + bytes(13) + b"\x1a"),
        ("3a", "0500fe01", LA, h("ff05") + bytes(11) + h("00fe01")),
        ("39", "020100000002", LA, h("ff02") + bytes(9) + h("0100000002")),
        ("38", "ff0e" + "11" * 14, LA, h("ff0e" + "11" * 14)),
    ):
        air.say(h("7a" + modes + "3b" + inline))
        air.whole(src, dst, 40, b"")
    air.say(h("7a333b"), src=SA, dst=SB)
    air.whole(LSA, LSB, 40, b"")
    air.say(h("7a3b3b01"), src=SA, dst=ALL)
    air.whole(LSA, h("ff02") + bytes(13) + b"\1", 40, b"")
    air.case("addresses-without-contexts")


def _contexts() -> None:
    """Stateful addresses: context 0 without its byte, others, one of 128 bits, one of 48, multicast."""
    air = Air()
    a, b = LA[8:], LB[8:]
    air.say(h("7a773b"))
    air.whole(address("fd00", a), address("fd00", b), 40, b"")
    air.say(h("7af7103b"))
    air.whole(h("20010db800010002") + a, address("fd00", b), 40, b"")
    air.say(h("7ad5013b") + h("0212aabbccddeeff") + h("0212000000000001"))
    air.whole(address("fd00", h("0212aabbccddeeff")), h("20010db800010002") + h("0212000000000001"), 40, b"")
    air.say(h("7a663b12340002"))
    air.whole(address("fd00", h("000000fffe001234")), address("fd00", h("000000fffe000002")), 40, b"")
    air.say(h("7ab7023b"))
    air.whole(LA, h("20010db80000000000aa00bb00cc00dd"), 40, b"")
    air.say(h("7af3f03b"))
    air.whole(h("fd110022000000000000")[:8] + a, LB, 40, b"")
    air.say(h("7a473b"))
    air.whole(bytes(16), address("fd00", b), 40, b"")
    air.say(h("7abc013b") + h("30051234abcd"))
    air.whole(LA, h("ff300540") + h("20010db800010002") + h("1234abcd"), 40, b"")
    src, dst = address("fd00", a), address("fd00", b)
    checksum = udp_checksum(src, dst, 8765, 5678, TEXT).to_bytes(2, "big")
    air.say(h("7e77f0223d162e") + checksum + TEXT)
    air.whole(src, dst, 48 + len(TEXT), TEXT)
    air.case("contexts", contexts=True)


def _announced_contexts() -> None:
    """A border router's advertisement carries two context options; what follows needs them."""
    air = Air()
    option = "2202401000000064fd00000000000000" + "2203801100000064" + "20010db8000000000000000000000001"
    body = icmpv6(LA, LB, h("86000000" + "40000708" + "00000000" + "00000000" + option))
    air.say(h("7b333a") + body)
    air.whole(LA, LB, 40 + len(body), body)
    air.say(h("7a773b"))
    air.whole(address("fd00", LA[8:]), address("fd00", LB[8:]), 40, b"")
    air.say(h("7ab7013b"))
    air.whole(LA, h("20010db8000000000000000000000001"), 40, b"")
    air.case("contexts-announced-by-a-router")


def _unknown_contexts() -> None:
    air = Air()
    air.say(h("7a773b"))
    air.whole(bytes(8) + LA[8:], bytes(8) + LB[8:], 40, b"")
    air.case("contexts-that-nobody-gave")


def _icmpv6() -> None:
    """Echo both ways, a neighbour solicitation, RPL's DIS; one echo in fragments."""
    air = Air()
    for src, dst, l2, body in (
        (LA, LB, (A, B), h("8000000000010001") + bytes(range(40))),
        (LB, LA, (B, A), h("8100000000010001") + bytes(range(40))),
        (LA, LB, (A, B), h("8700000000000000") + LB + h("0102") + A + bytes(6)),
    ):
        message = icmpv6(src, dst, body)
        air.say(h("7b333a") + message, src=l2[0], dst=l2[1])
        air.whole(src, dst, 40 + len(message), message)
    everyone = h("ff02") + bytes(13) + b"\x1a"
    message = icmpv6(LA, everyone, h("9b0000000000"))
    air.say(h("7b3b3a1a") + message, dst=ALL)
    air.whole(LA, everyone, 40 + len(message), message)
    message = icmpv6(LA, LB, h("8000000000010002") + bytes(range(256)))
    for part in frag.cut(h("7a333a"), 40, message, 77, 96):
        air.say(part)
    air.whole(LA, LB, 40 + len(message), message)
    air.case("icmpv6")


def _extensions() -> None:
    """Extension headers, compressed and not, in front of UDP and ICMPv6, and with their padding elided."""
    air = Air()
    inline = udp(LA, LB, TEXT)
    nhc = compressed_udp(A, B, TEXT)[2:]
    rpl, pad = "0104", "00000000"
    for headers, octets in (
        (h("7e33e106" + rpl + pad) + nhc, 8),  # hop by hop, then NHC UDP
        (h("7e33e011" + "06" + rpl + pad) + inline, 8),  # hop by hop, then UDP in line
        (h("7e33e106" + rpl + pad + "e706" + rpl + pad) + nhc, 16),  # and destination options
        (h("7e33e7046b02aabb") + nhc, 8),  # two octets of padding elided
        (h("7e33e5" + "00" + "000000001234") + nhc, 8),  # an atomic fragment
        (h("7a3300" + "1100" + rpl + pad) + inline, 8),  # nothing compressed but IPv6
        (h("7a332c" + "1100000000001234") + inline, 8),
    ):
        air.say(headers)
        air.whole(LA, LB, 48 + octets + len(TEXT), TEXT)
    echo = icmpv6(LA, LB, h("8000000000010001") + b"ping")
    air.say(h("7e33e03a06" + rpl + pad) + echo)
    air.whole(LA, LB, 48 + len(echo), h("3a00" + rpl + pad) + echo)
    part = h("1100" + "0001" + "00001234") + inline  # the first fragment of an IPv6 datagram: M is set
    air.say(h("7a332c") + part)
    air.whole(LA, LB, 40 + len(part), part)
    air.case("extension-headers")


def _tunnels() -> None:
    """IPv6 in IPv6, both compressed, and the inner one in line."""
    air = Air()
    air.say(h("7e33ee7e33") + compressed_udp(A, B, TEXT)[2:])
    segment = udp(LA, LB, TEXT)
    inner = Ipv6Header(LA, LB, UDP, len(segment), 64).emit() + segment
    air.whole(LA, LB, 40 + len(inner), inner)
    air.say(h("7a3329") + inner)
    air.whole(LA, LB, 40 + len(inner), inner)
    air.case("ipv6-in-ipv6")


def _uncompressed() -> None:
    """Dispatch 0x41, whole, in fragments, and recoverable."""
    air = Air()
    for size in (20, 300):
        payload = bytes(i & 0xFF for i in range(size))
        segment = udp(LA, LB, payload)
        header = Ipv6Header(LA, LB, UDP, len(segment), 64).emit()
        for part in frag.cut(b"\x41" + header, 40, segment, 9, 96):
            air.say(part)
        air.whole(LA, LB, 48 + size, payload)
    for fragment in rfrags(b"\x41" + header + segment, tag=3, step=80):
        air.say(fragment.emit())
    air.whole(LA, LB, 348, payload)
    air.case("uncompressed-ipv6")


def _hc1() -> None:
    """HC1 and HC_UDP of RFC 4944, which RFC 6282 replaced; whole, in fragments, with half a byte left."""
    air = Air()
    checksum = udp_checksum(LA, LB, 0xF0B1, 0xF0B2, TEXT).to_bytes(2, "big")
    air.say(h("42fbe04012") + checksum + TEXT)
    air.whole(LA, LB, 48 + len(TEXT), TEXT)
    air.say(h("42fa40") + udp(LA, LB, TEXT))  # UDP follows, in line
    air.whole(LA, LB, 48 + len(TEXT), TEXT)
    checksum = udp_checksum(LA, LB, 5683, 0xF0B2, TEXT).to_bytes(2, "big")
    digits = "1633" + "2" + f"{8 + len(TEXT):04x}" + checksum.hex() + "0"
    air.say(h("42fb" + "40" + "40" + digits) + TEXT)
    air.whole(LA, LB, 48 + len(TEXT), TEXT)
    g, x = h("20010db8000000000000000000000abc"), h("20010db8000000000000000000000def")
    air.say(h("4200" + "40") + g + x + h("12" + "34567" + "3b" + "0"))
    air.whole(g, x, 40, b"")
    payload = bytes(range(200))
    checksum = udp_checksum(LA, LB, 0xF0B1, 0xF0B2, payload).to_bytes(2, "big")
    for part in frag.cut(h("42fbe04012") + checksum, 48, payload, 3, 96):
        air.say(part)
    air.whole(LA, LB, 248, payload)
    air.case("hc1")


def _mesh() -> None:
    """Mesh and BC0 headers in front: short, long and mixed addresses, deep hops, fragments over two hops."""
    air = Air()
    short = compressed_udp(SA, SB, TEXT)
    for header, datagram, src, dst in (
        (h("b3") + SA + SB, short, LSA, LSB),
        (h("bf10") + SA + SB, short, LSA, LSB),
        (h("81") + A + B, compressed_udp(A, B, TEXT), LA, LB),
        (h("a5") + SA + B, compressed_udp(SA, B, TEXT), LSA, LB),
        (h("95") + A + SB, compressed_udp(A, SB, TEXT), LA, LSB),
    ):
        air.say(header + datagram, src=SC, dst=SB)
        air.whole(src, dst, 48 + len(TEXT), TEXT)
    everyone = h("ff02") + bytes(13) + b"\1"
    checksum = udp_checksum(LSA, everyone, 0xF0B1, 0xF0B2, TEXT).to_bytes(2, "big")
    multicast = h("7e3b01f312") + checksum + TEXT
    air.say(h("b5") + SA + ALL + h("5017") + multicast, src=SC, dst=ALL)
    air.whole(LSA, everyone, 48 + len(TEXT), TEXT)
    air.say(h("5018") + multicast, src=SA, dst=ALL)
    air.whole(LSA, everyone, 48 + len(TEXT), TEXT)
    payload = bytes(range(200))
    datagram = compressed_udp(SA, SB, payload)
    parts = frag.cut(datagram[:-200], 48, payload, 21, 90)
    # Pipelined over the middle node: the second hop starts before the first has ended.
    for order in ((0, 1), (1, 1), (0, 2), (2, 1), (1, 2), (2, 2)):
        index, hop = order
        src, dst = (SA, SC) if hop == 1 else (SC, SB)
        air.say(h("b4" if hop == 1 else "b3") + SA + SB + parts[index], src=src, dst=dst)
        if index == 2:
            air.whole(LSA, LSB, 248, payload)
    air.case("mesh-and-bc0")


def _versions() -> None:
    """Frame versions 0 to 2, two PANs, no sequence number, header IEs; ACKs, beacons and commands between."""
    air = Air()
    payload = bytes(range(180))
    parts = frag.cut(compressed_udp(A, B, payload)[:-180], 48, payload, 5, 80)
    assert len(parts) == 3
    for version, part in zip((0, 1, 2), parts, strict=True):
        air.raw(MacFrame(FrameKind.BEACON, 1, PAN, None, None, b"", src_pan=None, version=2))
        pan = None if version == 2 else PAN
        air.raw(MacFrame(FrameKind.DATA, version, pan, B, A, part, ack_request=True, version=version))
        if version == 2:
            air.whole(LA, LB, 228, payload)
        air.raw(MacFrame(FrameKind.ACK, version, None, None, None, b""))
        air.raw(MacFrame(FrameKind.COMMAND, 7, PAN, B, A, b"\4"))
    air.raw(MacFrame(FrameKind.ACK, 3, None, None, None, b"", version=2))
    one = compressed_udp(A, B, TEXT)
    air.raw(MacFrame(FrameKind.DATA, None, None, B, A, one, version=2))
    air.whole(LA, LB, 48 + len(TEXT), TEXT)
    air.raw(MacFrame(FrameKind.DATA, 4, PAN, B, A, one, src_pan=0x1234))
    air.whole(LA, LB, 48 + len(TEXT), TEXT)
    air.raw(MacFrame(FrameKind.DATA, 5, PAN, SB, SA, compressed_udp(SA, SB, TEXT), version=2))
    air.whole(LSA, LSB, 48 + len(TEXT), TEXT)
    # Header IE 0x1e (time correction, as TSCH sends it), then the terminator that payload follows.
    air.raw(MacFrame(FrameKind.DATA, 6, None, B, A, one, version=2, ies=h("020f00808" + "03f")))
    air.whole(LA, LB, 48 + len(TEXT), TEXT)
    air.case("frame-versions-among-acks-and-beacons")


def _interleaved() -> None:
    """Three senders, the same tag and size, frame by frame; first fragments twice, one out of order."""
    air = Air()
    ends = ((A, C), (B, C), (SA, SC))
    sent = []
    for number, (src, dst) in enumerate(ends):
        payload = bytes((number * 80 + i) & 0xFF for i in range(250))
        compressed = compressed_udp(src, dst, payload)
        sent.append(frag.cut(compressed[:-250], 48, payload, 1, 90))
    for index in (0, 2, 1):
        for number, (src, dst) in enumerate(ends):
            air.say(sent[number][index], src=src, dst=dst)
            if index == 0:
                air.say(sent[number][index], src=src, dst=dst)
    for number, (src, dst) in enumerate(ends):
        air.say(sent[number][3], src=src, dst=dst)
        payload = bytes((number * 80 + i) & 0xFF for i in range(250))
        air.whole(link_local(src), link_local(dst), 298, payload)
    air.case("interleaved-senders")


def _recoverable(name: str, order: list[tuple[bytes, int]], acks: bool = False, no_oracle: str = "") -> None:
    """RFC 8931: retries, reordering, two senders with one tag, a lost acknowledgement, a reused tag."""
    air = Air()
    sent = {}
    for src in (A, B):
        payload = src[-1:] * 260
        sent[src] = rfrags(compressed_udp(src, C, payload), tag=9, step=72)
    arrived: dict[bytes, set[int]] = {A: set(), B: set()}
    for src, index in order:
        air.say(sent[src][index].emit(), src=src, dst=C)
        arrived[src].add(index)
        bitmap = sum(0x80000000 >> sequence for sequence in arrived[src])
        if len(arrived[src]) == 4:
            air.whole(link_local(src), LC, 308, src[-1:] * 260)
            bitmap = 0xFFFFFFFF
        if acks:
            air.say(RfragAck(9, bitmap).emit(), src=C, dst=src)
    if no_oracle:
        # A late retry: tshark would put its octets into the next datagram of that tag.
        air.say(sent[A][2].emit(), src=A, dst=C)
    payload = b"\x77" * 200
    for fragment in rfrags(compressed_udp(A, C, payload), tag=9, step=96):
        air.say(fragment.emit(), src=A, dst=C)
    air.whole(LA, LC, 248, payload)
    air.case(name, no_oracle=no_oracle)


_udp_ports()
_traffic_class_and_hop_limit()
_addresses()
_contexts()
_announced_contexts()
_unknown_contexts()
_icmpv6()
_extensions()
_tunnels()
_uncompressed()
_hc1()
_mesh()
_versions()
_interleaved()
_ORDER = [(A, 0), (B, 0), (A, 2), (A, 2), (B, 3), (A, 0), (B, 1), (A, 1), (B, 1), (A, 3), (B, 2)]
_recoverable("recoverable-fragments", _ORDER)
_recoverable(
    "recoverable-fragments-with-acks",
    _ORDER,
    acks=True,
    no_oracle="tshark 4.0 calls a correct RFRAG-ACK malformed",
)
_recoverable(
    "recoverable-fragments-that-overtake-the-first",
    [(A, 2), (A, 1), (B, 3), (A, 0), (B, 2), (A, 3), (B, 1), (B, 0)],
    no_oracle="tshark 4.0 ends the datagram with the fragment that it heard just before the first",
)
