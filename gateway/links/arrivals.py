"""What a link received and nobody has taken yet."""

import asyncio
from collections import deque

from gateway.links.base import Received


class Arrivals:
    """In order of arrival; for one task that takes.

    Args:
        bound: waiting at most. Whoever puts looks at `full` first, and counts what has no room.
    """

    __slots__ = ("_bound", "_queue", "_waiter")

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._queue: deque[Received] = deque()
        self._waiter: asyncio.Future[None] | None = None

    @property
    def full(self) -> bool:
        """Whether there is no room for another one."""
        return len(self._queue) >= self._bound

    def put(self, received: Received) -> None:
        """Enter one; wakes whoever waits."""
        self._queue.append(received)
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
            self._waiter = None

    async def get(self) -> Received:
        """The next one; waits for it."""
        while not self._queue:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._queue.popleft()
