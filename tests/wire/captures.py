"""Captures for the tests of dump: 802.15.4 traffic of many forms, wrapped as each link type wants it."""

import random
import struct
from dataclasses import dataclass, field

from wire import eui64, frag, ieee802154, iphc, ipv6, pcap
from wire.ieee802154 import FrameKind, MacFrame
from wire.ipv6 import Ipv6Header, UdpHeader, udp_checksum
from wire.rfrag import Rfrag
from wire.zep import PORT, ZepFrame


@dataclass
class Traffic:
    """Frames with their FCS; the datagrams in them: (number of the last frame, src, dst, size, payload)."""

    frames: list[bytes] = field(default_factory=list)
    datagrams: list[tuple[int, str, str, int, str]] = field(default_factory=list)


def traffic(seed: int, datagrams: int) -> Traffic:
    """Datagrams of every form that this side can compress, whole and cut, between all kinds of addresses."""
    random_ = random.Random(seed)
    made = Traffic()
    for tag in range(datagrams):
        l2_src, l2_dst = (random_.randbytes(random_.choice([8, 2])) for _ in range(2))
        header = Ipv6Header(
            src=random_.choice([_unicast(random_, l2_src)] * 8 + [bytes(16)]),
            dst=random_.choice([_unicast(random_, l2_dst)] * 3 + [_multicast(random_)]),
            next_header=59,
            payload_length=0,
            hop_limit=random_.choice([1, 64, 255, random_.randrange(1, 255)]),
            traffic_class=random_.choice([0, random_.randrange(4), random_.randrange(256)]),
            flow_label=random_.choice([0, 0, random_.randrange(1 << 20)]),
        )
        payload = random_.randbytes(random_.choice([0, 1, 20, 60, random_.randrange(100, 1200)]))
        form = random_.choice(["udp", "udp", "udp", "udp in line", "uncompressed", "no next header"])
        on_air, octets, body = _compressed(random_, form, header, payload, l2_src, l2_dst)
        room = ieee802154.room(l2_dst, l2_src)
        for part in frag.cut(on_air, octets, body, tag, room):
            version = random_.choice([0, 1])
            seq = len(made.frames) & 0xFF
            frame = MacFrame(FrameKind.DATA, seq, 0x23F0, l2_dst, l2_src, part, version=version)
            made.frames.append(frame.emit())
        size = octets + len(body)
        src, dst = ipv6.text(header.src), ipv6.text(header.dst)
        made.datagrams.append((len(made.frames), src, dst, size, payload.hex()))
    return made


def _unicast(random_: random.Random, l2: bytes) -> bytes:
    prefix = random_.choice(["fe80000000000000"] * 3 + ["20010db800000001", "fe80000000000001"])
    iid = random_.choice(
        [eui64.iid(l2), eui64.iid(l2), eui64.iid(random_.randbytes(2)), random_.randbytes(8)]
    )
    return bytes.fromhex(prefix) + iid


def _multicast(random_: random.Random) -> bytes:
    inline = random_.choice([1, 3, 5, 14])
    scope = b"\x02" if inline == 1 else random_.randbytes(1)
    return b"\xff" + scope + bytes(14 - inline) + random_.randbytes(inline)


def _compressed(
    random_: random.Random, form: str, header: Ipv6Header, payload: bytes, l2_src: bytes, l2_dst: bytes
) -> tuple[bytes, int, bytes]:
    """Headers as on the air, the octets they stand for, and the octets after them."""
    if form == "no next header":
        return iphc.compress(header, l2_src, l2_dst), 40, payload
    # Ports that no dissector of tshark's claims, in each of the four compressed forms.
    sport, dport = (
        random_.choice([0xF0B0 + random_.randrange(16), 0xF020 + random_.randrange(16), 49500])
        for _ in range(2)
    )
    checksum = udp_checksum(header.src, header.dst, sport, dport, payload)
    udp = UdpHeader(sport, dport, 8 + len(payload), checksum)
    header.next_header, header.payload_length = ipv6.UDP, udp.length
    if form == "udp":
        return iphc.compress(header, l2_src, l2_dst, udp), 48, payload
    if form == "udp in line":
        return iphc.compress(header, l2_src, l2_dst), 40, udp.emit() + payload
    return b"\x41" + header.emit(), 40, udp.emit() + payload


