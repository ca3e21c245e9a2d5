"""The coverage list against a set of octets, which cannot be wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.coverage import Added, Coverage
from wire.errors import WireError


def test_pieces_in_any_order() -> None:
    coverage = Coverage(40, max_holes=3)
    assert coverage.add(16, 8) is Added.NEW
    assert coverage.holes() == [(0, 16), (24, 40)]
    assert coverage.add(0, 16) is Added.NEW
    assert coverage.add(16, 8) is Added.DUPLICATE
    assert coverage.add(8, 8) is Added.OVERLAP  # within a piece, but not that piece
    assert coverage.add(16, 16) is Added.OVERLAP
    assert not coverage.complete
    assert coverage.add(24, 16) is Added.NEW
    assert coverage.complete
    assert coverage.holes() == []


def test_a_doubled_piece_does_not_complete() -> None:
    coverage = Coverage(16, max_holes=2)
    assert [coverage.add(0, 8), coverage.add(0, 8)] == [Added.NEW, Added.DUPLICATE]
    assert not coverage.complete


@pytest.mark.parametrize(("offset", "length"), [(0, 0), (-1, 4), (8, 9), (16, 1), (0, 17), (0, -1)])
def test_pieces_outside_are_refused(offset: int, length: int) -> None:
    with pytest.raises(WireError) as caught:
        Coverage(16, max_holes=2).add(offset, length)
    assert caught.value.reason == "coverage-range"


def test_holes_are_bounded() -> None:
    coverage = Coverage(100, max_holes=2)
    coverage.add(10, 10)
    with pytest.raises(WireError) as caught:
        coverage.add(30, 10)
    assert caught.value.reason == "coverage-holes"
    assert coverage.pieces() == [(10, 20)]
    assert coverage.add(20, 10) is Added.NEW  # touches: no new hole


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)), max_size=30), st.integers(1, 6))
def test_against_a_set_of_octets(pieces: list[tuple[int, int]], max_holes: int) -> None:
    size = 40
    coverage = Coverage(size, max_holes)
    octets: set[int] = set()
    kept: set[tuple[int, int]] = set()
    for offset, length in pieces:
        piece = set(range(offset, offset + length))
        reason = ""
        try:
            added = coverage.add(offset, length)
        except WireError as error:
            reason = error.reason
        if reason:
            after = octets | piece
            holes = sum(1 for at in range(size) if at not in after and (at == 0 or at - 1 in after))
            assert reason == ("coverage-range" if offset + length > size else "coverage-holes")
            assert reason == "coverage-range" or holes > max_holes
            continue
        if added is Added.NEW:
            assert not piece & octets
            octets |= piece
            kept.add((offset, offset + length))
        else:
            assert piece & octets
            assert (added is Added.DUPLICATE) == ((offset, offset + length) in kept)
        missing = {octet for start, end in coverage.holes() for octet in range(start, end)}
        assert missing == set(range(size)) - octets
        assert len(coverage.holes()) <= max_holes
        assert coverage.covered == len(octets)
        assert coverage.complete == (len(octets) == size)
