"""Custody: what the gateway has promised to deliver, and the thread that commits it.

The event loop offers messages and hands in what was delivered; a thread of its own takes *whatever waits*
when its last commit returned, and commits that as one transaction. Under load a transaction carries hundreds
of messages, and a lone one waits for nobody. Nothing here blocks the event loop.

Bounds. `bytes` is the size of all messages in custody, with what a row costs besides. A message that does not
fit is refused with custody status `full`; nothing that was acknowledged gives way for it. One device may hold
at most a multiple of what is *free* (dynamic thresholds: A. Choudhury and E. Hahne, IEEE/ACM Trans.
Networking 6(2), 1998), so that whoever fills the outbox leaves room for the others whatever their number.
`age` is how long custody lasts: what nobody took by then is dropped, and counted.
"""

import asyncio
import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.outbox.rows import Message, TrustRow
from gateway.outbox.store import Done, Offered, Store, Work
from gateway.reasons import Reason
from security.trust import Standing
from wire.reply import CustodyStatus

_log = logging.getLogger("gateway.outbox")

#: What a row takes in the file besides its sealed bytes, about.
ROW = 64
#: A device may hold so many times what is free: four fifths of the outbox if it is alone, a fifth of it when
#: it lost its standing.
_SHARE = {Standing.FULL: 4.0, Standing.PROBATION: 0.25, Standing.QUARANTINE: 0.25}
#: Messages that wait for their commit at most: beyond, the disk is too slow for what comes.
_UNCOMMITTED = 8192
#: Expired messages remembered: more than may be in hand.
_EXPIRED = 65536
#: s between two tries to remove what was delivered, while the disk is full.
_RETRY = 0.5
#: s over which the rate of what comes is averaged.
_RATE = 60.0

Result = Message | CustodyStatus


@dataclass(frozen=True)
class OutboxLimits:
    """Bounds of the outbox."""

    #: Size of all messages in custody.
    bytes: int = 256 * 1024 * 1024
    #: s that custody lasts.
    age: float = 7 * 86400.0


