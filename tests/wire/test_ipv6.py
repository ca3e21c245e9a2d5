"""IPv6 and UDP headers, and the checksum they share."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import headers
from wire import ipv6
from wire.errors import WireError
from wire.ipv6 import Ipv6Header, UdpHeader

SRC, DST = (
    bytes.fromhex("fe80000000000000" + "00" * 7 + "01"),
    bytes.fromhex("fe80000000000000" + "00" * 7 + "02"),
)


def rfc1071(data: bytes) -> int:
    """The sum as RFC 1071 §1 words it: 16 bits at a time, carries added back."""
    total = 0
    for (word,) in struct.iter_unpack(">H", data + bytes(len(data) % 2)):
        total += word
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(st.binary(max_size=200))
def test_checksum_is_rfc_1071s(payload: bytes) -> None:
    checksum = ipv6.udp_checksum(SRC, DST, 1, 2, payload)
    segment = UdpHeader(1, 2, 8 + len(payload), checksum).emit() + payload
    assert rfc1071(ipv6.pseudo_header(SRC, DST, len(segment), 17) + segment) == 0xFFFF
    assert ipv6.checksum_is_good(SRC, DST, 17, segment)
    assert 1 <= checksum <= 0xFFFF


def test_a_checksum_of_zero_is_sent_as_ones() -> None:
    without = ipv6.udp_checksum(SRC, DST, 0, 0, b"\0\0")
    assert ipv6.udp_checksum(SRC, DST, 0, 0, without.to_bytes(2, "big")) == 0xFFFF


@given(st.binary(min_size=1, max_size=60), st.data())
def test_any_flipped_bit_is_noticed(payload: bytes, data: st.DataObject) -> None:
    checksum = ipv6.udp_checksum(SRC, DST, 1, 2, payload)
    segment = bytearray(UdpHeader(1, 2, 8 + len(payload), checksum).emit() + payload)
    bit = data.draw(st.integers(0, len(segment) * 8 - 1))
    segment[bit // 8] ^= 1 << bit % 8
    assert not ipv6.checksum_is_good(SRC, DST, 17, bytes(segment))


@given(headers(bytes(8), bytes(8), 5, 17))
def test_header_inverse(header: Ipv6Header) -> None:
    assert len(header.emit()) == 40
    assert Ipv6Header.parse(header.emit()) == header


@pytest.mark.parametrize(
    ("data", "reason"),
    [("60" + "00" * 38, "truncated"), ("40" + "00" * 39, "ipv6-version"), ("", "truncated")],
)
def test_header_refusals(data: str, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        Ipv6Header.parse(bytes.fromhex(data))
    assert caught.value.reason == reason


@pytest.mark.parametrize(("data", "reason"), [("00" * 7, "truncated"), ("0001000200070000", "udp-length")])
def test_udp_refusals(data: str, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        UdpHeader.parse(bytes.fromhex(data))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("next_header", "payload", "expected"),
    [
        (17, "", (17, 0, False)),
        (0, "1100010400000000", (17, 8, False)),
        (0, "3c00010400000000" + "1101010c" + "00" * 12, (17, 24, False)),
        (43, "1102030100000000" + "00" * 16, (17, 24, True)),  # one segment left
        (43, "1102030000000000" + "00" * 16, (17, 24, False)),
        (44, "1100000000000007", (17, 8, False)),  # an atomic fragment
        (44, "1100000100000007", (44, 0, False)),  # the first of several
        (44, "1100000800000007", (44, 0, False)),  # the second one
        (0, "11000104000000", (0, 0, False)),  # cut short
        (0, "1101010400000000", (0, 0, False)),
        (0, "0000010400000000" * 8 + "1100010400000000", (0, 64, False)),  # more than eight
        (135, "1100010400000000", (135, 0, False)),
    ],
)
def test_extension_headers_are_walked(
    next_header: int, payload: str, expected: tuple[int, int, bool]
) -> None:
    assert ipv6.upper_layer(next_header, bytes.fromhex(payload)) == expected


@given(st.sampled_from([0, 43, 44, 60]), st.binary(max_size=200))
def test_any_extension_headers_end_within_their_payload(next_header: int, payload: bytes) -> None:
    assert 0 <= ipv6.upper_layer(next_header, payload).offset <= len(payload)
