"""The gateway at work: one link, one receiver, uplink and downlink, and what ties them."""

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from pathlib import Path

import httpx

from gateway import kept_trust
from gateway.admission import Limits
from gateway.bus.http import HttpBus
from gateway.downlink import Ack, Downlink, DownlinkLimits, Reply
from gateway.enrolment import Enrolment
from gateway.epochs import FILE as EPOCHS_FILE
from gateway.epochs import EpochsFile
from gateway.errors import GatewayError
from gateway.events import Accepted, Acknowledge, Event, Hint, Rejected, Revoked, Used, Verified
from gateway.journal import Journal
from gateway.lanes import Spoken
from gateway.links.base import Link, Received
from gateway.outbox import Message, Offered, Outbox, OutboxError, OutboxLimits, Store
from gateway.parking import Parked, Parking
from gateway.reasons import Reason
from gateway.receiver import Receiver
from gateway.settings import Settings
from gateway.uplink import Question, Uplink, UplinkLimits
from security.chain import ChainVerifier
from security.keys import GatewayKeys
from security.trust import Cause, Standing, TrustEngine
from slimwire import tracing
from wire.batch import AnswerItem, Verdict
from wire.reply import CustodyStatus

_log = logging.getLogger("gateway")

#: Frames taken in a row before other tasks get their turn.
_BURST = 32
#: How often unfinished datagrams are looked over and the registry file is looked at, s.
_TICK = 1.0
#: How often frames let the registry file be looked at, s: a change holds from the next frame on.
_LOOK = 0.02
#: How often a change of the counters is logged, s.
_SUMMARY = 60.0
#: Answers remembered for devices that ask again.
_ANSWERS = 4096
#: PAN of answers to a device whose frames named none.
_BROADCAST_PAN = 0xFFFF

_EVIDENCE = {Verdict.ANSWERED: Cause.ANSWERED, Verdict.SEAL: Cause.SEAL, Verdict.LATENT: Cause.LATENT}


