"""IPHC and next-header compression against literal bytes, their inverse, and bytes of anybody."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vectors.registry import case_name, claim
from tests.wire.strategies import headers, l2_addresses, ports
from wire import eui64, iphc
from wire.errors import WireError
from wire.ipv6 import UdpHeader, udp_checksum

CASES = claim("iphc.json", "wire")
A, B = bytes.fromhex("0200000000000001"), bytes.fromhex("02000000000000fe")


def decompress(case: dict[str, Any]) -> iphc.Decompressed:
    contexts = {}
    for number, prefix in case.get("contexts", {}).items():
        address, _, length = prefix.partition("/")
        contexts[int(number)] = iphc.Prefix(bytes.fromhex(address), int(length))
    return iphc.decompress(
        bytes.fromhex(case["data"]),
        bytes.fromhex(case["l2_src"]) or None,
        bytes.fromhex(case["l2_dst"]) or None,
        contexts,
        case.get("datagram_size"),
    )


@pytest.mark.parametrize("case", [case for case in CASES if "reason" not in case], ids=case_name)
def test_vectors(case: dict[str, Any]) -> None:
    done = decompress(case)
    assert (done.headers + done.payload).hex() == case["datagram"]


@pytest.mark.parametrize("case", [case for case in CASES if "reason" in case], ids=case_name)
def test_refusals(case: dict[str, Any]) -> None:
    with pytest.raises(WireError) as caught:
        decompress(case)
    assert caught.value.reason == case["reason"]


def test_six_bytes_replace_forty_eight() -> None:
    data = iphc.compress_udp(eui64.link_local(A), eui64.link_local(B), 0xF0B0, 0xF0B1, 0x1234, A, B)
    assert data.hex() == "7e33f3011234"
    assert len(iphc.decompress(data, A, B).headers) == 48


@given(l2_addresses, l2_addresses, st.binary(max_size=60), ports, ports, st.data())
def test_decompress_inverts_compress_of_udp(
    l2_src: bytes, l2_dst: bytes, payload: bytes, sport: int, dport: int, data: st.DataObject
) -> None:
    header = data.draw(headers(l2_src, l2_dst, 8 + len(payload), 17))
    udp = UdpHeader(
        sport, dport, 8 + len(payload), udp_checksum(header.src, header.dst, sport, dport, payload)
    )
    done = iphc.decompress(iphc.compress(header, l2_src, l2_dst, udp) + payload, l2_src, l2_dst)
    assert done.headers == header.emit() + udp.emit()
    assert (done.header, done.udp, done.payload) == (header, udp, payload)


@given(l2_addresses, l2_addresses, st.binary(max_size=60), st.integers(0, 255), st.data())
def test_decompress_inverts_compress_of_any_next_header(
    l2_src: bytes, l2_dst: bytes, payload: bytes, next_header: int, data: st.DataObject
) -> None:
    header = data.draw(headers(l2_src, l2_dst, len(payload), next_header))
    done = iphc.decompress(iphc.compress(header, l2_src, l2_dst) + payload, l2_src, l2_dst)
    assert (done.headers, done.udp, done.payload) == (header.emit(), None, payload)


def test_an_elided_checksum_is_computed_once_the_payload_is_all_there() -> None:
    data = bytes.fromhex("7e33f700") + b"payload!"
    src, dst = eui64.link_local(A), eui64.link_local(B)
    whole, first = iphc.decompress(data, A, B), iphc.decompress(data, A, B, datagram_size=100)
    assert whole.udp is not None
    assert first.udp is not None
    assert whole.udp.checksum == udp_checksum(src, dst, 0xF0B0, 0xF0B0, b"payload!")
    assert first.udp.checksum == 0


@given(
    st.binary(max_size=127),
    st.sampled_from([b"", b"\x7e\x33", b"\x7e\x33\xe1", b"\x7e\xf7\x01", b"\x7e\x33\xee"]),
    st.none() | l2_addresses,
    st.none() | st.integers(40, 2047),
)
def test_any_bytes(data: bytes, prefix: bytes, l2: bytes | None, size: int | None) -> None:
    contexts = {0: iphc.Prefix(bytes(16), 0), 1: iphc.Prefix(b"\x20" * 16, 128)}
    try:
        done = iphc.decompress(prefix + data, l2, l2, contexts, size)
    except WireError:
        return
    assert len(done.headers) + len(done.payload) <= (size or iphc.MAX_DATAGRAM)
    assert done.headers[:40] == done.header.emit()