def compressed_udp(
    l2_src: bytes, l2_dst: bytes, payload: bytes, sport: int = 0xF0B1, dport: int = 0xF0B2
) -> bytes:
    """A UDP datagram between link-local addresses, compressed."""
    src, dst = eui64.link_local(l2_src), eui64.link_local(l2_dst)
    checksum = udp_checksum(src, dst, sport, dport, payload)
    return iphc.compress_udp(src, dst, sport, dport, checksum, l2_src, l2_dst) + payload


def rfrags(octets: bytes, tag: int, step: int) -> list[Rfrag]:
    """A compressed datagram in recoverable fragments; the last one asks for an acknowledgement."""
    starts = range(0, len(octets), step)
    return [
        Rfrag(
            tag,
            i,
            start or len(octets),
            octets[start : start + step],
            ack_request=start + step >= len(octets),
        )
        for i, start in enumerate(starts)
    ]


def capture(linktype: int, frames: list[bytes]) -> bytes:
    """A pcap file of these frames, 1 ms apart."""
    writer = pcap.Writer(linktype)
    start = 1_700_000_000_000_000_000
    return writer.header() + b"".join(
        writer.record(start + number * 1_000_000, frame) for number, frame in enumerate(frames)
    )


def without_fcs(frame: bytes) -> bytes:
    return frame[:-2]


def tap(frame: bytes) -> bytes:
    """The frame as link type 283 has it, with an FCS type of 16 bits and a channel."""
    fields = struct.pack("<HHB3x", 0, 1, 1) + struct.pack("<HHHBx", 3, 3, 26, 0)
    return struct.pack("<BxH", 0, 4 + len(fields)) + fields + frame


def ethernet(frame: bytes, *, version: int = 2) -> bytes:
    """The frame as ZEP in UDP in IPv4 in Ethernet."""
    body = ZepFrame(26, 1, 255, 7, frame, version=version).emit()
    udp = struct.pack(">HHHH", PORT, PORT, 8 + len(body), 0) + body
    fields = (0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, bytes((127, 0, 0, 1)), bytes((127, 0, 0, 1)))
    return bytes(12) + b"\x08\x00" + struct.pack(">BBHHHBBH4s4s", *fields) + udp


def ethernet_ipv6(frame: bytes) -> bytes:
    """The frame as ZEP in UDP in IPv6 in tagged Ethernet."""
    body = ZepFrame(26, 1, 255, 7, frame).emit()
    one = bytes(15) + b"\1"
    header = Ipv6Header(one, one, ipv6.UDP, 8 + len(body))
    udp = UdpHeader(40000, PORT, 8 + len(body), udp_checksum(one, one, 40000, PORT, body))
    return bytes(12) + b"\x81\x00\0\5\x86\xdd" + header.emit() + udp.emit() + body


def cooked(frame: bytes) -> bytes:
    """The frame as ZEP in a Linux cooked capture."""
    return bytes(14) + ethernet(frame)[12:]


def cooked2(frame: bytes) -> bytes:
    """The frame as ZEP in a Linux cooked capture, version 2."""
    return b"\x08\x00" + bytes(18) + ethernet(frame)[14:]


def raw_ip(frame: bytes) -> bytes:
    """The frame as ZEP in bare IPv4."""
    return ethernet(frame)[14:]


#: How each link type carries a frame that ends with its FCS.
CARRIERS = {
    "195": (pcap.IEEE802154_WITH_FCS, bytes),
    "230": (pcap.IEEE802154_NO_FCS, without_fcs),
    "283": (pcap.IEEE802154_TAP, tap),
    "ethernet": (pcap.ETHERNET, ethernet),
    "ethernet-ipv6": (pcap.ETHERNET, ethernet_ipv6),
    "linux-cooked": (pcap.LINUX_SLL, cooked),
    "linux-cooked-2": (pcap.LINUX_SLL2, cooked2),
    "raw-ip": (pcap.RAW_IP, raw_ip),
}
