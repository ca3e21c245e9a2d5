"""UDP datagrams in 6LoWPAN frames, in the terms of the Slimwire message: octets of the UDP payload.

    MAC payload:  IPHC ‖ UDP-NHC ‖ payload                              Unfragmented
                  FRAG1 ‖ IPHC ‖ UDP-NHC ‖ payload[:first]              First
                  FRAGN ‖ payload[offset:]                              Next
                  RFRAG 0 ‖ IPHC ‖ UDP-NHC ‖ payload[:first]            `recoverable_first`: First
                  RFRAG i ‖ payload[offset:]

What a Slimwire device or gateway accepts from the radio is narrower than what a capture may hold
(`wire.dissect`): UDP directly after one IPv6 header, stateless or with contexts, 1280 octets at most.
Reasons: those of `wire.iphc` and `wire.frag`, and `not-udp`, `ipv6-length`, `udp-length`, `frag-size`,
`frag-offset`, `frag-length`; `too-large` (sender).
"""

from dataclasses import dataclass
from typing import NamedTuple

from wire import eui64, frag, ieee802154, iphc, rfrag
from wire.errors import WireError
from wire.ieee802154 import FrameKind, MacFrame
from wire.ipv6 import HEADER_SIZE, MTU, UDP, UDP_OFFSET, Ipv6Header, UdpHeader, udp_checksum
from wire.rfrag import SEQUENCES, Rfrag

#: The UDP port of Slimwire messages at both ends: one of the sixteen that compress to 4 bits.
PORT = 0xF0B0
_IPV6_DISPATCH = 0x41
#: IPHC with all elided, UDP next, hop limit 64, link-local addresses; NHC with 4-bit ports and a checksum.
_USUAL = b"\x7e\x33\xf3"
#: Octets of those headers: three, the ports, the checksum.
USUAL_SIZE = len(_USUAL) + 1 + 2


@dataclass(slots=True)
class Unfragmented:
    """A whole UDP datagram. `checksum` is as sent; one that was elided is filled in."""

    src16: bytes
    dst16: bytes
    sport: int
    dport: int
    checksum: int
    payload: bytes

    @property
    def checksum_is_good(self) -> bool:
        """Whether the UDP checksum is that of these fields."""
        return self.checksum == udp_checksum(self.src16, self.dst16, self.sport, self.dport, self.payload)


@dataclass(slots=True)
class First:
    """A first fragment.

    Args:
        datagram_size: octets of the uncompressed IPv6 datagram, 48..1280.
        tag: datagram_tag.
        src16, dst16: IPv6 addresses, 16 bytes.
        sport, dport: UDP ports.
        checksum: the UDP checksum as sent, 0 if it was elided.
        udp_payload_slice: the octets of UDP payload that this fragment carries, a multiple of 8 of them
            unless they are all.
        payload_length: octets of UDP payload in the whole datagram.
    """

    datagram_size: int
    tag: int
    src16: bytes
    dst16: bytes
    sport: int
    dport: int
    checksum: int
    udp_payload_slice: bytes
    payload_length: int


@dataclass(slots=True)
class Next:
    """A later fragment: `data` belongs at `udp_payload_offset` of its datagram's UDP payload."""

    datagram_size: int
    tag: int
    udp_payload_offset: int
    data: bytes


def parse(
    mac_payload: bytes, l2_src: bytes | None, l2_dst: bytes | None, contexts: iphc.Contexts | None = None
) -> Unfragmented | First | Next:
    """Read the MAC payload of a data frame that carries UDP.

    Args:
        mac_payload: from the 6LoWPAN dispatch on.
        l2_src, l2_dst: the frame's addresses, 8 or 2 bytes.
        contexts: IPHC contexts, none by default.

    Raises:
        WireError: see the reasons above.
    """
    if not mac_payload:
        raise WireError("truncated", "a data frame without payload")
    kind = mac_payload[0] & 0xF8
    if kind == 0xE0:
        size, tag, offset = frag.fragn_header(mac_payload)
        if size > MTU:
            raise WireError("frag-size", f"datagram_size {size}: at most {MTU} are accepted")
        if offset < UDP_OFFSET:
            raise WireError("frag-offset", f"datagram_offset {offset} lies within the headers")
        return Next(size, tag, offset - UDP_OFFSET, mac_payload[frag.FRAGN_SIZE :])
    if kind != 0xC0:
        return Unfragmented(*_headers(mac_payload, l2_src, l2_dst, contexts, None))
    size, tag = frag.frag1_header(mac_payload)
    if not UDP_OFFSET <= size <= MTU:
        raise WireError("frag-size", f"datagram_size {size}: expected {UDP_OFFSET}..{MTU}")
    headers = _headers(mac_payload[frag.FRAG1_SIZE :], l2_src, l2_dst, contexts, size)
    payload, length = headers.payload, size - UDP_OFFSET
    if len(payload) % 8 and len(payload) != length:
        raise WireError(
            "frag-length", f"a first fragment of {len(payload)} payload octets: not a multiple of 8"
        )
    return First(size, tag, *headers, length)


