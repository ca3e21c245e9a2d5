"""A captured frame, taken apart: its layers' names, what is wrong with it, the datagram it completes.

    ethernet | linux-cooked | raw ip ─ ipv4 | ipv6 ─ udp 17754 ─ zep ┐
    802.15.4 with FCS | without | TAP ───────────────────────────────┴ 802.15.4 ─ 6lowpan.* ─ ipv6 ─ udp

Layers, outermost first. On the host's side: `ethernet`, `vlan`, `linux-cooked`, `ipv4`, `ipv6`, `udp`,
`zep`, `zep.ack`, `zep.hello`. On the radio's: `tap`, `802.15.4` and then, unless it is data, `802.15.4.ack`,
`.beacon` or `.command`; `802.15.4.security`; `6lowpan.nalp` (not 6LoWPAN), `6lowpan.mesh`, `.bc0`, `.page`,
`.esc`, `.hc1`, `.frag1`, `.fragn`, `.rfrag`, `.rfrag-ack`, `.ipv6` (uncompressed), `.iphc`, `.nhc-ext`,
`.nhc-ipv6`, `.nhc-udp`, `.hc-udp`. Last, on the frame that completes a datagram: `ipv6`, then `udp`, `tcp`
or `icmpv6`, and `slimwire`.

Nothing a frame holds raises: an error is a text of the frame, after the layers that were understood. Reasons
besides those of the formats: `linktype`, `tap`, `address-missing`, `frag-length`, `ipv6-length`, `ipv4`,
`mic`. With `udp-length`, `udp-checksum` and `context-missing` the datagram is still shown; the bits of a
context that isn't known read as zeros.

Contexts are those given, then those that routers of the same PAN announced earlier in the capture
(`wire.context`). Under a mesh header fragments belong to (originator, final destination, this hop's
receiver): each hop carries the datagram anew.
"""

from binascii import crc32
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from wire import context, hc1, iphc, message, pcap, zep
from wire.errors import WireError
from wire.frag import Frag1, FragN
from wire.ieee802154 import FCS_SIZE, LONGEST_FRAME, FrameKind, MacFrame
from wire.ipv6 import (
    HEADER_SIZE,
    ICMPV6,
    TCP,
    UDP,
    UDP_HEADER_SIZE,
    Ipv6Header,
    UdpHeader,
    checksum_is_good,
    upper_layer,
)
from wire.reassembly import Reassembler
from wire.recovery import RecoveryReassembler
from wire.rfrag import Rfrag, RfragAck

_ETHERTYPE_IPV4, _ETHERTYPE_IPV6, _ETHERTYPE_802154 = 0x0800, 0x86DD, 0x809A
_ETHERTYPES_VLAN = (0x8100, 0x88A8)
_ZEP_ACK, _ZEP_HELLO = 2, 255
_TAP_FCS_TYPE = 0
_PROTOCOL_LAYERS = {TCP: "tcp", UDP: "udp", ICMPV6: "icmpv6"}
_MAC_LAYERS = {
    FrameKind.BEACON: "802.15.4.beacon",
    FrameKind.ACK: "802.15.4.ack",
    FrameKind.COMMAND: "802.15.4.command",
}
#: What a context that isn't known adds to an address.
_UNKNOWN = dict.fromkeys(range(16), iphc.Prefix(bytes(16), 0))
#: PANs whose announced contexts are remembered.
_PANS = 64
LINKTYPES = (
    pcap.ETHERNET,
    pcap.RAW_IP,
    pcap.LINUX_SLL,
    pcap.IEEE802154_WITH_FCS,
    pcap.IEEE802154_NO_FCS,
    pcap.LINUX_SLL2,
    pcap.IEEE802154_TAP,
)
_LINKTYPES_TEXT = ", ".join(map(str, LINKTYPES))


@dataclass(slots=True)
class Datagram:
    """An IPv6 datagram that came over 6LoWPAN.

    Args:
        src, dst: IPv6 addresses, 16 bytes.
        size: octets, uncompressed, the IPv6 header included.
        next_header: what follows the IPv6 header.
        payload: what follows the IPv6 header; of UDP (behind extension headers
            too) what follows the UDP header.
    """

    src: bytes
    dst: bytes
    size: int
    next_header: int
    payload: bytes


