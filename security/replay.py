"""Which counters of one (device, epoch) have been used: an exact set, not a window.

A device that comes back after an hour with its backlog is not replaying. Counters mostly arrive in order, so
the set is a handful of intervals whatever its size.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from security.errors import StateError
from wire.message import MAX_COUNTER


class Intervals:
    """A set of counters 0..2**32-1 as sorted, disjoint, non-adjacent closed intervals.

    Args:
        limit: at most so many intervals; None keeps the set exact whatever comes. Beyond it the two lowest
            are joined, so that the counters between them count as used too: old messages may be refused, but
            none is ever taken twice. Only a device that scatters its counters gets there.
    """

    __slots__ = ("_ends", "_limit", "_starts")

    def __init__(self, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"a limit of {limit} intervals, expected at least 1")
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._limit = limit

    def add(self, counter: int) -> bool:
        """Put a counter in. True if it was new, False if it is a replay. Raises ValueError if no u32."""
        if not 0 <= counter <= MAX_COUNTER:
            raise ValueError(f"a counter is {counter}, expected 0..{MAX_COUNTER}")
        starts, ends = self._starts, self._ends
        at = bisect_right(starts, counter)  # intervals before `at` start at or below the counter
        if at and counter <= ends[at - 1]:
            return False
        joins_left = at > 0 and ends[at - 1] == counter - 1
        joins_right = at < len(starts) and starts[at] == counter + 1
        if joins_left and joins_right:
            ends[at - 1] = ends[at]
            del starts[at], ends[at]
        elif joins_left:
            ends[at - 1] = counter
        elif joins_right:
            starts[at] = counter
        else:
            starts.insert(at, counter)
            ends.insert(at, counter)
            if self._limit is not None and len(starts) > self._limit:
                del starts[1], ends[0]
        return True

    def __contains__(self, counter: int) -> bool:
        at = bisect_right(self._starts, counter)
        return at > 0 and counter <= self._ends[at - 1]

    def __len__(self) -> int:
        """How many counters are in the set."""
        return sum(self._ends) - sum(self._starts) + len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The intervals (first, last), ascending."""
        return zip(self._starts, self._ends, strict=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Intervals):
            return NotImplemented
        return self._starts == other._starts and self._ends == other._ends

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Intervals({len(self)} counters in {len(self._starts)} intervals)"

    @property
    def spans(self) -> int:
        """How many intervals the set is made of."""
        return len(self._starts)

    @property
    def highest(self) -> int | None:
        """The highest counter in the set, None if it is empty."""
        return self._ends[-1] if self._ends else None

    def to_list(self) -> list[int]:
        """The set as a flat list, first and last of each interval: what gets stored."""
        return [value for interval in self for value in interval]

    @classmethod
    def from_list(cls, flat: Sequence[int], limit: int | None = None) -> "Intervals":
        """The inverse of `to_list`; the lowest are joined beyond `limit`. StateError for other lists."""
        starts, ends = list(flat[::2]), list(flat[1::2])
        ok = len(starts) == len(ends) and all(type(v) is int and 0 <= v <= MAX_COUNTER for v in flat)
        ok = ok and all(a <= b for a, b in zip(starts, ends, strict=True))
        ok = ok and all(b + 1 < a for b, a in zip(ends, starts[1:], strict=False))
        if not ok:
            raise StateError(
                "a stored set of used counters is damaged",
                expected="an even number of counters: ascending, disjoint intervals",
                remedy="restore the state from a backup, or give the device a new identity",
            )
        excess = 0 if limit is None else len(starts) - limit
        if excess > 0:
            del starts[1 : excess + 1], ends[:excess]
        result = cls(limit)
        result._starts, result._ends = starts, ends
        return result
