"""Answers for devices that were not heard since the start: nobody knows yet where they are. Pure.

The messages they answer stay in custody meanwhile, for a while: whoever kills the gateway now finds them
again, and with them the answers.
"""

from collections import OrderedDict, deque
from typing import NamedTuple

from gateway.outbox.rows import Message

#: s for which an answered message of a device that is not heard stays in custody.
_WHILE = 60.0


class Parked(NamedTuple):
    """A sealed answer; the message that it answers, and since when, monotonic s."""

    message: Message
    sealed: bytes
    since: float


class Parking:
    """At most `bound` answers; beyond, the oldest of whichever device has waited longest gives way.

    Args:
        bound: of all devices together.
    """

    def __init__(self, bound: int = 16_384) -> None:
        self._bound = bound
        self._held = 0
        self._waiting: OrderedDict[bytes, deque[Parked]] = OrderedDict()
        #: Messages still in custody, and since when.
        self._kept: OrderedDict[int, Parked] = OrderedDict()

    def put(self, answer: Parked) -> Parked | None:
        """Keep one; returns the one that gave way."""
        self._waiting.setdefault(answer.message.device, deque()).append(answer)
        self._kept[answer.message.id] = answer
        self._held += 1
        if self._held <= self._bound:
            return None
        first, own = next(iter(self._waiting.items()))
        gone = own.popleft()
        self._held -= 1
        if not own:
            del self._waiting[first]
        return gone

    def take(self, device: bytes) -> list[Parked]:
        """The device was heard: its answers, oldest first."""
        own = self._waiting.pop(device, deque())
        self._held -= len(own)
        return list(own)

    def release(self, answers: list[Parked]) -> list[Message]:
        """Those of their messages that are still in custody: they leave it now."""
        return [one.message for one in answers if self._kept.pop(one.message.id, None) is not None]

    def overdue(self, now: float) -> list[Message]:
        """Messages kept long enough at monotonic time `now`, s: they leave custody, their answers stay."""
        gone = []
        while self._kept:
            number, oldest = next(iter(self._kept.items()))
            if now - oldest.since < _WHILE:
                break
            del self._kept[number]
            gone.append(oldest.message)
        return gone
