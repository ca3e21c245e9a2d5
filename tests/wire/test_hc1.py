"""HC1 and HC_UDP: literal bytes, every field sent or elided, damage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import hc1
from wire.errors import WireError
from wire.eui64 import link_local

A, B = bytes.fromhex("0200000000000001"), bytes.fromhex("02000000000000fe")


def test_the_shortest_form_of_udp() -> None:
    done = hc1.decompress(bytes.fromhex("42fbe040121234aabb"), A, B)
    assert (done.header.src, done.header.dst) == (link_local(A), link_local(B))
    assert (done.header.hop_limit, done.header.next_header, done.header.payload_length) == (64, 17, 10)
    assert done.udp is not None
    assert (done.udp.sport, done.udp.dport, done.udp.length, done.udp.checksum) == (61617, 61618, 10, 0x1234)
    assert (done.payload, done.nhc, len(done.headers)) == (b"\xaa\xbb", ("udp",), 48)


def test_fields_follow_each_other_bit_by_bit() -> None:
    everything = "42004020010db800000001000000000000000aff0200000000000000000000000000011234567" + "3b" + "0"
    done = hc1.decompress(bytes.fromhex(everything) + b"xyz", None, None)
    assert done.header.src.hex() == "20010db800000001000000000000000a"
    assert done.header.dst.hex() == "ff020000000000000000000000000001"
    assert (done.header.traffic_class, done.header.flow_label) == (0x12, 0x34567)
    assert (done.header.next_header, done.payload, done.udp) == (59, b"xyz", None)


@pytest.mark.parametrize(("encoding", "protocol"), [("fa", 17), ("fc", 58), ("fe", 6)])
def test_next_headers_that_are_not_compressed_further(encoding: str, protocol: int) -> None:
    done = hc1.decompress(bytes.fromhex(f"42{encoding}40aabbcc"), A, B)
    assert (done.header.next_header, done.payload) == (protocol, bytes.fromhex("aabbcc"))


def test_a_first_fragment_takes_its_lengths_from_the_datagram() -> None:
    done = hc1.decompress(bytes.fromhex("42fbe040121234") + bytes(8), A, B, 200)
    assert done.udp is not None
    assert (done.header.payload_length, done.udp.length) == (160, 160)


@pytest.mark.parametrize(
    ("data", "l2", "size", "reason"),
    [
        ("7e33", A, None, "dispatch"),
        ("42ff4000", A, None, "hc1"),
        ("42fd4000", A, None, "hc1"),
        ("42fbe040121234", None, None, "address-missing"),
        ("42fbe040121234" + "00" * 8, A, 50, "datagram-size"),
    ],
)
def test_refusals(data: str, l2: bytes | None, size: int | None, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        hc1.decompress(bytes.fromhex(data), l2, B, size)
    assert caught.value.reason == reason


@pytest.mark.parametrize("whole", ["42fbe040121234", "42004020010db8" + "00" * 28 + "12345673b0"])
def test_bytes_that_are_promised_and_not_there(whole: str) -> None:
    data = bytes.fromhex(whole)
    hc1.decompress(data, A, B)
    for length in range(len(data)):
        with pytest.raises(WireError) as caught:
            hc1.decompress(data[:length], A, B)
        assert caught.value.reason == "truncated"


@given(st.binary(max_size=80))
def test_any_bytes(data: bytes) -> None:
    try:
        done = hc1.decompress(b"\x42" + data, A, B)
    except WireError:
        return
    assert 40 + done.header.payload_length == len(done.headers) + len(done.payload)
