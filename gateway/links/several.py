"""Several links as one: what any of them receives, and replies by the one a device was last verified on."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.links.base import Leg, Link, Received
from gateway.reasons import Reason
from wire.errors import WireError
from wire.ieee802154 import MacFrame

#: Received and not yet taken; more waits in the links' own queues, which count what they drop.
_WAITING = 64


@dataclass(frozen=True, slots=True)
class _From:
    link: Link
    origin: object


class SeveralLinks:
    """Two links or more.

    Args:
        links: open links; closed with this one.
        routes: devices whose link is remembered at most.
    """

    def __init__(self, links: Sequence[Link], *, routes: int = 65536) -> None:
        self._links = tuple(links)
        self._own: Counter[str] = Counter()
        self._queue: asyncio.Queue[Received | None] = asyncio.Queue(_WAITING)
        self._routes: OrderedDict[bytes, Link] = OrderedDict()
        self._bound = routes
        self._waking: asyncio.Future[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def counters(self) -> Counter[str]:
        """Those of all links together."""
        return sum((link.counters for link in self._links), Counter(self._own))

    @property
    def description(self) -> str:
        """All of them."""
        return "; ".join(link.description for link in self._links)

    def legs(self) -> Sequence[Leg]:
        """Every leg of every link."""
        return tuple(leg for link in self._links for leg in link.legs())

    async def receive(self) -> Received:
        """The next frame or fragment of any link. An error of a link ends this with it."""
        if not self._tasks:
            for link in self._links:
                task = asyncio.create_task(self._pump(link))
                task.add_done_callback(self._ended)
                self._tasks.append(task)
        received = await self._queue.get()
        while received is None:
            for task in self._tasks:
                if task.done():
                    task.result()
            received = await self._queue.get()
        return received

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """Wake `receive`, which raises what ended the task."""
        if not task.cancelled():
            self._waking = asyncio.ensure_future(self._queue.put(None))

    async def _pump(self, link: Link) -> None:
        while True:
            received = await link.receive()
            await self._queue.put(received._replace(origin=_From(link, received.origin)))

    async def send(self, frame: bytes) -> None:
        """Send by the link on which the destination was verified."""
        try:
            destination = MacFrame.parse(frame).dst
        except WireError:
            destination = None
        link = self._routes.get(destination) if destination is not None else None
        if link is None:
            self._own[Reason.DOWNLINK_UNROUTABLE] += 1
            return
        await link.send(frame)

    def learn(self, source: bytes, origin: object) -> None:
        """Replies to `source` go by the link that `origin` names, from now on."""
        if not isinstance(origin, _From):
            return
        self._routes[source] = origin.link
        self._routes.move_to_end(source)
        if len(self._routes) > self._bound:
            self._routes.popitem(last=False)
        origin.link.learn(source, origin.origin)

    def refuse(self, received: Received) -> None:
        """Passed on to the link it came by."""
        if isinstance(received.origin, _From):
            received.origin.link.refuse(received._replace(origin=received.origin.origin))

    def close(self) -> None:
        """Close every link."""
        for task in self._tasks:
            task.cancel()
        for link in self._links:
            link.close()