class Service:
    """A gateway on one link. `verifier` decides what is genuine; no setting reaches it.

    Args:
        settings: what to run.
        verifier: `security.chain.KeyedChain` everywhere but in the lab.
        trust: the trust engine.
        link: an open link; the service closes it.
        enrolment: the registry.
        transport: replaces httpx's own, for an edge server in the same process.
        store: the outbox's database, which the service closes; None: in memory, and then no device is told
            that it may forget a message.

    Raises:
        GatewayError: the registry's reserves do not fit the memory limit.
    """

    def __init__(
        self,
        settings: Settings,
        verifier: ChainVerifier,
        trust: TrustEngine,
        link: Link,
        enrolment: Enrolment,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        store: Store | None = None,
    ) -> None:
        own = settings.limits
        self.settings = settings
        self.trust = trust
        self.link = link
        self.enrolment = enrolment
        self._look_at = 0.0
        self._epochs_file: EpochsFile | None = None
        self.receiver = Receiver(
            enrolment.registry,
            verifier,
            trust,
            Limits(
                memory=own.memory,
                timeout=own.timeout,
                retry_gap=own.retry_gap,
                rate=own.rate,
                burst=own.burst,
            ),
            pan=settings.pan,
        )
        up, down, box = settings.uplink, settings.downlink, settings.outbox
        #: Reasons met after admission; the receiver and the link have counters of their own.
        self.counters: Counter[str] = Counter()
        self.started = time.monotonic()
        store = store or Store()
        for (device, epoch), flat in store.used().items():
            self.receiver.restore_used(device, epoch, flat)
        kept = store.trust()
        self._enrolled = self._not_revoked()
        renewed = self._renewed(store)
        known = [row for row in kept if row.device in self._enrolled and row.device not in renewed]
        kept_trust.restore(trust, known, self.started, store.clock())
        self.outbox = Outbox(store, OutboxLimits(bytes=box.bytes, age=box.age), self.counters)
        self.outbox.forget({row.device for row in kept} - {row.device for row in known})
        self.downlink = Downlink(link, DownlinkLimits(gap=down.gap, queue=down.queue), self.counters)
        self.uplink = Uplink(
            [
                HttpBus(url, up.timeout, access=up.access(), transport=transport)
                for url in settings.edge_servers()
            ],
            UplinkLimits(batch=up.batch, age=up.age, queue=up.queue),
            self.counters,
            self.outbox,
            self._on_taken,
            self.downlink.room,
            self._on_stored,
            self.overtaken,
        )
        self.journal = Journal()
        #: Of devices heard since the start.
        self._pans: dict[bytes, int] = {}
        self._parked = Parking()
        #: The last answers by device, epoch and counter: whoever missed one gets it again.
        self._answers: OrderedDict[tuple[bytes, int, int], bytes] = OrderedDict()
        self._receiving: asyncio.Task[None] | None = None
        #: Frames and fragments looked at, and looks at the clock: that both go on is what a watchdog wants.
        self.taken = self.ticks = 0

    @property
    def uptime(self) -> float:
        """Seconds since the service was made."""
        return time.monotonic() - self.started

    def rejected(self) -> dict[str, int]:
        """Every reason met so far, on the link, in admission and after it."""
        return dict(sorted(self._counted().items()))

    def _counted(self) -> Counter[str]:
        return self.link.counters + self.receiver.counters + self.counters + self.enrolment.refused

    def overtaken(self, spoken: Spoken) -> bool:
        """Whether the registry has only later key epochs of that device: epochs never come back."""
        peer = self.receiver.peers.get(spoken[0])
        return peer is not None and spoken[1] < min(peer.device.epochs)

    def keep_epochs(self, directory: Path) -> None:
        """Keep in this directory, over restarts, which key epochs devices have moved on from."""
        self._epochs_file = EpochsFile(directory / EPOCHS_FILE, self.receiver.epochs)
        self._epochs_file.restore(time.monotonic(), time.time())

    async def run(self) -> None:
        """Serve until cancelled; closes the link and the outbox.

        Raises:
            OutboxError: the outbox's file is damaged.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.outbox.run(self._on_decided))
                self._receiving = tasks.create_task(self._receive())
                tasks.create_task(self._tick())
                tasks.create_task(self.uplink.run())
                tasks.create_task(self.downlink.run())
        except* OutboxError as errors:
            raise errors.exceptions[0] from None
        finally:
            self.link.close()

    async def drain(self, seconds: float) -> None:
        """Take nothing new, and let what is here out for so long at most; what is left is in the outbox."""
        if self._receiving is not None:
            self._receiving.cancel()
        ends = time.monotonic() + seconds
        await self.uplink.drain(seconds)
        while (self.outbox.uncommitted or len(self.downlink)) and time.monotonic() < ends:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def _receive(self) -> None:
        receive, on_frame = self.link.receive, self.receiver.on_frame
        on_fragment = self.receiver.on_fragment
        while True:
            for _ in range(_BURST):
                received = await receive()
                self.taken += 1
                if received.at >= self._look_at:
                    self._follow(received.at)
                source, frame, at = received.source, received.frame, received.at
                events = on_frame(frame, at) if source is None else on_fragment(source, frame, at)
                if source is not None and all(type(event) is Rejected for event in events):
                    self.link.refuse(received)
                for event in events:
                    if type(event) is Accepted:
                        self._on_message(event, received)
                    elif type(event) is Used:
                        self._on_repeated(event, received)
                    elif type(event) is Revoked:
                        self._on_revoked(event, received)
                    elif type(event) is Acknowledge:
                        self._on_acknowledge(event, events, received)
                    elif type(event) is Hint:
                        self.downlink.on_hint(event.device, event.tag, event.bitmap)
            await asyncio.sleep(0)

    def _heard(self, device: bytes, pan: int | None, received: Received) -> None:
        """A device authenticated itself: replies go where it was heard."""
        self.link.learn(device, received.origin)
        new = device not in self._pans
        self._pans[device] = _BROADCAST_PAN if pan is None else pan
        parked = self._parked.take(device) if new else []
        for message, sealed, _ in parked:
            self._answer(device, message.epoch, message.counter, sealed)
        if parked:
            messages = self._parked.release(parked)
            self.downlink.then(lambda: self.outbox.take(messages))

    def _on_message(self, message: Accepted, received: Received) -> None:
        device = message.device
        tracing.step("accepted", device, message.epoch, message.counter)
        self._heard(device, message.pan, received)
        self.journal.add(device, message.epoch, message.counter, message.sealed, retry=message.retry)
        standing = self.receiver.standing(device, received.at)
        offered = Offered(
            device, message.epoch, message.counter, message.octet0, self.outbox.clock(), message.sealed
        )
        refused = self.outbox.offer(offered, standing)
        if refused is not None:
            self._promise(device, message.epoch, message.counter, refused)

    def _on_decided(self, decided: Sequence[tuple[Offered, Message | CustodyStatus]]) -> None:
        """A transaction was committed: its messages are in custody, their devices are told."""
        now = time.monotonic()
        standings: dict[bytes, Standing] = {}
        for offered, result in decided:
            device = offered.device
            if isinstance(result, Message):
                self.receiver.mark_used(device, offered.epoch, offered.counter)
                tracing.step("committed", device, offered.epoch, offered.counter)
                standing = standings.get(device)
                if standing is None:
                    standing = standings[device] = self.receiver.standing(device, now)
                self.uplink.put(result, standing)
                self._promise(device, offered.epoch, offered.counter, CustodyStatus.COMMITTED)
            elif result is CustodyStatus.ALREADY:
                self.counters[Reason.ALREADY_HELD] += 1
                self.receiver.mark_used(device, offered.epoch, offered.counter)
                self._on_used(device, offered.epoch, offered.counter)
            else:
                self._promise(device, offered.epoch, offered.counter, result)

    def _on_repeated(self, event: Used, received: Received) -> None:
        # A device repeats its newest message; who repeats another has recorded it, perhaps elsewhere.
        if event.counter >= self.receiver.peers[event.device].highest:
            self._heard(event.device, event.pan, received)
        self._on_used(event.device, event.epoch, event.counter)

    def _on_revoked(self, event: Revoked, received: Received) -> None:
        """Who sends with revoked keys is told that nothing of it is taken."""
        if event.counter >= self.receiver.peers[event.device].highest:
            self.link.learn(event.device, received.origin)
        self._promise(event.device, event.epoch, event.counter, CustodyStatus.REVOKED, event.pan)

    def _on_used(self, device: bytes, epoch: int, counter: int) -> None:
        """A device repeats what is in custody, or was: it heard no ack, or no answer."""
        self._promise(device, epoch, counter, CustodyStatus.ALREADY)
        sealed = self._answers.get((device, epoch, counter))
        if sealed is not None:
            self._answer(device, epoch, counter, sealed)
        else:
            self.uplink.ask((device, epoch, counter))

    def _on_stored(self, question: Question, sealed: bytes) -> None:
        """The edge server's record of what it answered, for a device that asks again."""
        self._answers[question] = sealed
        self._trim()
        self._answer(*question, sealed)

    def _promise(
        self, device: bytes, epoch: int, counter: int, status: CustodyStatus, pan: int | None = None
    ) -> None:
        """Send a custody ack, if the outbox is one that keeps promises. `pan`: None is where it was heard."""
        keys = self._keys(device, epoch)
        if self.outbox.durable and keys is not None:
            if pan is None:
                pan = self._pans.get(device, _BROADCAST_PAN)
            self.downlink.promise(
                self.receiver.gateway, Ack(device, epoch, counter, status, pan, keys.frag_dn)
            )

    def _answer(self, device: bytes, epoch: int, counter: int, sealed: bytes) -> None:
        keys = self._keys(device, epoch)
        if keys is None:
            return
        pan, peer = self._pans.get(device, _BROADCAST_PAN), self.receiver.peers[device]
        reply = Reply(device, epoch, counter, sealed, pan, keys.frag_dn, recoverable=peer.recovers)
        self.downlink.put(self.receiver.gateway, reply)

    def _keys(self, device: bytes, epoch: int) -> GatewayKeys | None:
        """Those of an enrolled device and its epoch."""
        peer = self.receiver.peers.get(device)
        return peer.device.epochs.get(epoch) if peer is not None else None

    def _on_acknowledge(self, ack: Acknowledge, events: list[Event], received: Received) -> None:
        """A device asks what has arrived. Only what authenticated itself says where to find it."""
        if any(type(event) is Verified for event in events):
            self.link.learn(ack.device, received.origin)
        pan = _BROADCAST_PAN if ack.pan is None else ack.pan
        self.downlink.acknowledge(self.receiver.gateway, ack.device, pan, ack.tag, ack.bitmap)

    def _on_taken(self, taken: Sequence[tuple[Message, AnswerItem]]) -> None:
        """The edge server took these: answers go out, verdicts may be evidence, messages leave custody."""
        now = time.monotonic()
        observed = set()
        messages: list[Message] = []
        for message, answer in taken:
            device, epoch, counter = message.device, message.epoch, message.counter
            tracing.step("taken by the edge server", device, epoch, counter)
            cause = _EVIDENCE.get(Verdict(answer.verdict))
            if cause is not None:
                self.trust.observe(device, cause.outcome, now, cause)
                observed.add(device)
            if answer.sealed:
                self._answers[device, epoch, counter] = answer.sealed
                if device not in self._pans:
                    self._park(Parked(message, answer.sealed, now))
                    continue
                self._answer(device, epoch, counter, answer.sealed)
            messages.append(message)
        self._trim()
        rows = kept_trust.rows_of(self.trust, observed, self.outbox.clock())
        self.outbox.settle(message for message, _ in taken)
        # Whoever is killed before the answers are out finds the messages again, and with them the answers.
        self.downlink.then(lambda: self.outbox.take(messages, rows))

    def _trim(self) -> None:
        while len(self._answers) > _ANSWERS:
            self._answers.popitem(last=False)

    def _park(self, answer: Parked) -> None:
        """Its device was not heard since the start: nobody knows where it is."""
        gone = self._parked.put(answer)
        if gone is not None:
            self.counters[Reason.DOWNLINK_UNROUTABLE] += 1
            self.outbox.take(self._parked.release([gone]))

    async def _tick(self) -> None:
        last, told = self.rejected(), time.monotonic()
        while True:
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            self.ticks += 1
            self.receiver.tick(now)
            self.outbox.tick()
            overdue = self._parked.overdue(now)
            if overdue:
                self.outbox.take(overdue)
            observed, self.receiver.observed = self.receiver.observed, set()
            if observed:
                self.outbox.keep(kept_trust.rows_of(self.trust, observed, self.outbox.clock()))
            self._follow(now)
            if self._epochs_file is not None:
                self._epochs_file.write(now, time.time())
            if now - told >= _SUMMARY:
                last, told = self._summarise(last), now

    def _follow(self, now: float) -> None:
        """Use the registry as its file is now."""
        self._look_at = now + _LOOK
        if self.enrolment.changed() is not None:
            self._reload()

    def _reload(self) -> None:
        registry = self.enrolment.registry
        try:
            renewed = self.receiver.update(registry)
        except GatewayError as error:
            self.enrolment.refuse("registry-too-large", error)
            return
        self._pans = {device: pan for device, pan in self._pans.items() if device in registry.devices}
        # Who is enrolled anew, or revoked and taken back, starts as a newcomer, also after a restart.
        before, self._enrolled = self._enrolled, self._not_revoked()
        self.outbox.forget(before - self._enrolled | renewed)
        _log.info("registry %s read again: %d devices", self.enrolment.path, len(registry.devices))

    def _renewed(self, store: Store) -> set[bytes]:
        """Devices that were enrolled anew while this was off: all that they were heard in is epochs gone."""
        heard: dict[bytes, set[int]] = {}
        for device, epoch in store.used():
            heard.setdefault(device, set()).add(epoch)
        devices = self.enrolment.registry.devices
        return {eui for eui in heard.keys() & devices.keys() if not heard[eui] & devices[eui].epochs.keys()}

    def _not_revoked(self) -> set[bytes]:
        return {eui for eui, device in self.enrolment.registry.devices.items() if not device.revoked}

    def _summarise(self, before: dict[str, int]) -> dict[str, int]:
        current = self.rejected()
        new = {reason: count - before.get(reason, 0) for reason, count in current.items()}
        new = {reason: count for reason, count in new.items() if count}
        if new:
            _log.info(
                "dropped in the last %.0f s: %s",
                _SUMMARY,
                ", ".join(f"{reason} {count}" for reason, count in new.items()),
            )
        return current
