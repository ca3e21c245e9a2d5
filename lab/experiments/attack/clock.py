"""A clock that jumps from event to event. Nothing here looks at the wall."""

import heapq
from collections.abc import Callable
from typing import Any


class Clock:
    """Events in the order of their time; those of one instant in the order they were asked for.

    Attributes:
        now: seconds since the start.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._asked = 0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def after(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        """Call `call(*args)` in `seconds` (>= 0)."""
        self._asked += 1
        heapq.heappush(self._events, (self.now + seconds, self._asked, call, args))

    def run(self, until: float) -> None:
        """Do everything that is due up to `until`, which is the time afterwards."""
        while self._events and self._events[0][0] <= until:
            self.now, _, call, args = heapq.heappop(self._events)
            call(*args)
        self.now = until

    def run_out(self) -> None:
        """Do everything that is due at any time; returns when nothing is."""
        while self._events:
            self.run(self._events[0][0])
