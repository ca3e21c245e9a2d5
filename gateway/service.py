"""The gateway at work: one link, one receiver, uplink and downlink, and what ties them."""

import asyncio
import logging
import time
from collections import Counter
from pathlib import Path

import httpx

from gateway.admission import Limits
from gateway.downlink import Downlink, DownlinkLimits, Reply
from gateway.enrolment import Enrolment
from gateway.epochs import FILE as EPOCHS_FILE
from gateway.epochs import EpochsFile
from gateway.errors import GatewayError
from gateway.journal import Journal
from gateway.links.base import Link, Received
from gateway.receiver import Accepted, Acknowledge, Event, Hint, Receiver, Rejected, Verified
from gateway.settings import Settings
from gateway.trust_file import TrustFile
from gateway.uplink import Uplink, UplinkLimits
from gateway.waiting import Queued
from security.chain import ChainVerifier
from security.trust import Cause, TrustEngine
from wire.batch import AnswerItem, Verdict
from wire.message import epoch_of

_log = logging.getLogger("gateway")

#: Frames taken in a row before other tasks get their turn.
_BURST = 32
#: How often unfinished datagrams are looked over and the registry file is looked at, s.
_TICK = 1.0
#: How often frames let the registry file be looked at, s: a change holds from the next frame on.
_LOOK = 0.02
#: How often a change of the counters is logged, s.
_SUMMARY = 60.0
#: How often what changed in trust is written, s: what a power cut can lose of it.
_KEEP = 30.0
#: Writing may take this part of the time at most: with very many devices it happens less often.
_KEEP_SHARE = 0.02
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
        trust_file: where `trust` is kept over restarts; None forgets it.

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
        trust_file: Path | None = None,
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
        up, down = settings.uplink, settings.downlink
        #: Reasons met after admission; the receiver and the link have counters of their own.
        self.counters: Counter[str] = Counter()
        self.uplink = Uplink(
            settings.edge,
            UplinkLimits(batch=up.batch, age=up.age, queue=up.queue, timeout=up.timeout),
            self.counters,
            self._on_answer,
            transport=transport,
        )
        self.downlink = Downlink(link, DownlinkLimits(gap=down.gap, queue=down.queue), self.counters)
        self.journal = Journal()
        self.started = time.monotonic()
        self._trust_file = None if trust_file is None else TrustFile(trust_file, trust)
        if self._trust_file is not None:
            self._trust_file.restore(self.started, time.time())
        self._pans: dict[bytes, int] = {}

    @property
    def uptime(self) -> float:
        """Seconds since the service was made."""
        return time.monotonic() - self.started

    def rejected(self) -> dict[str, int]:
        """Every reason met so far, on the link, in admission and after it."""
        return dict(sorted(self._counted().items()))

    def _counted(self) -> Counter[str]:
        return self.link.counters + self.receiver.counters + self.counters + self.enrolment.refused

    def keep_epochs(self, directory: Path) -> None:
        """Keep in this directory, over restarts, which key epochs devices have moved on from."""
        self._epochs_file = EpochsFile(directory / EPOCHS_FILE, self.receiver.epochs)
        self._epochs_file.restore(time.monotonic(), time.time())

    async def run(self) -> None:
        """Serve until cancelled; closes the link."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._receive())
                tasks.create_task(self._tick())
                tasks.create_task(self.uplink.run())
                tasks.create_task(self.downlink.run())
                if self._trust_file is not None:
                    tasks.create_task(self._keep(self._trust_file))
        finally:
            self.link.close()
            if self._trust_file is not None:
                text = self._trust_file.snapshot(time.monotonic(), time.time())
                if text is not None:
                    self._trust_file.write(text)

    async def _receive(self) -> None:
        receive, on_frame = self.link.receive, self.receiver.on_frame
        on_fragment = self.receiver.on_fragment
        while True:
            for _ in range(_BURST):
                received = await receive()
                if received.at >= self._look_at:
                    self._follow(received.at)
                source, frame, at = received.source, received.frame, received.at
                events = on_frame(frame, at) if source is None else on_fragment(source, frame, at)
                if source is not None and all(type(event) is Rejected for event in events):
                    self.link.refuse(received)
                for event in events:
                    if type(event) is Accepted:
                        self._on_message(event, received)
                    elif type(event) is Acknowledge:
                        self._on_acknowledge(event, events, received)
                    elif type(event) is Hint:
                        self.downlink.on_hint(event.device, event.tag, event.bitmap)
            await asyncio.sleep(0)

    def _on_message(self, message: Accepted, received: Received) -> None:
        device = message.device
        self.link.learn(device, received.origin)
        self._pans[device] = _BROADCAST_PAN if message.pan is None else message.pan
        self.journal.add(device, message.epoch, message.counter, message.sealed, retry=message.retry)
        queued = Queued(message.sealed, received.at, message.retry)
        standing = self.receiver.standing(device, received.at)
        self.uplink.put(device, message.octet0, message.counter, queued, standing)

    def _on_acknowledge(self, ack: Acknowledge, events: list[Event], received: Received) -> None:
        """A device asks what has arrived. Only what authenticated itself says where to find it."""
        if any(type(event) is Verified for event in events):
            self.link.learn(ack.device, received.origin)
        pan = _BROADCAST_PAN if ack.pan is None else ack.pan
        self.downlink.acknowledge(self.receiver.gateway, ack.device, pan, ack.tag, ack.bitmap)

    def _on_answer(self, answer: AnswerItem, message: Queued) -> None:
        """A message was taken: its counter is used, its answer goes out, its verdict may be evidence."""
        device = answer.device
        peer = self.receiver.peers.get(device)
        found = peer.device.keys_for(epoch_of(answer.octet0)) if peer is not None else None
        if found is None:
            return  # no longer enrolled
        epoch, keys = found
        self.receiver.mark_used(device, epoch, answer.counter)
        cause = _EVIDENCE.get(Verdict(answer.verdict))
        if cause is not None and not message.retry:
            self.trust.observe(device, cause.outcome, time.monotonic(), cause)
        if answer.sealed:
            pan = self._pans.get(device, _BROADCAST_PAN)
            self.downlink.put(
                self.receiver.gateway,
                Reply(
                    device,
                    epoch,
                    answer.counter,
                    answer.sealed,
                    pan,
                    keys.frag_dn,
                    recoverable=peer is not None and peer.recovers,
                ),
            )

    async def _tick(self) -> None:
        last, told = self.rejected(), time.monotonic()
        while True:
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            self.receiver.tick(now)
            self._follow(now)
            if self._epochs_file is not None:
                self._epochs_file.write(now, time.time())
            if now - told >= _SUMMARY:
                last, told = self._summarise(last), now

    async def _keep(self, file: TrustFile) -> None:
        """Write trust at intervals; only making the text holds up frames."""
        pause = _KEEP
        while True:
            await asyncio.sleep(pause)
            began = time.monotonic()
            text = file.snapshot(began, time.time())
            pause = max(_KEEP, (time.monotonic() - began) / _KEEP_SHARE)
            if text is not None:
                await asyncio.to_thread(file.write, text)

    def _follow(self, now: float) -> None:
        """Use the registry as its file is now."""
        self._look_at = now + _LOOK
        if self.enrolment.changed() is not None:
            self._reload()

    def _reload(self) -> None:
        registry = self.enrolment.registry
        try:
            self.receiver.update(registry)
        except GatewayError as error:
            self.enrolment.refuse("registry-too-large", error)
            return
        self._pans = {device: pan for device, pan in self._pans.items() if device in registry.devices}
        _log.info("registry %s read again: %d devices", self.enrolment.path, len(registry.devices))

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
