"""The same bytes in other implementations: tshark's dissectors, and scapy's 802.15.4 and IPHC."""

import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vectors.registry import claim
from tests.wire import captures
from tests.wire.strategies import eui64s
from wire import ipv6, lowpan, pcap
from wire.dissect import Dissector
from wire.iphc import Prefix

IPHC_CASES = [
    case
    for case in claim("iphc.json", "wire")
    if "reason" not in case and "datagram_size" not in case and case["l2_src"] and case["l2_dst"]
]


def tshark(file: Path, fields: list[str], *options: str) -> list[list[str]]:
    """The fields that tshark finds, a row a frame."""
    command = ["tshark", "-r", str(file), "-o", "udp.check_checksum:TRUE", *options, "-T", "fields"]
    for name in fields:
        command += ["-e", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return [line.split("\t") for line in done.stdout.splitlines()]


FIELDS = [
    "frame.number",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.plen",
    "udp.payload",
    "data.data",
    "udp.checksum.status",
    "_ws.malformed",
]


@pytest.mark.needs("tshark")
@pytest.mark.parametrize("carrier", ["195", "230", "283"])
def test_tshark_finds_the_same_datagrams(carrier: str, tmp_path: Path) -> None:
    linktype, wrap = captures.CARRIERS[carrier]
    made = captures.traffic(seed=5, datagrams=150)
    file = tmp_path / "air.pcap"
    file.write_bytes(captures.capture(linktype, [wrap(frame) for frame in made.frames]))
    found = []
    for number, src, dst, length, payload, data, checksum, malformed in tshark(file, FIELDS, "-Y", "ipv6"):
        assert not malformed
        assert checksum in ("", "1")
        found.append((int(number), src, dst, 40 + int(length), payload or data))
    assert found == made.datagrams


@pytest.mark.needs("tshark")
def test_tshark_reassembles_lost_doubled_and_overtaking_frames_alike(tmp_path: Path) -> None:
    random_ = random.Random(8)
    timed = []
    for number, frame in enumerate(captures.traffic(seed=8, datagrams=120).frames):
        if random_.random() < 0.03:
            continue
        timed.append((number + random_.random() * random_.choice([0, 0, 12]), frame))
        if random_.random() < 0.1:
            timed.append((number + random_.random() * random_.choice([1, 12, 200]), frame))
    data = captures.capture(195, [frame for _, frame in sorted(timed)])
    file = tmp_path / "air.pcap"
    file.write_bytes(data)
    dissector = Dissector()
    ours = []
    for number, record in enumerate(pcap.Reader(data), 1):
        found = dissector.frame(record)
        assert found.error is None
        if (datagram := found.datagram) is not None:
            ours.append((number, ipv6.text(datagram.src), ipv6.text(datagram.dst), datagram.size))
    rows = tshark(file, FIELDS[:4], "-Y", "ipv6")
    assert ours == [(int(number), src, dst, 40 + int(length)) for number, src, dst, length in rows]


@pytest.mark.needs("tshark")
def test_tshark_reads_zep(tmp_path: Path) -> None:
    made = captures.traffic(seed=6, datagrams=30)
    file = tmp_path / "zep.pcap"
    file.write_bytes(captures.capture(pcap.ETHERNET, [captures.ethernet(frame) for frame in made.frames]))
    found = []
    for row in tshark(file, [*FIELDS[:4], "wpan.fcs_ok"], "-Y", "ipv6"):
        number, src, dst, length, fcs_ok = row
        assert fcs_ok in ("1", "True")
        found.append((int(number), src, dst, 40 + int(length)))
    assert found == [datagram[:4] for datagram in made.datagrams]


@pytest.mark.needs("tshark")
def test_tshark_decompresses_the_vectors_alike(tmp_path: Path) -> None:
    frames, options = [], []
    contexts: dict[int, Prefix] = {}
    for case in IPHC_CASES:
        l2_src, l2_dst = bytes.fromhex(case["l2_src"]), bytes.fromhex(case["l2_dst"])
        frame = captures.MacFrame(
            captures.FrameKind.DATA, 1, 1, l2_dst, l2_src, bytes.fromhex(case["data"]), version=1
        )
        frames.append(frame.emit())
        for number, prefix in case.get("contexts", {}).items():
            address, _, length = prefix.partition("/")
            contexts[int(number)] = Prefix(bytes.fromhex(address), int(length))
    for number, prefix in contexts.items():
        options += ["-o", f"6lowpan.context{number}:{ipv6.text(prefix.address)}/{prefix.length}"]
    file = tmp_path / "air.pcap"
    file.write_bytes(captures.capture(195, frames))
    rows = tshark(
        file,
        ["ipv6.src", "ipv6.dst", "ipv6.plen", "ipv6.nxt", "ipv6.hlim", "ipv6.tclass", "ipv6.flow"],
        *options,
    )
    for case, row in zip(IPHC_CASES, rows, strict=True):
        header = ipv6.Ipv6Header.parse(bytes.fromhex(case["datagram"]))
        outer = [value.split(",")[0] for value in row]  # IPv6 in IPv6 has two of each
        assert outer[:2] == [ipv6.text(header.src), ipv6.text(header.dst)], case["name"]
        ours = [
            header.payload_length,
            header.next_header,
            header.hop_limit,
            header.traffic_class,
            header.flow_label,
        ]
        assert [int(value, 0) for value in outer[2:]] == ours, case["name"]


@pytest.fixture(scope="module")
def scapy() -> Any:
    """scapy's 802.15.4 and 6LoWPAN layers, told that 802.15.4 carries 6LoWPAN."""
    from scapy.config import conf

    conf.dot15d4_protocol = "sixlowpan"
    from scapy.layers import dot15d4, sixlowpan

    return dot15d4, sixlowpan


@pytest.mark.needs("module:scapy")
@given(eui64s, eui64s, st.binary(max_size=97), st.integers(0, 255), st.integers(0, 15))
def test_scapy_reads_our_frames(
    scapy: Any, src: bytes, dst: bytes, payload: bytes, seq: int, port: int
) -> None:
    dot15d4, sixlowpan = scapy
    from scapy.layers.inet import UDP
    from scapy.layers.inet6 import IPv6

    payload = b"\x40" + payload  # scapy takes a UDP payload that starts with 111 for more compressed headers
    (frame,) = lowpan.udp_frames(src, dst, 0xF0B0 + port, 0xF0BF, payload, 0, seq, 0x23F0)
    parsed = dot15d4.Dot15d4FCS(frame.emit())
    assert (parsed.seqnum, parsed.fcf_frametype) == (seq, 1)
    assert (parsed.src_addr, parsed.dest_addr) == (int.from_bytes(src, "big"), int.from_bytes(dst, "big"))
    assert parsed.fcs == int.from_bytes(frame.emit()[-2:], "little")
    assert parsed.compute_fcs(frame.emit()[:-2]) == frame.emit()[-2:]
    assert sixlowpan.LoWPAN_IPHC in parsed
    assert (parsed[UDP].sport, parsed[UDP].dport) == (0xF0B0 + port, 0xF0BF)
    assert bytes(parsed[UDP].payload) == payload
    assert parsed[IPv6].hlim == 64


@pytest.mark.needs("module:scapy")
@given(st.binary(min_size=1, max_size=70), st.integers(0xF0B0, 0xF0BF), st.integers(0, 255))
def test_we_read_scapys_frames(scapy: Any, payload: bytes, port: int, seq: int) -> None:
    dot15d4, sixlowpan = scapy
    from scapy.layers.inet import UDP
    from scapy.layers.inet6 import IPv6

    packet = (
        dot15d4.Dot15d4(seqnum=seq, fcf_srcaddrmode=3, fcf_destaddrmode=3, fcf_panidcompress=1)
        / dot15d4.Dot15d4Data(dest_panid=0x23F0, dest_addr=0x02000000000000FE, src_addr=0x0200000000000001)
        / sixlowpan.LoWPAN_IPHC(tf=3, nh=0, hlim=2, sam=0, dam=0)
        / IPv6(src="2001:db8::1", dst="2001:db8::2", hlim=64)
        / UDP(sport=port, dport=port)
        / payload
    )
    found = Dissector().frame(pcap.Record(0, pcap.IEEE802154_NO_FCS, bytes(packet)))
    assert found.error is None
    assert found.datagram is not None
    assert found.datagram.payload == payload
    assert ipv6.text(found.datagram.src) == "2001:db8::1"