def recoverable_first(
    fragment: Rfrag, l2_src: bytes | None, l2_dst: bytes | None, contexts: iphc.Contexts | None = None
) -> First:
    """Read fragment 0 of a recoverable datagram (RFC 8931) that carries UDP; its tag has 8 bits.

    Its sizes count compressed octets, so the UDP header must be compressed too: its length is then what is
    left of them. The octets of UDP payload start at `len(fragment.payload) - len(udp_payload_slice)`.

    Args:
        fragment: sequence 0, no abort.
        l2_src, l2_dst: the frame's addresses, 8 or 2 bytes.
        contexts: IPHC contexts, none by default.

    Raises:
        WireError: see the reasons above; `truncated` without octets.
    """
    if not fragment.payload:
        raise WireError("truncated", "a recoverable fragment without octets")
    headers = _usual(fragment.payload, l2_src, l2_dst, None)
    if headers is None:
        done = iphc.decompress(fragment.payload, l2_src, l2_dst, contexts)
        if done.udp is None or len(done.nhc) > 1:
            raise WireError("not-udp", "a recoverable fragment without a compressed UDP header after IPv6's")
        udp = done.udp
        headers = _Headers(done.header.src, done.header.dst, udp.sport, udp.dport, udp.checksum, done.payload)
    octets = headers.payload
    length = fragment.offset - (len(fragment.payload) - len(octets))
    if not len(octets) <= length <= MTU - UDP_OFFSET:
        raise WireError(
            "frag-size", f"{length} octets of UDP payload: expected {len(octets)}..{MTU - UDP_OFFSET}"
        )
    if len(octets) % 8 and len(octets) != length:
        raise WireError(
            "frag-length", f"a first fragment of {len(octets)} payload octets: not a multiple of 8"
        )
    return First(UDP_OFFSET + length, fragment.tag, *headers, length)


class _Headers(NamedTuple):
    """What both kinds of datagram begin with, in the order of their fields."""

    src16: bytes
    dst16: bytes
    sport: int
    dport: int
    checksum: int
    payload: bytes


def _usual(
    data: bytes, l2_src: bytes | None, l2_dst: bytes | None, datagram_size: int | None
) -> _Headers | None:
    """The headers that Slimwire itself sends, without `wire.iphc`; None: ask that."""
    if not data.startswith(_USUAL) or len(data) < USUAL_SIZE or l2_src is None or l2_dst is None:
        return None
    if datagram_size is not None and UDP_OFFSET + len(data) - USUAL_SIZE > datagram_size:
        return None
    ports = data[3]
    return _Headers(
        eui64.link_local(l2_src),
        eui64.link_local(l2_dst),
        PORT | ports >> 4,
        PORT | ports & 0x0F,
        data[4] << 8 | data[5],
        data[USUAL_SIZE:],
    )


def _headers(
    data: bytes,
    l2_src: bytes | None,
    l2_dst: bytes | None,
    contexts: iphc.Contexts | None,
    datagram_size: int | None,
) -> _Headers:
    """The IPv6 addresses, the UDP header, and the octets of UDP payload in `data`."""
    usual = _usual(data, l2_src, l2_dst, datagram_size)
    if usual is not None:
        return usual
    if data[0] == _IPV6_DISPATCH:
        header = Ipv6Header.parse(data[1:])
        size = len(data) - 1 if datagram_size is None else datagram_size
        if HEADER_SIZE + header.payload_length != size or len(data) - 1 > size:
            raise WireError("ipv6-length", f"IPv6 payload length {header.payload_length} in {size} octets")
        rest = data[1 + HEADER_SIZE :]
        compressed = None
    else:
        done = iphc.decompress(data, l2_src, l2_dst, contexts, datagram_size)
        header, compressed, rest = done.header, done.udp, done.payload
        if len(done.nhc) > 1:
            raise WireError(
                "not-udp", "extension headers in front of UDP: expected UDP after the IPv6 header"
            )
    if header.next_header != UDP:
        raise WireError("not-udp", f"next header {header.next_header}: expected UDP, {UDP}")
    if compressed is not None:
        udp = compressed
        return _Headers(header.src, header.dst, udp.sport, udp.dport, udp.checksum, rest)
    udp = UdpHeader.parse(rest)
    if udp.length != header.payload_length:
        raise WireError(
            "udp-length", f"UDP length {udp.length} in an IPv6 payload of {header.payload_length}"
        )
    return _Headers(header.src, header.dst, udp.sport, udp.dport, udp.checksum, rest[8:])