@dataclass(slots=True)
class Dissection:
    """What one frame holds. `error` is "reason: message", or None; `datagram` is what the frame completed."""

    layers: list[str] = field(default_factory=list)
    error: str | None = None
    datagram: Datagram | None = None


class Dissector:
    """Takes frames apart in the order of their capture, and keeps what reassembly needs between them.

    Args:
        contexts: IPHC contexts by number 0..15.
        max_datagrams: most datagrams under way of either kind of fragment, and most completed ones
            remembered; the oldest goes first.
    """

    def __init__(self, contexts: iphc.Contexts | None = None, max_datagrams: int = 1024) -> None:
        self._contexts = contexts or {}
        self._announced: OrderedDict[int | None, dict[int, iphc.Prefix]] = OrderedDict()
        self._reassembler = Reassembler(max_datagrams)
        self._recovery = RecoveryReassembler(max_datagrams)

    def frame(self, record: pcap.Record) -> Dissection:
        """Take one frame apart. Any bytes give a Dissection."""
        found = Dissection()
        try:
            self._link(found, record)
        except WireError as error:
            found.error = str(error)
        return found

    def _link(self, found: Dissection, record: pcap.Record) -> None:
        now, linktype, data = record
        if linktype == pcap.IEEE802154_WITH_FCS:
            self._mac(found, now, data, FCS_SIZE)
        elif linktype == pcap.IEEE802154_NO_FCS:
            self._mac(found, now, data, 0)
        elif linktype == pcap.IEEE802154_TAP:
            found.layers.append("tap")
            data, fcs_size = _tap(data)
            self._mac(found, now, data, fcs_size)
        elif linktype == pcap.ETHERNET:
            found.layers.append("ethernet")
            _need(data, 14, "Ethernet header")
            self._ethertype(found, now, int.from_bytes(data[12:14], "big"), data[14:])
        elif linktype in (pcap.LINUX_SLL, pcap.LINUX_SLL2):
            found.layers.append("linux-cooked")
            size, at = (16, 14) if linktype == pcap.LINUX_SLL else (20, 0)
            _need(data, size, "Linux cooked header")
            self._ethertype(found, now, int.from_bytes(data[at : at + 2], "big"), data[size:])
        elif linktype == pcap.RAW_IP:
            _need(data, 1, "IP header")
            version = data[0] >> 4
            self._ethertype(found, now, _ETHERTYPE_IPV6 if version == 6 else _ETHERTYPE_IPV4, data)
        else:
            raise WireError("linktype", f"link type {linktype}: expected one of {_LINKTYPES_TEXT}")

    def _ethertype(self, found: Dissection, now: int, ethertype: int, data: bytes) -> None:
        while ethertype in _ETHERTYPES_VLAN:
            found.layers.append("vlan")
            _need(data, 4, "VLAN tag")
            ethertype, data = int.from_bytes(data[2:4], "big"), data[4:]
        if ethertype == _ETHERTYPE_802154:
            self._mac(found, now, data, FCS_SIZE)
        elif ethertype == _ETHERTYPE_IPV4:
            found.layers.append("ipv4")
            self._host_udp(found, now, *_ipv4(data))
        elif ethertype == _ETHERTYPE_IPV6:
            found.layers.append("ipv6")
            header = Ipv6Header.parse(data)
            _need(data, HEADER_SIZE + header.payload_length, "IPv6 datagram")
            body = data[HEADER_SIZE : HEADER_SIZE + header.payload_length]
            self._host_udp(found, now, header.next_header, body)

    def _host_udp(self, found: Dissection, now: int, protocol: int, data: bytes) -> None:
        """The UDP of the machine that captured: ZEP is all that matters in it."""
        if protocol != UDP:
            return
        found.layers.append("udp")
        udp = UdpHeader.parse(data)
        _need(data, udp.length, "UDP datagram")
        if zep.PORT not in (udp.sport, udp.dport):
            return
        found.layers.append("zep")
        body = data[UDP_HEADER_SIZE : udp.length]
        if body[:3] == zep.MAGIC + b"\x02" and len(body) > 3 and body[3] in (_ZEP_ACK, _ZEP_HELLO):
            found.layers.append("zep.ack" if body[3] == _ZEP_ACK else "zep.hello")
            if body[3] == _ZEP_ACK:
                zep.ZepAck.parse(body)
            return
        packet = zep.ZepFrame.parse(body)
        frame = packet.frame
        if not packet.crc_mode:
            # CC24xx radios replace the FCS: RSSI, then "the CRC was right" and the correlation.
            _need(frame, FCS_SIZE, "frame check sequence")
            if frame[-1] & 0x80:
                self._mac(found, now, frame[:-FCS_SIZE], 0)
                return
        self._mac(found, now, frame, FCS_SIZE)

    def _mac(self, found: Dissection, now: int, data: bytes, fcs_size: int) -> None:
        found.layers.append("802.15.4")
        if fcs_size == 4:
            data = _check_fcs32(data)
        frame = MacFrame.parse(data, fcs=fcs_size == FCS_SIZE, longest=LONGEST_FRAME)
        if frame.kind is not FrameKind.DATA:
            found.layers.append(_MAC_LAYERS[frame.kind])
            return
        payload: bytes | None = frame.payload
        if frame.secured:
            found.layers.append("802.15.4.security")
            payload = frame.clear_payload
            if payload is None:
                if frame.security_level < 4:
                    raise WireError("mic", f"a payload of {len(frame.payload)} bytes is shorter than its MIC")
                return
        if payload:
            pan = frame.pan if frame.src_pan is None else frame.src_pan
            self._lowpan(found, payload, _Hop(now, pan, frame.src, frame.dst))

    def _lowpan(self, found: Dissection, data: bytes, hop: "_Hop") -> None:
        while True:
            _need(data, 1, "6LoWPAN dispatch")
            dispatch = data[0]
            if dispatch >> 6 == 0b10:
                found.layers.append("6lowpan.mesh")
                src, dst, data = _mesh(data)
                hop = hop._replace(src=src, dst=dst, receiver=hop.receiver or hop.dst or b"")
            elif dispatch == 0x50:
                found.layers.append("6lowpan.bc0")
                _need(data, 2, "broadcast header")
                data = data[2:]
            elif dispatch == 0xF0:
                found.layers.append("6lowpan.page")
                data = data[1:]
            else:
                break
        if dispatch >> 6 == 0:
            found.layers.append("6lowpan.nalp")
        elif dispatch & 0xF8 == 0xC0:
            found.layers.append("6lowpan.frag1")
            first = Frag1.parse(data)
            octets = self._headers(found, first.payload, hop, first.size)
            if len(octets) > first.size or (len(octets) % 8 and len(octets) != first.size):
                raise WireError(
                    "frag-length", f"a first fragment of {len(octets)} octets in a datagram of {first.size}"
                )
            self._collect(found, hop, first.size, first.tag, 0, octets)
        elif dispatch & 0xF8 == 0xE0:
            found.layers.append("6lowpan.fragn")
            later = FragN.parse(data)
            self._collect(found, hop, later.size, later.tag, later.offset, later.payload)
        elif dispatch & 0xFE == 0xE8:
            found.layers.append("6lowpan.rfrag")
            self._recover(found, hop, Rfrag.parse(data))
        elif dispatch & 0xFE == 0xEA:
            found.layers.append("6lowpan.rfrag-ack")
            ack = RfragAck.parse(data)
            if ack.is_abort and hop.src is not None and hop.dst is not None:
                # It goes back to the fragments' sender.
                self._recovery.abort((hop.dst, hop.src, ack.tag))
        else:
            self._datagram(found, self._headers(found, data, hop, None), hop.pan)

    def _headers(self, found: Dissection, data: bytes, hop: "_Hop", size: int | None) -> bytes:
        """The octets, uncompressed, of a datagram or of its first fragment."""
        dispatch = data[0]
        if dispatch == 0x41:
            found.layers.append("6lowpan.ipv6")
            return data[1:]
        if dispatch & 0xE0 == 0x60:
            found.layers.append("6lowpan.iphc")
            contexts = {**self._announced.get(hop.pan, {}), **self._contexts}
            try:
                done = iphc.decompress(data, hop.src, hop.dst, contexts, size)
            except WireError as error:
                if error.reason != "context-missing":
                    raise
                found.error = str(error)
                done = iphc.decompress(data, hop.src, hop.dst, {**_UNKNOWN, **contexts}, size)
            found.layers += ["6lowpan.nhc-" + name for name in done.nhc]
            return done.headers + done.payload
        if dispatch == hc1.DISPATCH:
            found.layers.append("6lowpan.hc1")
            done = hc1.decompress(data, hop.src, hop.dst, size)
            found.layers += ["6lowpan.hc-" + name for name in done.nhc]
            return done.headers + done.payload
        if dispatch == 0x40:
            found.layers.append("6lowpan.esc")
        elif dispatch >> 4 == 0x0F:
            found.layers.append("6lowpan.page")
        raise WireError(
            "dispatch",
            f"dispatch 0x{dispatch:02x} isn't read here: expected IPHC (0x60..7f), HC1, 0x41 or FRAG",
        )

    def _collect(
        self, found: Dissection, hop: "_Hop", size: int, tag: int, offset: int, octets: bytes
    ) -> None:
        key = (*hop.ends(), size, tag, hop.receiver)
        whole = self._reassembler.add(hop.now, key, offset, octets)
        if whole is not None:
            self._datagram(found, whole, hop.pan)

    def _recover(self, found: Dissection, hop: "_Hop", fragment: Rfrag) -> None:
        """A recoverable fragment: its datagram is decompressed once all of it is there."""
        whole = self._recovery.add(hop.now, (*hop.ends(), fragment.tag), fragment)
        if whole is not None:
            self._datagram(found, self._headers(found, whole, hop, None), hop.pan)

    def _learn(self, pan: int | None, number: int, prefix: iphc.Prefix) -> None:
        """A router of this PAN announced a context."""
        self._announced.setdefault(pan, {})[number] = prefix
        if len(self._announced) > _PANS:
            self._announced.popitem(last=False)

    def _datagram(self, found: Dissection, octets: bytes, pan: int | None) -> None:
        """An IPv6 datagram is whole."""
        found.layers.append("ipv6")
        header = Ipv6Header.parse(octets)
        end = HEADER_SIZE + header.payload_length
        if end > len(octets):
            raise WireError(
                "ipv6-length",
                f"IPv6 payload length {header.payload_length}, {len(octets) - HEADER_SIZE} there",
            )
        payload = octets[HEADER_SIZE:end]
        upper = upper_layer(header.next_header, payload)
        segment = payload[upper.offset :]
        layer = _PROTOCOL_LAYERS.get(upper.protocol)
        if layer:
            found.layers.append(layer)
        found.datagram = Datagram(header.src, header.dst, end, header.next_header, payload)
        if upper.protocol == UDP:
            found.datagram.payload = segment[UDP_HEADER_SIZE:]
            self._udp(found, header, segment, upper.routed)
        elif upper.protocol == ICMPV6 and checksum_is_good(header.src, header.dst, ICMPV6, segment):
            for number, prefix in context.announced(segment):
                self._learn(pan, number, prefix)

    def _udp(self, found: Dissection, header: Ipv6Header, segment: bytes, routed: bool) -> None:
        """Check the UDP of a datagram, and cut its payload to the length that it says."""
        assert found.datagram is not None
        udp = UdpHeader.parse(segment)
        if udp.length > len(segment):
            raise WireError("udp-length", f"UDP length {udp.length}, and {len(segment)} octets are there")
        segment = segment[: udp.length]
        payload = found.datagram.payload = segment[UDP_HEADER_SIZE:]
        if udp.sport == udp.dport == message.PORT and _is_message(payload):
            found.layers.append("slimwire")
        # 0 says "not computed", or elided in a first fragment, before the payload was all there.
        if udp.checksum == 0 or routed or checksum_is_good(header.src, header.dst, UDP, segment):
            return
        if not _in_no_network(header):
            raise WireError("udp-checksum", "the UDP checksum is wrong: the datagram was altered on its way")
        if found.error is None:
            raise WireError("context-missing", "an address lacks its context's bits: zeros stand there")


