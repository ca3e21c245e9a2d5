"""What waits for the edge server: bounded, each message once, in the order in which it is served. Pure.

Devices of full standing are served before those on probation or in quarantine, each group oldest first. When
there is no room, those of lesser standing give way before the others, and among them whoever holds the most,
its oldest message first: a flood pushes out itself.
"""

from collections import OrderedDict
from itertools import chain, islice
from typing import NamedTuple

from gateway.reasons import Reason
from security.trust import Standing

#: (device, octet 0 with F cleared, counter): what the edge server knows a message by.
Key = tuple[bytes, int, int]


class Queued(NamedTuple):
    """A waiting message: sealed bytes, when the gateway had it whole (monotonic s), is it a retry."""

    sealed: bytes
    at: float
    retry: bool


class _Lane:
    """Messages oldest first, and which of them are whose."""

    def __init__(self) -> None:
        self.waiting: OrderedDict[Key, Queued] = OrderedDict()
        self._of: dict[bytes, OrderedDict[Key, None]] = {}

    def put(self, key: Key, message: Queued) -> None:
        self.waiting[key] = message
        self._of.setdefault(key[0], OrderedDict())[key] = None

    def remove(self, key: Key) -> None:
        if self.waiting.pop(key, None) is None:
            return
        own = self._of[key[0]]
        del own[key]
        if not own:
            del self._of[key[0]]

    def give_way(self) -> None:
        """Drop the oldest message of whoever has the most here."""
        own = max(self._of.values(), key=len)
        self.remove(next(iter(own)))


class UplinkQueue:
    """Messages that wait, at most `bound`."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._first, self._last = _Lane(), _Lane()

    def __len__(self) -> int:
        return len(self._first.waiting) + len(self._last.waiting)

    def put(self, key: Key, message: Queued, standing: Standing = Standing.FULL) -> Reason | None:
        """Enter a message; `already-queued` if it waits already, `uplink-full` if one gave way."""
        if key in self._first.waiting or key in self._last.waiting:
            return Reason.ALREADY_QUEUED
        (self._first if standing is Standing.FULL else self._last).put(key, message)
        if len(self) > self._bound:
            (self._last if self._last.waiting else self._first).give_way()
            return Reason.UPLINK_FULL
        return None

    def head(self, count: int) -> list[tuple[Key, Queued]]:
        """The next `count` messages; they stay until `remove`d, so that a failed exchange loses nothing."""
        return list(islice(chain(self._first.waiting.items(), self._last.waiting.items()), count))

    def remove(self, key: Key) -> None:
        """Forget a message that was taken (or was dropped meanwhile)."""
        self._first.remove(key)
        self._last.remove(key)

    def oldest(self) -> float | None:
        """When the oldest message came, monotonic s."""
        heads = [next(iter(lane.waiting.values())).at for lane in (self._first, self._last) if lane.waiting]
        return min(heads, default=None)
