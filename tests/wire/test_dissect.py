"""Frames of every kind taken apart: their layers, their error, the datagram they complete."""

from binascii import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire import captures
from wire import eui64, ieee802154, lowpan, pcap
from wire.dissect import LINKTYPES, Dissection, Dissector
from wire.ieee802154 import FrameKind, MacFrame
from wire.pcap import Record
from wire.zep import ZepAck, ZepFrame

A, B = bytes.fromhex("0200000000000001"), bytes.fromhex("02000000000000fe")
IPHC = ["6lowpan.iphc", "6lowpan.nhc-udp"]


def dissect(payload: str | bytes, dissector: Dissector | None = None, src: bytes | None = A) -> Dissection:
    data = bytes.fromhex(payload) if isinstance(payload, str) else payload
    frame = MacFrame(FrameKind.DATA, 1, 0x23F0, B, src, data, version=1).emit(fcs=False)
    return (dissector or Dissector()).frame(Record(0, pcap.IEEE802154_NO_FCS, frame))


@pytest.mark.parametrize("carrier", captures.CARRIERS)
def test_every_link_type_gives_the_same_datagrams(carrier: str) -> None:
    linktype, wrap = captures.CARRIERS[carrier]
    made = captures.traffic(seed=1, datagrams=40)
    dissector = Dissector()
    found = []
    for number, record in enumerate(
        pcap.Reader(captures.capture(linktype, [wrap(f) for f in made.frames])), 1
    ):
        dissection = dissector.frame(record)
        assert dissection.error is None
        if (datagram := dissection.datagram) is not None:
            src, dst = captures.ipv6.text(datagram.src), captures.ipv6.text(datagram.dst)
            found.append((number, src, dst, datagram.size, datagram.payload.hex()))
    assert found == made.datagrams


def test_layers_of_a_fragmented_message() -> None:
    payload = b"\x40" + bytes(120)
    frames = lowpan.udp_frames(A, B, lowpan.PORT, lowpan.PORT, payload, 1, 0, 0x23F0)
    dissector = Dissector()
    first, last = (dissector.frame(Record(0, 1, captures.ethernet(frame.emit()))) for frame in frames)
    outer = ["ethernet", "ipv4", "udp", "zep", "802.15.4"]
    assert first.layers == [*outer, "6lowpan.frag1", *IPHC]
    assert last.layers == [*outer, "6lowpan.fragn", "ipv6", "udp", "slimwire"]
    assert last.datagram is not None
    assert (last.datagram.payload, last.datagram.size, last.datagram.next_header) == (payload, 169, 17)
    assert (last.datagram.src, last.datagram.dst) == (eui64.link_local(A), eui64.link_local(B))


@pytest.mark.parametrize(
    ("kind", "layers"),
    [
        (FrameKind.ACK, ["802.15.4", "802.15.4.ack"]),
        (FrameKind.BEACON, ["802.15.4", "802.15.4.beacon"]),
        (FrameKind.COMMAND, ["802.15.4", "802.15.4.command"]),
        (FrameKind.DATA, ["802.15.4"]),
    ],
)
def test_other_frames_are_named(kind: FrameKind, layers: list[str]) -> None:
    frame = MacFrame(kind, 1, None, None, None, b"").emit()
    assert Dissector().frame(Record(0, 195, frame)) == Dissection(layers)


@pytest.mark.parametrize(
    ("payload", "layers"),
    [
        ("0011", ["6lowpan.nalp"]),
        ("e80100020030" + "7e33", ["6lowpan.rfrag"]),
        ("eb0180000000", ["6lowpan.rfrag-ack"]),
        ("b1000100027a333b", ["6lowpan.mesh", "6lowpan.iphc", "ipv6"]),
        ("bf20000100025007" + "7a333b", ["6lowpan.mesh", "6lowpan.bc0", "6lowpan.iphc", "ipv6"]),
        ("8102000000000000090200000000000008" + "7a333b", ["6lowpan.mesh", "6lowpan.iphc", "ipv6"]),
        ("f07a333b", ["6lowpan.page", "6lowpan.iphc", "ipv6"]),
        ("7a333a8000", ["6lowpan.iphc", "ipv6", "icmpv6"]),
        (
            "7e33e106630400000000f7001234",
            ["6lowpan.iphc", "6lowpan.nhc-ext", "6lowpan.nhc-udp", "ipv6", "udp"],
        ),
        ("7e33ee7e33f700", ["6lowpan.iphc", "6lowpan.nhc-ipv6", "6lowpan.nhc-udp", "ipv6"]),
    ],
)
def test_dispatches(payload: str, layers: list[str]) -> None:
    found = dissect(payload)
    assert found.error is None
    assert found.layers == ["802.15.4", *layers]


