"""When to ask a server that failed again: after a pause that doubles, and first with little. Pure.

Closed: all is well. A failure opens it for a pause; then it is half open, and the next exchange, of a single
message, decides: success closes it, failure opens it for longer.
"""

import random
from enum import StrEnum


class State(StrEnum):
    """Of a circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """A circuit breaker.

    Args:
        pause: s after the first failure; doubled at each further one.
        longest: s at most.
        rng: spreads the pauses by a fifth, so that many gateways do not come back at once.
    """

    def __init__(self, pause: float, longest: float, rng: random.Random | None = None) -> None:
        self._pause = pause
        self._longest = longest
        self._rng = rng or random.Random()
        self._until = 0.0
        #: Failures in a row.
        self.failures = 0

    def state(self, now: float) -> State:
        """At monotonic time `now`, s."""
        if not self.failures:
            return State.CLOSED
        return State.OPEN if now < self._until else State.HALF_OPEN

    def wait(self, now: float) -> float:
        """How long to wait before the next exchange, s."""
        return max(0.0, self._until - now) if self.failures else 0.0

    def failed(self, now: float) -> float:
        """An exchange failed; returns the pause, s."""
        pause = min(self._longest, self._pause * 2.0 ** min(self.failures, 16)) * self._rng.uniform(0.8, 1.2)
        self.failures += 1
        self._until = now + pause
        return pause

    def succeeded(self) -> int:
        """An exchange went well; returns how many had failed before it."""
        before, self.failures = self.failures, 0
        return before
