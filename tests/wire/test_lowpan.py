"""UDP payloads onto the air and back, in octets of the UDP payload."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vectors.registry import case_name, claim
from tests.wire.strategies import eui64s, l2_addresses, ports
from wire import eui64, frag, lowpan
from wire.errors import WireError
from wire.ieee802154 import MacFrame
from wire.ipv6 import Ipv6Header, UdpHeader, udp_checksum
from wire.lowpan import First, Next, Unfragmented, parse, recoverable, recoverable_first, udp_frames
from wire.rfrag import Rfrag

A, B = bytes.fromhex("0200000000000001"), bytes.fromhex("02000000000000fe")


@pytest.mark.parametrize("case", claim("frames.json", "wire"), ids=case_name)
def test_vectors(case: dict[str, Any]) -> None:
    src, dst, payload = (bytes.fromhex(case[name]) for name in ("src", "dst", "payload"))
    frames = udp_frames(
        src, dst, lowpan.PORT, lowpan.PORT, payload, case["tag"], case["seq"], case["pan"], ack_request=True
    )
    assert [frame.emit(fcs=False).hex() for frame in frames] == case["frames"]
    assert together([parse(frame.payload, src, dst) for frame in frames]) == payload


@pytest.mark.parametrize("case", claim("recoverable.json", "wire"), ids=case_name)
def test_recoverable_vectors(case: dict[str, Any]) -> None:
    src, dst, payload = (bytes.fromhex(case[name]) for name in ("src", "dst", "payload"))
    fragments = recoverable(src, dst, lowpan.PORT, lowpan.PORT, payload, case["tag"], 88, 96)
    fragments[-1].ack_request = True
    frames = [MacFrame.parse(bytes.fromhex(text), fcs=False) for text in case["frames"]]
    assert [frame.payload for frame in frames] == [fragment.emit() for fragment in fragments]
    assert [frame.seq for frame in frames] == [(case["seq"] + i) & 0xFF for i in range(len(frames))]
    assert {(frame.src, frame.dst, frame.pan) for frame in frames} == {(src, dst, case["pan"])}
    first = recoverable_first(Rfrag.parse(frames[0].payload), src, dst)
    octets = first.udp_payload_slice + b"".join(frame.payload[6:] for frame in frames[1:])
    assert (octets, first.payload_length) == (payload, len(payload))


def together(parts: list[Unfragmented | First | Next]) -> bytes:
    """The payload of one datagram's parts, in order."""
    head, *later = parts
    if isinstance(head, Unfragmented):
        assert not later
        return head.payload
    assert isinstance(head, First)
    payload = head.udp_payload_slice
    for part in later:
        assert isinstance(part, Next)
        assert (part.datagram_size, part.tag) == (head.datagram_size, head.tag)
        assert part.udp_payload_offset == len(payload)
        payload += part.data
    assert len(payload) == head.payload_length == head.datagram_size - 48
    return payload


@given(
    l2_addresses,
    l2_addresses,
    ports,
    ports,
    st.binary(max_size=1232),
    st.integers(0, 0xFFFF),
    st.integers(0, 255),
)
def test_parse_inverts_udp_frames(
    src: bytes, dst: bytes, sport: int, dport: int, payload: bytes, tag: int, seq: int
) -> None:
    frames = [
        MacFrame.parse(frame.emit())
        for frame in udp_frames(src, dst, sport, dport, payload, tag, seq, 0x23F0)
    ]
    assert [frame.seq for frame in frames] == [(seq + index) % 256 for index in range(len(frames))]
    parts = [parse(frame.payload, frame.src, frame.dst) for frame in frames]
    assert together(parts) == payload
    head = parts[0]
    assert not isinstance(head, Next)
    assert (head.src16, head.dst16) == (eui64.link_local(src), eui64.link_local(dst))
    assert (head.sport, head.dport) == (sport, dport)
    assert head.checksum == udp_checksum(head.src16, head.dst16, sport, dport, payload)
    if isinstance(head, Unfragmented):
        assert head.checksum_is_good


