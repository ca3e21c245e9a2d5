"""What is in custody on its way to the edge servers: batches by size and age, back-off, verdicts.

One courier per edge server, each with its own lanes and its own circuit breaker. A device belongs to one of
them (`assigned`), since the exact record of what was answered lives there: sent to another one after a
timeout, a message could be answered twice.

A device that its edge server does not know is one that it does not know *yet*: nothing of it is dropped for
that. All of it but one message stays on the disk, and that one asks again and again, less and less often.
Only where the gateway's registry has nothing but later keys of that device is the key gone at both ends: what
it sealed is let go, page by page as it is read.
"""

import asyncio
import hashlib
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from gateway.breaker import Breaker, State
from gateway.bus.base import Bus, BusError, RefusedError, UnauthorizedError
from gateway.lanes import Lanes, Spoken, spoken_of
from gateway.outbox import Message, Outbox
from gateway.reasons import Reason
from security.trust import Standing
from wire.batch import AnswerItem, IngestItem, Verdict
from wire.message import Kind, octet0

_log = logging.getLogger("gateway.uplink")

_EVIDENCE: Mapping[int, Reason] = {
    Verdict.SEAL: Reason.EDGE_BAD_SEAL,
    Verdict.LATENT: Reason.EDGE_BAD_LATENT,
    Verdict.UNKNOWN_MODEL: Reason.EDGE_UNKNOWN_MODEL,
    Verdict.REVOKED: Reason.EDGE_REVOKED,
}

#: After a batch of so many messages the next one waits so many times as long: an exchange costs about as much
#: as twenty messages in it.
_DENSE, _LONGER = 8, 5
#: So many that are ready wait for no others: what a fuller batch saves for each is little by then.
_ENOUGH = 64
#: Questions for stored answers that wait at most, and s between two batches of them.
_QUESTIONS, _ASK_EVERY = 256, 0.05
#: Messages read from the disk at a time, at least.
_PAGE = 1024
#: Largest age that a batch can state, ms.
_OLDEST = 0xFFFF_FFFF


@dataclass(frozen=True)
class UplinkLimits:
    """Bounds of the uplink. Times in s."""

    #: Messages in one batch at most; a batch that failed halves it for a while.
    batch: int = 256
    #: The first message of a batch waits this long for others.
    age: float = 0.003
    #: Messages held in memory at most for each edge server; the others wait on the disk.
    queue: int = 4096
    #: Pause after the first failure; doubled at each further one up to `longest_pause`.
    pause: float = 0.2
    longest_pause: float = 5.0
    #: A message that the edge server refuses by itself is left alone for this long.
    aside: float = 60.0
    #: Pause before a device that it does not know is tried again; doubled each time, up to `aside`.
    unknown: float = 1.0


Taken = Callable[[list[tuple[Message, AnswerItem]]], None]
#: Device, key epoch and counter of a message that left custody, and whose device missed the answer.
Question = tuple[bytes, int, int]
Stored = Callable[[Question, bytes], None]
Room = Callable[[int], Awaitable[int]]
Overtaken = Callable[[Spoken], bool]


async def _room(answers: int) -> int:
    """There is always room."""
    return answers


def _never(spoken: Spoken) -> bool:
    """No registry says that a key is gone."""
    return False


def assigned(device: bytes, servers: Sequence[str]) -> int:
    """Which of `servers` a device belongs to.

    Rendezvous hashing (D. Thaler and C. Ravishankar, 1998): one server more or less moves only its own.
    """
    return max(
        range(len(servers)), key=lambda i: hashlib.sha256(servers[i].encode() + b"\0" + device).digest()
    )


@dataclass(slots=True)
class _Unknown:
    """Keys that an edge server has not, as far as it said.

    Attributes:
        probe: the message that asks again.
        due: when it does, monotonic s; infinite while it is on its way.
    """

    probe: Message
    due: float
    pause: float


