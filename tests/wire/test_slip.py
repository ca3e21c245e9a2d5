"""SLIP against literal bytes, its inverse, and bytes of anybody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import slip


@pytest.mark.parametrize(
    ("packet", "line"),
    [
        (b"\x01\x02", "c00102c0"),
        (b"\xc0", "c0dbdcc0"),
        (b"\xdb", "c0dbddc0"),
        (b"\xdb\xdc\xc0", "c0dbdddcdbdcc0"),
    ],
)
def test_literal_bytes(packet: bytes, line: str) -> None:
    assert slip.encode(packet).hex() == line
    assert list(slip.Decoder().feed(bytes.fromhex(line))) == [packet]


@given(st.lists(st.binary(min_size=1, max_size=127), max_size=8), st.integers(1, 40))
def test_packets_come_out_as_they_went_in_however_they_are_read(packets: list[bytes], size: int) -> None:
    line = b"".join(slip.encode(packet) for packet in packets)
    decoder = slip.Decoder()
    out = [packet for at in range(0, len(line), size) for packet in decoder.feed(line[at : at + size])]
    assert out == packets


@given(st.binary(max_size=400))
def test_noise_costs_the_packet_it_is_in_and_no_other(noise: bytes) -> None:
    decoder = slip.Decoder()
    for packet in decoder.feed(noise):
        assert packet is None or 1 <= len(packet) <= slip.LARGEST
    assert list(decoder.feed(slip.encode(b"frame")))[-1] == b"frame"


@pytest.mark.parametrize("bad", ["c0" + "00" * 128 + "c0", "c0db00c0", "c001dbc0"])
def test_what_is_no_packet_is_told_once(bad: str) -> None:
    assert list(slip.Decoder().feed(bytes.fromhex(bad))) == [None]
