"""Which octets of a datagram have arrived: a bounded list of pieces, apart from the buffer that holds them.

    size 40:   [0, 16)  [24, 32)            one hole between the pieces, one at the end

Every piece keeps its own bounds: RFC 4944 §5.3 tells a duplicate, which repeats a piece exactly, from an
overlap, which differs in offset or size. A byte counter instead of this list completes a datagram early when
a piece is doubled. Reasons: `coverage-range`, `coverage-holes`.
"""

from bisect import bisect_right
from enum import Enum

from wire.errors import WireError


class Added(Enum):
    """What a piece turned out to be."""

    NEW = "new"
    DUPLICATE = "duplicate"
    OVERLAP = "overlap"


class Coverage:
    """The pieces of a datagram of `size` octets that were added so far.

    Args:
        size: octets of the datagram, at least 1.
        max_holes: most gaps to remember, the one at the end included. In-order arrival needs 1; n pieces in
            any order need at most n. It bounds the pieces' bookkeeping, since a piece is at least one octet
            long.
    """

    __slots__ = ("_covered", "_ends", "_holes", "_starts", "max_holes", "size")

    def __init__(self, size: int, max_holes: int) -> None:
        self.size = size
        self.max_holes = max_holes
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._covered = 0
        self._holes = 1

    def add(self, offset: int, length: int) -> Added:
        """Add the piece [offset, offset + length). A duplicate or an overlap changes nothing.

        Raises:
            WireError: `coverage-range` if the piece is empty or not within the datagram; `coverage-holes` if
                it would leave more than `max_holes` holes. Neither changes anything.
        """
        end = offset + length
        if length < 1 or offset < 0 or end > self.size:
            raise WireError("coverage-range", f"octets {offset}..{end} of a datagram of {self.size}")
        starts, ends = self._starts, self._ends
        at = bisect_right(starts, offset)
        before = ends[at - 1] if at else 0
        after = starts[at] if at < len(starts) else self.size
        if at and before > offset:
            same = starts[at - 1] == offset and before == end
            return Added.DUPLICATE if same else Added.OVERLAP
        if end > after:
            return Added.OVERLAP
        # The piece lies in the one hole [before, after): it leaves a hole on each side that it doesn't touch.
        holes = self._holes - 1 + (offset > before) + (end < after)
        if holes > self.max_holes:
            raise WireError(
                "coverage-holes", f"{holes} holes in a datagram: at most {self.max_holes} are kept"
            )
        starts.insert(at, offset)
        ends.insert(at, end)
        self._holes = holes
        self._covered += length
        return Added.NEW

    def holes(self) -> list[tuple[int, int]]:
        """The octets still missing, as [start, end) in order."""
        edges = [0, *(edge for piece in self.pieces() for edge in piece), self.size]
        return [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end]

    def pieces(self) -> list[tuple[int, int]]:
        """The pieces added, as [start, end) in order."""
        return list(zip(self._starts, self._ends, strict=True))

    @property
    def covered(self) -> int:
        """How many octets have arrived."""
        return self._covered

    @property
    def complete(self) -> bool:
        """Whether every octet has arrived."""
        return self._covered == self.size