class _Hop(NamedTuple):
    """Where a payload was heard: when, in which PAN, between whom; and the hop's receiver, if not `dst`."""

    now: int
    pan: int | None
    src: bytes | None
    dst: bytes | None
    #: Set under a mesh header, whose originator and final destination `src` and `dst` then are.
    receiver: bytes | None = None

    def ends(self) -> tuple[bytes, bytes]:
        if self.src is None or self.dst is None:
            raise WireError("address-missing", "a fragment needs the source and destination of its frame")
        return self.src, self.dst


def _in_no_network(header: Ipv6Header) -> bool:
    """Whether an address begins with 64 zeros: no network has those but the unspecified address's."""
    return any(not any(address[:8]) and any(address) for address in (header.src, header.dst))


def _need(data: bytes, size: int, what: str) -> None:
    if len(data) < size:
        raise WireError("truncated", f"{what}: {len(data)} bytes, expected {size}")


def _tap(data: bytes) -> tuple[bytes, int]:
    """The frame in an IEEE 802.15.4 TAP record, and the size of its FCS."""
    _need(data, 4, "TAP header")
    end = int.from_bytes(data[2:4], "little")
    if data[0] != 0 or end < 4:
        raise WireError("tap", f"TAP version {data[0]}, header of {end} bytes: expected 0, and 4 or more")
    _need(data, end, "TAP header")
    fcs_size, at = 0, 4
    while at + 4 <= end:
        kind = int.from_bytes(data[at : at + 2], "little")
        length = int.from_bytes(data[at + 2 : at + 4], "little")
        at += 4
        if at + length > end:
            raise WireError("tap", f"a TAP field of {length} bytes leaves its header of {end}")
        if kind == _TAP_FCS_TYPE and length:
            if data[at] > 2:
                raise WireError("tap", f"FCS type {data[at]}: expected none, 16 or 32 bits (0..2)")
            fcs_size = data[at] * 2
        at += -(-length // 4) * 4
    return data[end:], fcs_size


def _check_fcs32(data: bytes) -> bytes:
    """The frame without its FCS of 4 bytes, which counts frames as padded to 4 (IEEE 802.15.4 §7.2.10)."""
    _need(data, 4, "frame check sequence")
    body, found = data[:-4], int.from_bytes(data[-4:], "little")
    expected = crc32(body.ljust(4, b"\0"))
    if found != expected:
        raise WireError("bad-fcs", f"FCS 0x{found:08x}: expected 0x{expected:08x}")
    return body


def _ipv4(data: bytes) -> tuple[int, bytes]:
    """Protocol and payload of an IPv4 packet; a fragment of one reads as protocol -1."""
    _need(data, 20, "IPv4 header")
    size = (data[0] & 0x0F) * 4
    # Captured before segmentation offload filled it in, the total length is 0.
    total = int.from_bytes(data[2:4], "big") or len(data)
    if data[0] >> 4 != 4 or size < 20 or total < size:
        raise WireError("ipv4", f"version {data[0] >> 4}, header of {size} bytes, {total} in all: no IPv4")
    _need(data, total, "IPv4 packet")
    fragmented = int.from_bytes(data[6:8], "big") & 0x3FFF
    return (-1 if fragmented else data[9]), data[size:total]


def _mesh(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Originator, final destination, and what follows a mesh header (RFC 4944 §5.2)."""
    flags = data[0]
    at = 2 if flags & 0x0F == 0x0F else 1
    middle = at + (2 if flags & 0x20 else 8)
    end = middle + (2 if flags & 0x10 else 8)
    _need(data, end, "mesh header")
    return data[at:middle], data[middle:end], data[end:]


def _is_message(payload: bytes) -> bool:
    try:
        message.check_octet0(payload[0])
    except (WireError, IndexError):
        return False
    return len(payload) >= message.header_length(0)
