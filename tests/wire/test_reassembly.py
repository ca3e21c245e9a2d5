"""The passive reassembler: any order, duplicates, overlaps, time and memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import WireError
from wire.reassembly import TIMEOUT_NS, Reassembler

OCTETS = bytes(range(100)) * 3
SIZE = len(OCTETS)
KEY = (b"\0\1", b"\0\2", SIZE, 7)
PIECES = [(0, 136), (136, 96), (232, 68)]


def add(
    reassembler: Reassembler, offset: int, length: int, now: int = 0, octets: bytes = OCTETS
) -> bytes | None:
    return reassembler.add(now, KEY, offset, octets[offset : offset + length])


@given(st.permutations(PIECES * 2))
def test_any_order_with_duplicates_completes_once_or_twice(pieces: list[tuple[int, int]]) -> None:
    reassembler = Reassembler()
    whole = [done for piece in pieces if (done := add(reassembler, *piece)) is not None]
    assert whole[0] == OCTETS
    assert all(done == OCTETS for done in whole)


@given(st.lists(st.sampled_from(PIECES[:2]), max_size=8))
def test_a_missing_piece_never_completes(pieces: list[tuple[int, int]]) -> None:
    reassembler = Reassembler()
    assert not any(add(reassembler, *piece) for piece in pieces)


def test_an_overlap_that_differs_discards_and_starts_anew() -> None:
    reassembler = Reassembler()
    add(reassembler, 0, 136)
    with pytest.raises(WireError) as caught:
        add(reassembler, 128, 96)
    assert caught.value.reason == "frag-overlap"
    assert add(reassembler, 224, 76) is None  # octets 0..136 are gone
    assert add(reassembler, 0, 128) == OCTETS


def test_a_duplicate_with_other_octets_discards() -> None:
    reassembler = Reassembler()
    add(reassembler, 0, 136)
    with pytest.raises(WireError) as caught:
        add(reassembler, 0, 136, octets=bytes(SIZE))
    assert caught.value.reason == "frag-overlap"
    assert add(reassembler, 136, 96, octets=bytes(SIZE)) is None
    assert add(reassembler, 232, 68, octets=bytes(SIZE)) == bytes(SIZE)


def test_late_duplicates_do_not_spoil_the_next_datagram_with_the_same_tag() -> None:
    reassembler = Reassembler()
    for piece in PIECES:
        done = add(reassembler, *piece)
    assert done == OCTETS
    assert add(reassembler, *PIECES[2], now=1) is None
    other = OCTETS[::-1]
    assert [add(reassembler, *piece, now=2, octets=other) for piece in PIECES] == [None, None, other]


def test_sources_destinations_sizes_and_tags_are_kept_apart() -> None:
    reassembler = Reassembler()
    keys = [
        KEY,
        (b"\0\3", b"\0\2", SIZE, 7),
        (b"\0\1", b"\0\3", SIZE, 7),
        (b"\0\1", b"\0\2", SIZE + 8, 7),
        (b"\0\1", b"\0\2", SIZE, 8),
    ]
    for key, (offset, length) in zip(keys, PIECES * 2, strict=False):
        assert reassembler.add(0, key, offset, OCTETS[offset : offset + length]) is None
    assert len(reassembler) == len(keys)


def test_what_is_not_whole_after_a_minute_is_dropped() -> None:
    reassembler = Reassembler()
    add(reassembler, *PIECES[0])
    add(reassembler, *PIECES[1], now=TIMEOUT_NS)
    assert add(reassembler, *PIECES[2], now=TIMEOUT_NS + 1) is None
    assert len(reassembler) == 1
    add(reassembler, *PIECES[1], now=TIMEOUT_NS + 2)
    assert add(reassembler, *PIECES[0], now=TIMEOUT_NS + 2) == OCTETS


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    reassembler = Reassembler(max_datagrams=4)
    for tag in range(100):
        reassembler.add(tag, (b"\0\1", b"\0\2", SIZE, tag), 0, OCTETS[:136])
    assert len(reassembler) == 4
    key = (b"\0\1", b"\0\2", SIZE, 99)
    reassembler.add(100, key, 136, OCTETS[136:232])
    assert reassembler.add(100, key, 232, OCTETS[232:]) == OCTETS


@pytest.mark.parametrize(
    ("size", "offset", "reason"), [(39, 0, "frag-size"), (2048, 0, "frag-size"), (40, 40, "coverage-range")]
)
def test_impossible_fragments_are_refused(size: int, offset: int, reason: str) -> None:
    reassembler = Reassembler()
    with pytest.raises(WireError) as caught:
        reassembler.add(0, (b"\0\1", b"\0\2", size, 7), offset, bytes(8))
    assert caught.value.reason == reason
    assert len(reassembler) == 0


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10), st.integers(0, 3), st.integers(0, 8), st.binary(min_size=1, max_size=40)
        ),
        max_size=40,
    )
)
def test_any_fragments(fragments: list[tuple[int, int, int, bytes]]) -> None:
    reassembler = Reassembler(max_datagrams=2, timeout_ns=5)
    for now, tag, units, octets in fragments:
        try:
            whole = reassembler.add(now, (b"\0\1", b"\0\2", 48, tag), 8 * units, octets)
        except WireError:
            continue
        assert whole is None or len(whole) == 48
        assert len(reassembler) <= 2
