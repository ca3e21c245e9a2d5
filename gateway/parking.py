"""Answers for devices that were not heard since the start: nobody knows yet where they are. Pure."""

from collections import OrderedDict, deque
from typing import NamedTuple


class Parked(NamedTuple):
    """A sealed answer."""

    epoch: int
    counter: int
    sealed: bytes


class Parking:
    """At most `each` answers of each of at most `devices` devices; the oldest give way.

    Args:
        devices, each: bounds.
    """

    def __init__(self, devices: int = 4096, each: int = 8) -> None:
        self._devices = devices
        self._each = each
        self._waiting: OrderedDict[bytes, deque[Parked]] = OrderedDict()

    def put(self, device: bytes, answer: Parked) -> int:
        """Keep one; returns how many gave way."""
        own = self._waiting.setdefault(device, deque())
        own.append(answer)
        gave_way = 0
        if len(own) > self._each:
            own.popleft()
            gave_way = 1
        if len(self._waiting) > self._devices:
            gave_way += len(self._waiting.popitem(last=False)[1])
        return gave_way

    def take(self, device: bytes) -> list[Parked]:
        """The device was heard: its answers, oldest first."""
        return list(self._waiting.pop(device, ()))