def test_mesh_addresses_are_the_ones_that_count() -> None:
    found = dissect("b1000100027a333b")
    assert found.datagram is not None
    assert (found.datagram.src, found.datagram.dst) == (eui64.link_local(b"\0\1"), eui64.link_local(b"\0\2"))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("40", "dispatch"),
        ("42fb", "truncated"),
        ("42ff40", "hc1"),
        ("f180", "dispatch"),
        ("b10001", "truncated"),
        ("50", "truncated"),
        ("5001", "truncated"),
        ("e801", "truncated"),
        ("e80100080030", "frag-length"),
        ("4160", "truncated"),
        ("41" + "60000000000a3b40" + "00" * 32 + "aa", "ipv6-length"),
        ("41" + "4000000000003b40" + "00" * 32, "ipv6-version"),
        ("c03100077e33f3001234" + "00" * 4, "datagram-size"),
        ("c05000077e33f3001234" + "00" * 4, "frag-length"),
        ("c05000074f" + "00" * 4, "dispatch"),
        ("e050000707" + "00" * 50, "frag-length"),
    ],
)
def test_errors_are_lines(payload: str, reason: str) -> None:
    found = dissect(payload)
    assert (found.error or "").startswith(reason + ": ")
    assert found.datagram is None


def test_a_fragment_without_addresses_is_refused() -> None:
    assert (dissect("e050000707" + "00" * 24, src=None).error or "").startswith("address-missing")


def test_a_wrong_udp_length_is_told_and_the_datagram_shown() -> None:
    found = dissect("7a3311f0b0f0b0000b1234aabb")
    assert (found.error or "").startswith("udp-length")
    assert found.datagram is not None
    assert found.datagram.payload.hex() == "aabb"


def test_a_wrong_udp_checksum_is_told_and_the_datagram_shown() -> None:
    found = dissect("7e33f3001234aabb")
    assert (found.error or "").startswith("udp-checksum")
    assert found.datagram is not None
    assert found.datagram.payload.hex() == "aabb"


@pytest.mark.parametrize(
    ("security", "payload", "layers", "error"),
    [
        ("0a0100000001", "7a333b" + "00" * 8, ["6lowpan.iphc", "ipv6"], None),
        ("0e0100000001", "7a333b" + "00" * 8, [], None),
        ("0a0100000001", "7a333b", [], "mic"),
    ],
)
def test_secured_frames(security: str, payload: str, layers: list[str], error: str | None) -> None:
    frame = MacFrame(
        FrameKind.DATA,
        1,
        0x23F0,
        B,
        A,
        bytes.fromhex(payload),
        version=1,
        secured=True,
        security=bytes.fromhex(security),
    )
    found = Dissector().frame(Record(0, 195, frame.emit()))
    assert found.layers == ["802.15.4", "802.15.4.security", *layers]
    assert (found.error or "").partition(":")[0] == (error or "")


def host(body: bytes) -> list[str]:
    """Layers of a UDP datagram on ZEP's port."""
    frame = bytearray(captures.ethernet(b""))
    frame[16:18] = (28 + len(body)).to_bytes(2, "big")
    return (
        Dissector()
        .frame(Record(0, 1, bytes(frame[:38]) + (8 + len(body)).to_bytes(2, "big") + b"\0\0" + body))
        .layers
    )