class Courier:
    """Carries what belongs to one edge server. See `Uplink`."""

    def __init__(
        self,
        bus: Bus,
        lanes: Lanes,
        limits: UplinkLimits,
        counters: Counter[str],
        outbox: Outbox,
        on_taken: Taken,
        room: Room = _room,
        on_stored: Stored = lambda question, sealed: None,
        overtaken: Overtaken = _never,
    ) -> None:
        self.bus = bus
        self.lanes = lanes
        self.breaker = Breaker(limits.pause, limits.longest_pause)
        self.delivered = 0
        self.batches = 0
        #: Why the last exchange failed; "" if it did not.
        self.problem = ""
        self._limits = limits
        self._counters = counters
        self._outbox = outbox
        self._on_taken = on_taken
        self._room = room
        self._wake = asyncio.Event()
        self._wake.set()
        #: Messages in the last batch.
        self._last = 0
        #: Messages in the next batch at most: fewer after a batch was refused.
        self._batch = limits.batch
        self._aside: dict[int, tuple[float, Message]] = {}
        self._unknown: dict[Spoken, _Unknown] = {}
        self._overtaken = overtaken
        #: Keys that neither end has any more: what they sealed is let go as it is read.
        self._gone: set[Spoken] = set()
        self._on_stored = on_stored
        self._questions: dict[Question, None] = {}
        self._ask_at = 0.0
        self.idle = asyncio.Event()

    def adjust(self, limits: UplinkLimits) -> None:
        """Other bounds, from the next batch on."""
        self._limits = limits
        self._batch = limits.batch

    @property
    def away(self) -> bool:
        """Whether the last exchange failed."""
        return self.breaker.failures > 0

    @property
    def unknown(self) -> list[Spoken]:
        """Devices, and their key epochs, whose messages wait because the edge server has no keys for them."""
        return list(self._unknown)

    def put(self, message: Message, standing: Standing) -> None:
        """A message was committed."""
        self.lanes.put(message, standing)
        self.idle.clear()
        self._wake.set()

    def ask(self, question: Question) -> None:
        """Have a stored answer come once more; not while the server is away, or many ask."""
        if not self.away and len(self._questions) < _QUESTIONS:
            self._questions[question] = None
            self._wake.set()

    async def greet(self) -> None:
        """Find out with a batch of nothing whether the server is there."""
        try:
            await self.bus.exchange([])
        except BusError as error:
            first = not self.away
            self.breaker.failed(time.monotonic())
            self.problem = str(error)
            _log.log(
                logging.WARNING if first else logging.DEBUG,
                "the edge server at %s does not answer (%s): messages wait in the outbox; start it, or "
                "correct `edge` and [uplink] in the settings",
                self.bus.description,
                error,
            )
        else:
            self._there()

    def _there(self) -> None:
        """An exchange went well."""
        self.problem = ""
        failures = self.breaker.succeeded()
        if failures:
            _log.warning("the edge server at %s is back after %d failures", self.bus.description, failures)

    async def run(self) -> None:
        """Send batches until cancelled."""
        try:
            while True:
                self._bring_back()
                if self._questions and time.monotonic() >= self._ask_at:
                    await self._ask()
                if self.lanes.empty:
                    self.idle.set()
                    await self._sleep()
                    if self.away and self.lanes.empty and not self.breaker.wait(time.monotonic()):
                        await self.greet()
                    continue
                await asyncio.sleep(self.breaker.wait(time.monotonic()))
                count = 1 if self.away else self._batch
                wanted = self.lanes.wanted(count)
                if wanted is not None:
                    await self._read(wanted)
                elif self.lanes.ready < min(count, _ENOUGH):
                    dense = self._last >= _DENSE
                    await asyncio.sleep(self._limits.age * (_LONGER if dense else 1))
                batch = self.lanes.head(await self._room(count))
                if batch:
                    await self._deliver(batch)
        finally:
            await self.bus.close()

    async def _sleep(self) -> None:
        """Until something comes, or is to be brought back."""
        self._wake.clear()
        tries = [at for at, _ in self._aside.values()] + [one.due for one in self._unknown.values()]
        if self._questions:
            tries.append(self._ask_at)
        if self.away:
            tries.append(time.monotonic() + self.breaker.wait(time.monotonic()))
        due = min(tries, default=math.inf)
        try:
            async with asyncio.timeout(None if due == math.inf else max(0.0, due - time.monotonic())):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _ask(self) -> None:
        """Stored answers, as far as there are."""
        asked, self._questions = list(self._questions), {}
        self._ask_at = time.monotonic() + _ASK_EVERY
        items = [
            IngestItem(device, octet0(Kind.REPLY, epoch), counter, 0, b"", epoch)
            for device, epoch, counter in asked
        ]
        try:
            answers = await self.bus.exchange(items)
        except BusError as error:
            _log.debug("%d stored answers were not to be had: %s", len(asked), error)
            return
        for question, answer in zip(asked, answers, strict=True):
            if answer.verdict == Verdict.ALREADY and answer.sealed:
                self._on_stored(question, answer.sealed)

    async def _read(self, wanted: tuple[int, int, int]) -> None:
        after, until, count = wanted
        found, last = await self._outbox.page(after, until, max(count, _PAGE))
        found = [message for message in found if message.id not in self._aside]
        gone = set(filter(self._overtaken, self._gone & set(map(spoken_of, found)))) if self._gone else ()
        if gone:
            lost = [message for message in found if spoken_of(message) in gone]
            found = [message for message in found if spoken_of(message) not in gone]
            self._counters[Reason.OUTBOX_KEY_GONE] += len(lost)
            self._outbox.take(lost)
        self.lanes.read(wanted, found, last)

    async def _deliver(self, batch: list[Message]) -> None:
        """One batch there and its verdicts back."""
        now = self._outbox.clock()
        items = [
            IngestItem(
                m.device,
                m.octet0,
                m.counter,
                min(_OLDEST, max(0, int((now - m.came) * 1000))),
                m.sealed,
                m.epoch,
            )
            for m in batch
        ]
        try:
            answers = await self.bus.exchange(items)
        except RefusedError as error:
            self._refused(batch, error)
            return
        except BusError as error:
            if isinstance(error, UnauthorizedError):
                self._counters[Reason.EDGE_UNAUTHORIZED] += 1
            self._failed(error)
            return
        self._there()
        if len(batch) >= self._batch:
            self._batch = min(self._limits.batch, 2 * self._batch)
        self.batches += 1
        self._last = len(batch)
        taken, busy = [], False
        unknown = [m for m, a in zip(batch, answers, strict=True) if a.verdict == Verdict.UNKNOWN_DEVICE]
        self._let_go([message for message in unknown if self._overtaken(spoken_of(message))])
        self._hold([message for message in unknown if not self._overtaken(spoken_of(message))])
        for message, answer in zip(batch, answers, strict=True):
            if answer.verdict == Verdict.BUSY:
                busy = True
                continue
            if answer.verdict == Verdict.UNKNOWN_DEVICE:
                self._counters[Reason.EDGE_UNKNOWN_DEVICE] += 1
                continue
            if self._gone:  # it has the key after all
                self._gone.discard(spoken_of(message))
            if self._unknown and self._unknown.pop(spoken_of(message), None) is not None:
                self._known(message)
            reason = _EVIDENCE.get(answer.verdict)
            if reason is not None:
                self._counters[reason] += 1
            taken.append((message, answer))
        self.delivered += len(taken)
        self.lanes.done(message.id for message, _ in taken)
        self._on_taken(taken)
        if busy:
            await asyncio.sleep(self._limits.pause)

    def _failed(self, error: Exception) -> None:
        pause = self.breaker.failed(time.monotonic())
        self.problem = str(error)
        self.lanes.demote()
        # It may only be slow: a smaller batch is done in time.
        self._batch = max(1, self._batch // 2)
        _log.log(
            logging.WARNING if self.breaker.failures == 1 else logging.DEBUG,
            "the edge server at %s does not take messages (%s); %d wait in the outbox, next try in %.1f s",
            self.bus.description,
            error,
            self._outbox.messages,
            pause,
        )

    def _refused(self, batch: list[Message], error: RefusedError) -> None:
        """It will not have this batch: smaller ones find out which message it is, and that one waits."""
        first = not self.away
        self.problem = str(error)
        self.breaker.failed(time.monotonic())
        self._batch = max(1, len(batch) // 2)
        if first:
            _log.error(
                "the edge server at %s refused a batch of %d with %s; nothing is dropped: "
                "do gateway and edge server have the same version?",
                self.bus.description,
                len(batch),
                error,
            )
        if len(batch) == 1:
            self._counters[Reason.UPLINK_REFUSED] += 1
            self._aside[batch[0].id] = (time.monotonic() + self._limits.aside, batch[0])
            self.lanes.done([batch[0].id])

    def _hold(self, messages: Sequence[Message]) -> None:
        """The edge server has no keys for these: their devices wait."""
        now = time.monotonic()
        for message in messages:
            one = self._unknown.get(spoken_of(message))
            if one is None:
                pause = self._limits.unknown
                self._unknown[spoken_of(message)] = _Unknown(message, now + pause, pause)
                _log.warning(
                    "the edge server at %s does not know device %s, key epoch %d: what it sends waits in the "
                    "outbox; give that server the edge-registry.json of its enrolment",
                    self.bus.description,
                    message.device.hex(),
                    message.epoch,
                )
            elif one.probe.id == message.id:
                one.pause = min(2 * one.pause, self._limits.aside)
                one.due = now + one.pause
        if messages:
            self.lanes.hold(*messages)

    def _let_go(self, messages: Sequence[Message]) -> None:
        """Neither end has the keys of these: all that they sealed is read once more, and dropped."""
        if messages:
            self.lanes.hold(*messages)
        for device, epoch in set(map(spoken_of, messages)):
            self._unknown.pop((device, epoch), None)
            self.lanes.known((device, epoch))
            if (device, epoch) in self._gone:
                continue
            self._gone.add((device, epoch))
            _log.error(
                "the edge server at %s has no key epoch %d of device %s, and this gateway's registry only "
                "later ones: nobody can open what it sealed, and all of it in the outbox is dropped",
                self.bus.description,
                epoch,
                device.hex(),
            )

    def _known(self, message: Message) -> None:
        _log.warning(
            "the edge server at %s knows device %s, key epoch %d now",
            self.bus.description,
            message.device.hex(),
            message.epoch,
        )
        self.lanes.known(spoken_of(message))

    def _bring_back(self) -> None:
        now = time.monotonic()
        for number in [number for number, (at, _) in self._aside.items() if at <= now]:
            self.lanes.again(self._aside.pop(number)[1])
        for spoken in [spoken for spoken, one in self._unknown.items() if one.due <= now]:
            one = self._unknown[spoken]
            if self._outbox.lasts(one.probe):
                one.due = math.inf
                self.lanes.again(one.probe)
            else:  # too old, and gone: another one asks, if there is one
                del self._unknown[spoken]
                self.lanes.known(spoken)


class Uplink:
    """All couriers.

    Args:
        buses: one per edge server.
        limits: bounds.
        counters: where reasons are counted.
        outbox: what is in custody.
        on_taken: called for each batch, with what the edge server took and its verdicts.
        room: awaited before each batch, with how many answers it may bring: when to fetch them, and how many.
        on_stored: called with each stored answer that was asked for.
        overtaken: whether the gateway's registry has only later key epochs of a device than this one.
    """

    def __init__(
        self,
        buses: Sequence[Bus],
        limits: UplinkLimits,
        counters: Counter[str],
        outbox: Outbox,
        on_taken: Taken,
        room: Room = _room,
        on_stored: Stored = lambda question, sealed: None,
        overtaken: Overtaken = _never,
    ) -> None:
        self._servers = [bus.description for bus in buses]
        self._whose: dict[bytes, int] = {}
        self.couriers = [
            Courier(
                bus,
                Lanes(limits.queue, outbox.last, partial(self._is, i)),
                limits,
                counters,
                outbox,
                on_taken,
                room,
                on_stored,
                overtaken,
            )
            for i, bus in enumerate(buses)
        ]

    async def greet(self) -> None:
        """Find out which edge servers are there."""
        await asyncio.gather(*(courier.greet() for courier in self.couriers))

    def renew(self) -> None:
        """Read certificates and tokens again. Raises SlimwireError: one cannot be used."""
        for courier in self.couriers:
            courier.bus.renew()

    def problems(self) -> dict[str, str]:
        """Why edge servers take nothing at the moment, those that do."""
        return {c.bus.description: c.problem for c in self.couriers if c.away}

    def adjust(self, limits: UplinkLimits) -> None:
        """Other bounds of every courier; `queue` stays as it was."""
        for courier in self.couriers:
            courier.adjust(limits)

    @property
    def away(self) -> bool:
        """Whether the last exchange with any edge server failed."""
        return any(courier.away for courier in self.couriers)

    @property
    def delivered(self) -> int:
        """Messages that the edge servers took."""
        return sum(courier.delivered for courier in self.couriers)

    @property
    def batches(self) -> int:
        """Batches that they took."""
        return sum(courier.batches for courier in self.couriers)

    @property
    def live(self) -> int:
        """Messages in memory."""
        return sum(courier.lanes.live for courier in self.couriers)

    def states(self) -> dict[str, State]:
        """How it is with each edge server."""
        now = time.monotonic()
        return {courier.bus.description: courier.breaker.state(now) for courier in self.couriers}

    def unknown(self) -> dict[str, list[Spoken]]:
        """What waits because an edge server has no keys for it: devices and key epochs, by server."""
        return {courier.bus.description: courier.unknown for courier in self.couriers}

    def ask(self, question: Question) -> None:
        """Have a stored answer come once more, if there is one."""
        self.couriers[self._of(question[0])].ask(question)

    def put(self, message: Message, standing: Standing) -> None:
        """A message of a device of that standing was committed."""
        self.couriers[self._of(message.device)].put(message, standing)

    async def run(self) -> None:
        """Send batches until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for courier in self.couriers:
                tasks.create_task(courier.run())

    async def drain(self, seconds: float) -> None:
        """Wait until nothing waits any more at the edge servers that are there, for so long at most."""
        waiting = [courier.idle.wait() for courier in self.couriers if not courier.away]
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*waiting)
        except TimeoutError:
            pass

    def _of(self, device: bytes) -> int:
        if len(self._servers) == 1:
            return 0
        whose = self._whose.get(device)
        if whose is None:
            whose = self._whose[device] = assigned(device, self._servers)
        return whose

    def _is(self, i: int, device: bytes) -> bool:
        return self._of(device) == i
