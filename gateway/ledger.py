"""Who fails without having authenticated: a bounded, forgetful tally.

Under spoofing the source address *is* the victim's, so this tally has exactly two uses: a smaller share of
the pool of early fragments, and fewer log lines. It never touches a quota, a verified datagram, or whether a
first fragment is looked at.
"""

from collections import OrderedDict


class FailureLedger:
    """Unauthenticated failures per source address, halved every `half_life` s, of at most `bound` sources."""

    def __init__(self, bound: int = 256, half_life: float = 10.0) -> None:
        self._bound = bound
        self._half_life = half_life
        self._scores: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def fail(self, source: bytes, now: float) -> None:
        """Note one failure of `source`; of too many sources the one unseen for longest is forgotten."""
        score = self.score(source, now) + 1.0
        self._scores[source] = (score, now)
        self._scores.move_to_end(source)
        if len(self._scores) > self._bound:
            self._scores.popitem(last=False)

    def score(self, source: bytes, now: float) -> float:
        """Recent failures of `source`, decayed to `now`."""
        entry = self._scores.get(source)
        if entry is None:
            return 0.0
        score, at = entry
        decayed: float = score * 2.0 ** ((at - now) / self._half_life)
        return decayed

    def share(self, source: bytes, capacity: int, now: float) -> int:
        """Bytes of a pool of `capacity` that `source` may hold now: all of it, down to a sixteenth."""
        return max(capacity // 16, int(capacity / (1.0 + self.score(source, now) / 8.0)))