def test_zep_acks_and_hellos_are_named() -> None:
    outer = ["ethernet", "ipv4", "udp", "zep"]
    assert host(ZepAck(7).emit()) == [*outer, "zep.ack"]
    assert host(b"EX\2\xff" + bytes(20)) == [*outer, "zep.hello"]
    assert host(b"hello") == outer


def test_zep_version_1_and_status_bytes_instead_of_an_fcs() -> None:
    frame = MacFrame(FrameKind.DATA, 1, 0x23F0, B, A, bytes.fromhex("7a333b"), version=1).emit()
    assert Dissector().frame(Record(0, 1, captures.ethernet(frame, version=1))).layers[-1] == "ipv6"
    for trailer, good in ((b"\xd6\xea", True), (b"\xd6\x6a", False), (frame[-2:], True)):
        packet = ZepFrame(26, 0, 0, 0, frame[:-2] + trailer, crc_mode=False)
        assert (host(packet.emit())[-1] == "ipv6") is good


@pytest.mark.parametrize(("kind", "fcs"), [(0, b""), (1, None), (2, b"crc32")])
def test_fcs_types_of_tap(kind: int, fcs: bytes | None) -> None:
    body = MacFrame(FrameKind.DATA, 1, 0x23F0, B, A, bytes.fromhex("7a333b"), version=1).emit(fcs=False)
    if fcs is None:
        fcs = ieee802154.fcs(body).to_bytes(2, "little")
    elif fcs:
        fcs = crc32(body).to_bytes(4, "little")
    header = b"\0\0\x0c\0" + b"\0\0\1\0" + bytes((kind, 0, 0, 0))
    assert Dissector().frame(Record(0, 283, header + body + fcs)).layers[-1] == "ipv6"
    if fcs:
        damaged = header + body + bytes(byte ^ 1 for byte in fcs)
        assert (Dissector().frame(Record(0, 283, damaged)).error or "").startswith("bad-fcs")


def test_frames_of_phys_that_carry_more_than_127_bytes() -> None:
    udp = captures.compressed_udp(A, B, bytes(600))
    head = MacFrame(FrameKind.DATA, 1, 0x23F0, B, A, b"", version=1).emit(fcs=False)
    body = head + udp
    record = b"\0\0\x0c\0" + b"\0\0\1\0" + b"\2\0\0\0" + body + crc32(body).to_bytes(4, "little")
    found = Dissector().frame(Record(0, 283, record))
    assert found.datagram is not None
    assert found.datagram.payload == bytes(600)
    longest = bytes(ieee802154.LONGEST_FRAME - 1)
    assert (Dissector().frame(Record(0, 230, longest)).error or "").startswith("oversized")


def test_what_is_not_zep_is_named_and_left_alone() -> None:
    frame = bytearray(captures.ethernet(b""))
    frame[23] = 6
    assert Dissector().frame(Record(0, 1, bytes(frame))) == Dissection(["ethernet", "ipv4"])
    assert Dissector().frame(Record(0, 1, bytes(12) + b"\x08\x06" + bytes(28))) == Dissection(["ethernet"])
    dns = captures.ethernet(b"")[:34] + b"\0\x35\0\x35\0\x28\0\0" + bytes(32)
    assert Dissector().frame(Record(0, 1, dns)) == Dissection(["ethernet", "ipv4", "udp"])


@given(
    st.lists(
        st.tuples(st.sampled_from([*LINKTYPES, 0, 147]), st.integers(0, 10), st.binary(max_size=140)),
        max_size=10,
    ),
    st.booleans(),
)
def test_any_frames(frames: list[tuple[int, int, bytes]], as_payload: bool) -> None:
    dissector = Dissector()
    for linktype, start, data in frames:
        if as_payload:
            found = dissect(
                (b"", b"\xc0\x40\0\1\x7e\x33", b"\xe0\x40\0\1", b"\x7e\x33")[start % 4] + data[:90], dissector
            )
        else:
            found = dissector.frame(Record(0, linktype, captures.ethernet(data)[: start * 8] + data))
        assert found.layers or found.error
        assert found.datagram is None or 40 <= found.datagram.size <= 2047
