"""What the uplink asks of a way to one edge server: a batch there, its verdicts back."""

from collections.abc import Sequence
from typing import Protocol

from wire.batch import AnswerItem, IngestItem


class BusError(Exception):
    """The exchange failed, and it may or may not have been taken: the same messages are sent again later."""


class RefusedError(BusError):
    """The other side is there and says that it will not take this batch, however often it is sent."""


class UnauthorizedError(BusError):
    """The other side is there, and does not take us for one who may send: another token, or one at all."""


class Bus(Protocol):
    """Carries batches to one edge server. One exchange at a time."""

    @property
    def description(self) -> str:
        """Where it goes, for people."""
        ...

    async def exchange(self, items: Sequence[IngestItem]) -> list[AnswerItem]:
        """Deliver a batch.

        Returns:
            One verdict for each item, in their order. What the edge server has answered it keeps: the same
            item again gets the same answer, and is not counted twice.

        Raises:
            RefusedError, BusError: see there.
        """
        ...

    def renew(self) -> None:
        """Read certificates and secrets anew. Raises SlimwireError: one cannot be used; those before stay."""
        ...

    async def close(self) -> None:
        """Release what it holds."""
        ...
