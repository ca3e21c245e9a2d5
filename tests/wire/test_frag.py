"""Fragment headers, and the cut of a datagram."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import WireError
from wire.frag import Frag1, FragN, cut

HEADER = bytes.fromhex("7e33f3001234")


def test_literal_bytes() -> None:
    assert Frag1(1280, 0x1234, b"\x7e").emit().hex() == "c50012347e"
    assert FragN(1280, 0x1234, 136, b"\xaa" * 8).emit().hex() == "e500123411" + "aa" * 8
    assert Frag1.parse(bytes.fromhex("c50012347e")) == Frag1(1280, 0x1234, b"\x7e")
    assert FragN.parse(bytes.fromhex("e500123411" + "aa" * 8)) == FragN(1280, 0x1234, 136, b"\xaa" * 8)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "truncated"),
        ("c50012", "truncated"),
        ("e0301234aa", "dispatch"),
        ("c0271234aa", "frag-size"),  # 39 octets are no IPv6 datagram
        ("c0301234", "frag-empty"),
    ],
)
def test_frag1_refusals(data: str, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        Frag1.parse(bytes.fromhex(data))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("e5001234", "truncated"),
        ("c500123411" + "aa" * 8, "dispatch"),
        ("e027123401" + "aa" * 8, "frag-size"),
        ("e500123400" + "aa" * 8, "frag-offset"),
        ("e500123411", "frag-empty"),
        ("e0301234ff" + "aa" * 8, "frag-length"),  # far beyond the end
        ("e030123405" + "aa" * 9, "frag-length"),  # one octet beyond the end
        ("e500123411" + "aa" * 7, "frag-length"),  # in the middle, and not a multiple of 8
    ],
)
def test_fragn_refusals(data: str, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        FragN.parse(bytes.fromhex(data))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("length", "sizes"),
    [
        (0, [6]),
        (98, [104]),
        (99, [98, 16]),
        (184, [98, 101]),
        (185, [98, 101, 6]),
        (1232, [98, *[101] * 11, 93]),
    ],
)
def test_a_cut_for_eui64s(length: int, sizes: list[int]) -> None:
    assert [len(part) for part in cut(HEADER, 48, bytes(length), 1, 104)] == sizes


@given(st.binary(max_size=1232), st.integers(40, 116), st.data())
def test_a_cut_can_be_put_together(payload: bytes, room: int, data: st.DataObject) -> None:
    step_room = (room - 5) // 8 * 8
    first_room = (room - 4 - len(HEADER) + 48) // 8 * 8 - 48
    step = data.draw(st.none() | st.integers(1, step_room // 8).map(lambda units: 8 * units))
    largest = min(first_room, len(payload)) // 8
    first = data.draw(st.none() | st.integers(0, largest).map(lambda units: 8 * units))
    parts = cut(HEADER, 48, payload, 7, room, first, step)
    assert all(len(part) <= room for part in parts)
    if len(parts) == 1 and first is None:
        assert parts[0] == HEADER + payload
        return
    head = Frag1.parse(parts[0])
    assert head.payload.startswith(HEADER)
    octets = bytes(48) + head.payload[len(HEADER) :]
    for part in parts[1:]:
        later = FragN.parse(part)
        assert (later.size, later.tag, later.offset) == (head.size, 7, len(octets))
        octets += later.payload
    assert octets[48:] == payload
    assert len(octets) == head.size


@pytest.mark.parametrize(
    ("first", "step"), [(7, None), (96, None), (-8, None), (None, 0), (None, 12), (None, 104)]
)
def test_impossible_cuts_are_refused(first: int | None, step: int | None) -> None:
    with pytest.raises(WireError) as caught:
        cut(HEADER, 48, bytes(200), 1, 104, first, step)
    assert caught.value.reason == "frag-cut"


def test_a_datagram_too_large_is_refused() -> None:
    with pytest.raises(WireError) as caught:
        cut(HEADER, 48, bytes(2000), 1, 104)
    assert caught.value.reason == "frag-size"


@pytest.mark.parametrize("parse", [Frag1.parse, FragN.parse])
@given(data=st.binary(max_size=127), first=st.sampled_from([b"", b"\xc1", b"\xe1"]))
def test_any_bytes(parse: object, data: bytes, first: bytes) -> None:
    assert callable(parse)
    try:
        fragment = parse(first + data)
    except WireError:
        return
    assert fragment.emit() == first + data
