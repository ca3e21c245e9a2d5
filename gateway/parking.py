"""Answers for devices that were not heard since the start: nobody knows yet where they are. Pure."""

from collections import OrderedDict, deque
from typing import NamedTuple


class Parked(NamedTuple):
    """A sealed answer."""

    epoch: int
    counter: int
    sealed: bytes


class Parking:
    """At most `bound` answers; beyond, the oldest of whichever device has waited longest gives way.

    Args:
        bound: of all devices together.
    """

    def __init__(self, bound: int = 16_384) -> None:
        self._bound = bound
        self._held = 0
        self._waiting: OrderedDict[bytes, deque[Parked]] = OrderedDict()

    def put(self, device: bytes, answer: Parked) -> bool:
        """Keep one; returns whether another one gave way."""
        self._waiting.setdefault(device, deque()).append(answer)
        self._held += 1
        if self._held <= self._bound:
            return False
        first, own = next(iter(self._waiting.items()))
        own.popleft()
        self._held -= 1
        if not own:
            del self._waiting[first]
        return True

    def take(self, device: bytes) -> list[Parked]:
        """The device was heard: its answers, oldest first."""
        own = self._waiting.pop(device, deque())
        self._held -= len(own)
        return list(own)