@given(st.binary(min_size=17, max_size=600), st.integers(1, 11), st.integers(1, 12))
def test_a_message_chooses_its_cut(payload: bytes, first: int, step: int) -> None:
    first = min(8 * first, len(payload) // 8 * 8)
    frames = udp_frames(A, B, 1, 2, payload, 3, 0, 1, first_slice=first, step=8 * step)
    parts = [parse(frame.payload, A, B) for frame in frames]
    assert together(parts) == payload
    assert isinstance(parts[0], First)
    assert len(parts[0].udp_payload_slice) == first
    assert {len(part.data) for part in parts[1:-1] if isinstance(part, Next)} <= {8 * step}


def test_a_datagram_over_1280_octets_is_refused() -> None:
    with pytest.raises(WireError) as caught:
        udp_frames(A, B, 1, 2, bytes(1233), 0, 0, 1)
    assert caught.value.reason == "frag-size"


def test_uncompressed_headers_are_read() -> None:
    src, dst = eui64.link_local(A), eui64.link_local(B)
    payload = bytes(range(200))
    udp = UdpHeader(1, 2, 208, udp_checksum(src, dst, 1, 2, payload))
    header = Ipv6Header(src, dst, 17, 208)
    whole = parse(b"\x41" + header.emit() + udp.emit() + payload, A, B)
    assert isinstance(whole, Unfragmented)
    assert whole.payload == payload
    assert whole.checksum_is_good
    fragments = frag.cut(b"\x41" + header.emit() + udp.emit(), 48, payload, 9, 104)
    assert together([parse(fragment, A, B) for fragment in fragments]) == payload


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("", "truncated"),
        ("0011", "dispatch"),
        ("c02f00017e33f30012340102", "frag-size"),  # 47 octets: less than the headers
        ("c50100017e33f3001234" + "00" * 8, "frag-size"),  # 1281
        ("e501000106" + "00" * 8, "frag-size"),
        ("e500000105" + "00" * 8, "frag-offset"),  # within the headers
        ("e500000100" + "00" * 8, "frag-offset"),
        ("c50000017e33f3001234" + "00" * 7, "frag-length"),
        ("c03000017e33f3001234" + "00" * 8, "datagram-size"),
        ("7a333a80001234", "not-udp"),
        ("7e33e106630400000000f3001234aabb", "not-udp"),
        ("7a3311f0b0f0b0000b1234aabb", "udp-length"),
        ("41" + "60000000000a1140" + "00" * 32 + "0001000200091234" + "aa", "ipv6-length"),
    ],
)
def test_refusals(payload: str, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        parse(bytes.fromhex(payload), A, B)
    assert caught.value.reason == reason


@given(
    st.binary(max_size=120),
    st.sampled_from(["", "7e33", "7a3311", "c100000a7e33", "e1000001", "41", "c10000014160"]),
    st.none() | eui64s,
)
def test_any_bytes(data: bytes, prefix: str, l2: bytes | None) -> None:
    try:
        part = parse(bytes.fromhex(prefix) + data, l2, l2)
    except WireError:
        return
    if isinstance(part, First):
        assert len(part.udp_payload_slice) <= part.payload_length <= 1232
    if isinstance(part, Next):
        assert part.udp_payload_offset >= 0
        assert part.udp_payload_offset + len(part.data) <= part.datagram_size - 48


@given(st.binary(min_size=100, max_size=1232), st.integers(0, 0xFFFF), eui64s, eui64s)
def test_recoverable_fragments_carry_the_slices_of_frag1_and_fragn(
    payload: bytes, tag: int, src: bytes, dst: bytes
) -> None:
    plain = udp_frames(src, dst, lowpan.PORT, lowpan.PORT, payload, tag, 0, 1, first_slice=88, step=96)
    fragments = recoverable(src, dst, lowpan.PORT, lowpan.PORT, payload, tag, 88, 96)
    assert [fragment.sequence for fragment in fragments] == list(range(len(plain)))
    first = recoverable_first(Rfrag.parse(fragments[0].emit()), src, dst)
    usual = parse(plain[0].payload, src, dst)
    assert isinstance(usual, First)
    assert (first.tag, usual.tag) == (tag & 0xFF, tag)
    first.tag = tag
    assert first == usual
    headers = fragments[0].offset - len(payload)
    for fragment, frame in zip(fragments[1:], plain[1:], strict=True):
        later = parse(frame.payload, src, dst)
        assert isinstance(later, Next)
        assert (fragment.offset - headers, fragment.payload) == (later.udp_payload_offset, later.data)


@pytest.mark.parametrize(
    ("payload", "size", "reason"),
    [
        ("", 100, "truncated"),
        ("7e33f3001234" + "00" * 8, 13, "frag-size"),  # less than is there
        ("7e33f3001234" + "00" * 8, 6 + 1233, "frag-size"),  # 1281 octets of IPv6
        ("7e33f3001234" + "00" * 7, 100, "frag-length"),
        ("7a333a80001234", 100, "not-udp"),
        ("7e33e106630400000000f3001234aabb", 100, "not-udp"),
        ("7a3311f0b0f0b0000b1234aabb", 100, "not-udp"),  # UDP, but not compressed
        ("0011", 100, "dispatch"),
    ],
)
def test_first_recoverable_fragments_that_are_refused(payload: str, size: int, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        recoverable_first(Rfrag(1, 0, size, bytes.fromhex(payload)), A, B)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("length", "first", "step", "reason"),
    [
        (1233, 88, 96, "frag-size"),
        (500, 96, 96, "frag-cut"),
        (500, 88, 104, "frag-cut"),
        (500, 84, 96, "frag-cut"),
        (500, 88, 0, "frag-cut"),
        (500, 8, 8, "too-large"),
    ],
)
def test_cuts_that_recoverable_fragments_cannot_have(length: int, first: int, step: int, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        recoverable(A, B, lowpan.PORT, lowpan.PORT, bytes(length), 0, first, step)
    assert caught.value.reason == reason


@given(st.binary(max_size=120), st.sampled_from(["", "7e33f300", "7a33", "41"]), st.integers(1, 0xFFFF))
def test_any_bytes_in_a_first_recoverable_fragment(data: bytes, prefix: str, size: int) -> None:
    try:
        first = recoverable_first(Rfrag(1, 0, size, bytes.fromhex(prefix) + data), A, B)
    except WireError:
        return
    assert len(first.udp_payload_slice) <= first.payload_length <= 1232