class Outbox:
    """Messages in custody. All methods but `run` belong to the event loop's thread, and none waits.

    Args:
        store: its database; closed at the end of `run`.
        limits: bounds.
        counters: where reasons are counted.
    """

    def __init__(self, store: Store, limits: OutboxLimits, counters: Counter[str]) -> None:
        self._store = store
        self._limits = limits
        self._counters = counters
        self.clock = store.clock
        self.durable = store.durable
        #: What was in custody at the start; lanes begin with it.
        self.last = store.last()
        self._held: dict[bytes, int] = {}
        self.messages = self.bytes = 0
        for device, (count, size) in store.sizes().items():
            self._hold(device, count, size + count * ROW)
        self.commits = self.committed = 0
        self.oldest = store.oldest()
        #: Bytes a second that come into custody.
        self.rate = 0.0
        self._offered_bytes = 0.0
        self._measured = time.monotonic()
        self._work = Work()
        self._offered: list[Offered] = []
        #: Messages that expired lately: whoever has them in hand still may say that they were taken.
        self._expired: OrderedDict[int, None] = OrderedDict()
        self._pages: list[tuple[tuple[int, int, int], asyncio.Future[list[Message]]]] = []
        #: Messages that wait for their commit.
        self.uncommitted = 0
        self._leaving: set[int] = set()
        self._wake = threading.Condition()
        self._stopping = False
        self._troubled = False
        self._decided: Callable[[list[tuple[Offered, Result]]], None] = lambda _: None

    def adjust(self, limits: OutboxLimits) -> None:
        """Other bounds, from now on; what is in custody stays."""
        self._limits = limits

    @property
    def bound(self) -> int:
        """What `bytes` never exceeds."""
        return self._limits.bytes

    @property
    def refusing(self) -> bool:
        """Whether the disk refused the last transaction."""
        return self._troubled

    def hours_left(self) -> float | None:
        """How long the room that is left would last, if nothing left and as much came as lately.

        None while nothing comes.
        """
        return (self._limits.bytes - self.bytes) / self.rate / 3600 if self.rate > 0 else None

    def age(self) -> float | None:
        """How long the oldest message has been here, s; None of nothing."""
        return None if self.oldest is None else max(0.0, self.clock() - self.oldest)

    def lasts(self, message: Message) -> bool:
        """Whether custody of it has not ended by age."""
        return message.id not in self._expired and self.clock() - message.came <= self._limits.age

    def offer(self, offered: Offered, standing: Standing) -> CustodyStatus | None:
        """Ask for custody of a message; `run`'s `decided` tells what became of it.

        Returns:
            FULL if there is no room, at once and for good; None if it is being committed.
        """
        size = len(offered.sealed) + ROW
        free = self._limits.bytes - self.bytes
        if size > free or self.uncommitted >= _UNCOMMITTED:
            self._counters[Reason.OUTBOX_FULL] += 1
            return CustodyStatus.FULL
        if self._held.get(offered.device, 0) + size > _SHARE[standing] * free:
            self._counters[Reason.OUTBOX_SHARE] += 1
            return CustodyStatus.FULL
        self._hold(offered.device, 1, size)
        self._offered_bytes += size
        self.uncommitted += 1
        if not self._offered:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._offered.append(offered)
        return None

    def _hand_over(self) -> None:
        """What was offered in this turn of the event loop is the thread's now."""
        offered, self._offered = self._offered, []
        with self._wake:
            self._work.offered.extend(offered)
            self._wake.notify()

    def settle(self, messages: Iterable[Message]) -> None:
        """The edge server took these, and `take` follows: `page` gives them no more."""
        self._leaving.update(message.id for message in messages)

    def take(self, messages: Iterable[Message], trust: Iterable[TrustRow] = ()) -> None:
        """The edge server took these: they leave, with what that did to the trust in their devices."""
        ids = []
        for message in messages:
            if message.id not in self._expired:
                ids.append(message.id)
                self._hold(message.device, -1, -(len(message.sealed) + ROW))
        self._leaving.update(ids)
        with self._wake:
            self._work.taken.extend(ids)
            self._work.trust.update((row.device, row) for row in trust)
            self._wake.notify()

    def forget(self, devices: Iterable[bytes]) -> None:
        """Keep nothing of what is thought of these: they are not enrolled any more."""
        with self._wake:
            for device in devices:
                self._work.forget.append(device)
                self._work.trust.pop(device, None)
            self._wake.notify()

    def keep(self, trust: Iterable[TrustRow]) -> None:
        """Keep what is thought of devices."""
        self.take((), trust)

    async def page(self, after: int, until: int, count: int) -> tuple[list[Message], int | None]:
        """The first `count` committed messages with ids above `after` and up to `until`, oldest first.

        Returns:
            Those that do not leave just now, and the highest id seen; None if there was no message.
        """
        future: asyncio.Future[list[Message]] = asyncio.get_running_loop().create_future()
        with self._wake:
            self._pages.append(((after, until, count), future))
            self._wake.notify()
        found = await future
        kept = [message for message in found if message.id not in self._leaving]
        return kept, found[-1].id if found else None

    def tick(self) -> None:
        """Let go of what is too old, and see how fast it fills; call it about once a second."""
        now = time.monotonic()
        elapsed, self._measured = now - self._measured, now
        weight = min(1.0, elapsed / _RATE)
        if elapsed > 0:
            self.rate += weight * (self._offered_bytes / elapsed - self.rate)
        self._offered_bytes = 0.0
        age = self.age()
        if age is not None and age > self._limits.age:
            with self._wake:
                self._work.expire = self.clock() - self._limits.age
                self._wake.notify()

    async def run(self, decided: Callable[[list[tuple[Offered, Result]]], None]) -> None:
        """Commit until cancelled; then commit what is left, and close the store.

        Args:
            decided: is called in the event loop with each transaction's messages: in custody (the committed
                message), or not (the status to tell).

        Raises:
            OutboxError: the file is damaged.
        """
        self._decided = decided
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        thread = threading.Thread(target=self._commit, args=(loop, ended), name="outbox")
        thread.start()
        try:
            await asyncio.shield(ended)
        finally:
            with self._wake:
                self._stopping = True
                self._wake.notify()
            # Its last transaction takes one disk flush; what it decides goes out before the link closes.
            await asyncio.to_thread(thread.join)
            await asyncio.sleep(0)
            self._store.close()

    # In the thread.

    def _commit(self, loop: asyncio.AbstractEventLoop, ended: "asyncio.Future[None]") -> None:
        try:
            while self._round(loop):
                pass
        except BaseException as error:  # noqa: BLE001  (all of it is the event loop's to know)
            loop.call_soon_threadsafe(_fail, ended, error)
        else:
            loop.call_soon_threadsafe(_finish, ended)

    def _round(self, loop: asyncio.AbstractEventLoop) -> bool:
        """One transaction with whatever waits, and the pages asked for. False: it was the last."""
        with self._wake:
            while not (self._work or self._pages or self._stopping):
                self._wake.wait()
            work, self._work = self._work, Work()
            pages, self._pages = self._pages, []
            stopping = self._stopping
        if work:
            done = self._store.commit(work)
            oldest = self._store.oldest() if work.taken or done.gone or self.oldest is None else self.oldest
            loop.call_soon_threadsafe(self._on_done, work, done, oldest)
            if not done.kept:
                with self._wake:
                    self._put_back(work)
                    if not stopping:
                        self._wake.wait(_RETRY)
        for (after, until, count), future in pages:
            loop.call_soon_threadsafe(_resolve, future, self._store.page(after, until, count))
        return not stopping

    def _put_back(self, work: Work) -> None:
        """What could not leave leaves with the next transaction."""
        self._work.taken[:0] = work.taken
        gone = set(self._work.forget)
        kept = {device: row for device, row in work.trust.items() if device not in gone}
        self._work.trust = kept | self._work.trust
        self._work.forget[:0] = [device for device in work.forget if device not in self._work.trust]

    # In the event loop, after each transaction.

    def _on_done(self, work: Work, done: Done, oldest: float | None) -> None:
        self.commits += 1
        self.oldest = oldest
        self._say(done.problem)
        if done.kept:
            self._leaving.difference_update(work.taken)
        for gone in done.gone:
            if gone.id not in self._leaving:
                self._expired[gone.id] = None
                self._hold(gone.device, -1, -(gone.size + ROW))
        while len(self._expired) > _EXPIRED:
            self._expired.popitem(last=False)
        if done.gone:
            self._counters[Reason.OUTBOX_EXPIRED] += len(done.gone)
            _log.error(
                "%d messages were dropped: nobody took them for %.1f h",
                len(done.gone),
                self._limits.age / 3600,
            )
        if not work.offered:
            return
        self.uncommitted -= len(work.offered)
        for offered, result in zip(work.offered, done.committed, strict=True):
            if type(result) is Message:
                self.committed += 1
                self.last = result.id
            else:
                self._hold(offered.device, -1, -(len(offered.sealed) + ROW))
        if done.problem:
            self._counters[Reason.OUTBOX_UNWRITABLE] += len(work.offered)
        self._decided(list(zip(work.offered, done.committed, strict=True)))

    def _hold(self, device: bytes, messages: int, size: int) -> None:
        self.messages += messages
        self.bytes += size
        held = self._held.get(device, 0) + size
        if held > 0:
            self._held[device] = held
        else:
            self._held.pop(device, None)

    def _say(self, problem: str) -> None:
        if problem and not self._troubled:
            _log.error(
                "the outbox %s cannot be written (%s): messages are refused as full until it can; "
                "free space on its disk",
                self._store.path,
                problem,
            )
        elif self._troubled and not problem:
            _log.warning("the outbox can be written again")
        self._troubled = bool(problem)


def _fail(future: "asyncio.Future[None]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _finish(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _resolve(future: "asyncio.Future[list[Message]]", found: list[Message]) -> None:
    if not future.done():
        future.set_result(found)