def udp_frames(
    src_eui: bytes,
    dst_eui: bytes,
    sport: int,
    dport: int,
    payload: bytes,
    tag: int,
    seq: int,
    pan: int,
    first_slice: int | None = None,
    step: int | None = None,
    ack_request: bool = False,
) -> list[MacFrame]:
    """The data frames of one UDP datagram between the link-local addresses of two link-layer addresses.

    Args:
        src_eui, dst_eui: EUI-64s of 8 bytes (short addresses of 2 work too).
        sport, dport: UDP ports.
        payload: the UDP payload, at most 1232 bytes.
        tag: datagram_tag, should the datagram be cut.
        seq: sequence number of the first frame; the others follow, modulo 256.
        pan: the PAN of both ends.
        first_slice: octets of UDP payload in the first fragment, a multiple of 8; None sends one frame if the
            payload fits one, and else fills the first fragment.
        step: octets in each later fragment but the last, a multiple of 8; None fills them.
        ack_request: whether the link layer should acknowledge each frame.

    Raises:
        WireError: `frag-size` or `frag-cut`, as `wire.frag.cut`.
    """
    if len(payload) > MTU - UDP_OFFSET:
        raise WireError("frag-size", f"a UDP payload of {len(payload)} bytes: at most {MTU - UDP_OFFSET} go")
    header = _compressed(src_eui, dst_eui, sport, dport, payload)
    room = ieee802154.room(dst_eui, src_eui)
    return [
        MacFrame(FrameKind.DATA, (seq + index) & 0xFF, pan, dst_eui, src_eui, part, ack_request, version=1)
        for index, part in enumerate(frag.cut(header, UDP_OFFSET, payload, tag, room, first_slice, step))
    ]


def _compressed(src_eui: bytes, dst_eui: bytes, sport: int, dport: int, payload: bytes) -> bytes:
    """The headers, as on the air, of a UDP datagram between these link-layer addresses' link-local ones."""
    src, dst = eui64.link_local(src_eui), eui64.link_local(dst_eui)
    checksum = udp_checksum(src, dst, sport, dport, payload)
    if sport >> 4 == dport >> 4 == PORT >> 4:
        return _USUAL + bytes(((sport & 0x0F) << 4 | dport & 0x0F, checksum >> 8, checksum & 0xFF))
    return iphc.compress_udp(src, dst, sport, dport, checksum, src_eui, dst_eui)


def recoverable(
    src_eui: bytes,
    dst_eui: bytes,
    sport: int,
    dport: int,
    payload: bytes,
    tag: int,
    first_slice: int,
    step: int,
) -> list[Rfrag]:
    """The recoverable fragments (RFC 8931) of one UDP datagram; fragment i has sequence i.

    Cut as `udp_frames` cuts: a fragment carries the very octets of UDP payload that its FRAG1 or FRAGN would.

    Args:
        src_eui, dst_eui, sport, dport, payload: as `udp_frames`.
        tag: its low 8 bits are the datagram_tag.
        first_slice: octets of UDP payload in fragment 0, a multiple of 8.
        step: octets in each later one but the last, a multiple of 8.

    Raises:
        WireError: `frag-size` for more than 1232 octets of payload; `frag-cut` for a cut that fits no frame;
            `too-large` for more than 32 fragments.
    """
    if len(payload) > MTU - UDP_OFFSET:
        raise WireError("frag-size", f"a UDP payload of {len(payload)} bytes: at most {MTU - UDP_OFFSET} go")
    header = _compressed(src_eui, dst_eui, sport, dport, payload)
    room = ieee802154.room(dst_eui, src_eui) - rfrag.HEADER_SIZE
    if (
        first_slice % 8
        or step % 8
        or not 0 < first_slice <= room - len(header)
        or not 0 < step <= min(room, rfrag.MAX_FRAGMENT)
    ):
        raise WireError("frag-cut", f"slices of {first_slice}, then {step} octets in frames with {room}")
    pieces = [header + payload[:first_slice]]
    pieces.extend(payload[at : at + step] for at in range(first_slice, len(payload), step))
    if len(pieces) > SEQUENCES:
        raise WireError("too-large", f"{len(pieces)} recoverable fragments: at most {SEQUENCES}")
    made = [Rfrag(tag & 0xFF, 0, len(header) + len(payload), pieces[0])]
    for sequence, piece in enumerate(pieces[1:], 1):
        offset = len(header) + first_slice + (sequence - 1) * step
        made.append(Rfrag(tag & 0xFF, sequence, offset, piece))
    return made
