"""The exact set of used counters, against Python's own sets."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from security.errors import StateError
from security.replay import Intervals

TOP = 2**32 - 1
# Dense enough to touch, join and repeat; both ends of the range included.
counters = st.integers(0, 40) | st.integers(TOP - 20, TOP) | st.integers(0, TOP)


class AgainstASet(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.intervals = Intervals()
        self.model: set[int] = set()

    @rule(counter=counters)
    def add(self, counter: int) -> None:
        assert self.intervals.add(counter) is (counter not in self.model)
        self.model.add(counter)

    @rule(counter=counters)
    def look(self, counter: int) -> None:
        assert (counter in self.intervals) is (counter in self.model)

    @rule()
    def store(self) -> None:
        self.intervals = Intervals.from_list(self.intervals.to_list())

    @invariant()
    def same_set(self) -> None:
        assert len(self.intervals) == len(self.model)
        assert self.intervals.highest == max(self.model, default=None)
        runs = list(self.intervals)
        assert all(first <= last for first, last in runs)
        assert all(last + 1 < first for (_, last), (first, _) in pairwise(runs))


TestAgainstASet = AgainstASet.TestCase


def test_an_hour_of_backlog_is_not_a_replay() -> None:
    used = Intervals()
    assert all(used.add(c) for c in range(100_000, 103_600))
    assert all(used.add(c) for c in range(1, 100_000))
    assert not any(used.add(c) for c in range(1, 103_600, 977))
    assert used.to_list() == [1, 103_599]


@given(st.sets(counters, max_size=60))
def test_order_does_not_matter(wanted: set[int]) -> None:
    up, down = Intervals(), Intervals()
    for counter in sorted(wanted):
        up.add(counter)
    for counter in sorted(wanted, reverse=True):
        down.add(counter)
    assert up == down


@given(st.lists(st.integers(0, 200), max_size=120), st.integers(1, 5))
def test_a_bounded_set_may_refuse_what_is_old_but_takes_nothing_twice(taken: list[int], limit: int) -> None:
    bounded = Intervals(limit)
    for counter in taken:
        bounded.add(counter)
        assert counter in bounded
    assert len(list(bounded)) <= limit
    assert set(taken) <= {counter for first, last in bounded for counter in range(first, last + 1)}
    # Only the lowest interval may hold counters that were never taken.
    for first, last in list(bounded)[1:]:
        assert set(range(first, last + 1)) <= set(taken)


@pytest.mark.parametrize("counter", [-1, 2**32])
def test_only_32_bits_are_counters(counter: int) -> None:
    with pytest.raises(ValueError, match="counter"):
        Intervals().add(counter)


@pytest.mark.parametrize(
    "flat",
    [
        [1],
        [2, 1],
        [1, 5, 3, 9],
        [1, 5, 6, 9],
        [5, 6, 1, 2],
        [-1, 3],
        [1, 2**32],
        [1.0, 2],
        ["1", "2"],
        [True, 2],
    ],
)
def test_a_damaged_list_is_refused(flat: list[Any]) -> None:
    with pytest.raises(StateError, match="damaged"):
        Intervals.from_list(flat)
