"""The receiver: frames in, whole authenticated messages out. Pure; time is passed in, nothing here does I/O.

A frame takes one way through: 802.15.4, whose it is, 6LoWPAN, and then either

- a first fragment (or a whole datagram) of an enrolled device: addresses, ports, message header, **MAC,
  before anything is reserved for it**, then its cut, its counter, and room in the device's own account
  (`gateway.admission`); or
- a later fragment of a datagram that is open: its place in the manifest, then its tag; a wrong one is
  dropped alone; or
- a later fragment that overtook its first one: the small shared pool (`gateway.early`).

A recoverable fragment (RFC 8931) is one of these as well; its sender may be told what is there
(`gateway.recovery`). An RFRAG-ACK or an abort is a hint: it changes nothing here.

Whatever is wrong ends in a counted `Reason`; no input raises. What has not authenticated itself changes
nothing but that pool and the tally behind it (`gateway.ledger`).
"""

from collections import Counter, OrderedDict
from collections.abc import Sequence

from gateway.admission import Budget, Limits
from gateway.early import EarlyPool
from gateway.epochs import Epochs
from gateway.events import (
    Accepted,
    Acknowledge,
    Event,
    Hint,
    Kept,
    Rejected,
    Revoked,
    Used,
    Verified,
)
from gateway.ledger import FailureLedger
from gateway.peers import Completed, Peer
from gateway.reasons import Reason
from gateway.reassembly import Datagram
from gateway.recovery import ANSWERED, WHOLE, bitmap
from security.chain import ChainVerifier
from security.keys import GatewayKeys
from security.registry import GatewayRegistry
from security.replay import Intervals
from security.trust import Cause, Quarantining, Standing, TrustEngine
from wire import eui64, lowpan, mqtt
from wire.errors import WireError
from wire.ieee802154 import FrameKind, MacFrame
from wire.ipv6 import UDP_OFFSET
from wire.message import MAX_PAYLOAD, PORT, FirstSlice, Kind, datagram_tag, without_f
from wire.rfrag import FULL_BITMAP, NULL_BITMAP, Rfrag, RfragAck

#: Unauthenticated evidence about a source: it shrinks that source's share of the pool, and nothing else.
_SUSPICIOUS = frozenset(
    {
        Reason.BAD_SIZE,
        Reason.BAD_OFFSET,
        Reason.BAD_LENGTH,
        Reason.BAD_SOURCE,
        Reason.BAD_DESTINATION,
        Reason.BAD_PORT,
        Reason.BAD_MAC,
        Reason.BAD_TAG,
        Reason.OVERLAP,
        Reason.TAG_MISMATCH,
        Reason.MALFORMED_LOWPAN,
        Reason.MALFORMED_MESSAGE,
        Reason.NO_MANIFEST,
    }
)

#: What `wire.lowpan` and `wire.message` call the refusals that have a name of their own here.
_LOWPAN_REASONS = {
    "frag-size": Reason.BAD_SIZE,
    "frag-offset": Reason.BAD_OFFSET,
    "frag-length": Reason.BAD_LENGTH,
    "frag-empty": Reason.BAD_LENGTH,
    "not-udp": Reason.NOT_UDP,
}
#: First octets of RFRAG and RFRAG-ACK, with and without E.
_RECOVERABLE = frozenset({b"\xe8", b"\xe9", b"\xea", b"\xeb"})
_MESSAGE_REASONS = {"bad-version": Reason.BAD_VERSION, "no-manifest": Reason.NO_MANIFEST}

#: Intervals of used counters kept per device and epoch. The edge server's record is exact; here a hostile
#: device that scatters its counters must not make memory grow.
_USED_INTERVALS = 256

#: Sources that are not enrolled, remembered for the person who wants to enrol them.
_STRANGERS = 64


class Receiver:
    """Admission, reassembly and replay state of one gateway.

    Args:
        registry: who is enrolled, and the gateway's own EUI-64.
        verifier: decides whether fragments are genuine.
        trust: grants bytes of the shared remainder; told of authenticated evidence. One that is
            `Quarantining` also says how much of its reserve a device has.
        limits: bounds.
        pan: the one PAN to listen in; None takes frames of any, and answers go where a message came from.

    Raises:
        GatewayError: the registry's reserves do not fit `limits.memory`.

    Attributes:
        counters: how often each `Reason` was met.
        fragments, messages: how many authenticated.
        peers: what is remembered of each enrolled device, by EUI-64.
        epochs: which key epochs of rotating devices are still accepted.
        budget, early: the memory in use, and its bounds.
        strangers: sources not enrolled and when they were last heard, monotonic s.
        observed: devices of which trust was told something here, for whoever keeps it; theirs to clear.
    """

    def __init__(
        self,
        registry: GatewayRegistry,
        verifier: ChainVerifier,
        trust: TrustEngine,
        limits: Limits | None = None,
        *,
        pan: int | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.trust = trust
        self.counters: Counter[str] = Counter()
        self.fragments = 0
        self.messages = 0
        self.epochs = Epochs()
        self.early = EarlyPool(self.limits.early_pool, self.limits.early_timeout)
        self.ledger = FailureLedger()
        self.strangers: OrderedDict[bytes, float] = OrderedDict()
        self.observed: set[bytes] = set()
        self.budget = Budget(self.limits, 0)
        self.peers: dict[bytes, Peer] = {}
        self._verifier = verifier
        self._pan = pan
        self._quarantining = trust if isinstance(trust, Quarantining) else None
        self._active: set[bytes] = set()
        self.update(registry)

    def update(self, registry: GatewayRegistry) -> set[bytes]:
        """Follow a registry that changed. A datagram begun under a key that it no longer has is dropped.

        Returns:
            Devices that were enrolled anew, none of their keys being one of before: they start as newcomers.

        Raises:
            GatewayError: its reserves do not fit; nothing is changed then.
        """
        enrolled = {eui for eui, device in registry.devices.items() if not device.revoked}
        self.budget.resize(len(enrolled))
        peers, renewed = {}, set()
        for eui, device in registry.devices.items():
            peer = self.peers.get(eui) or Peer(device, eui64.link_local(eui), tokens=self.limits.burst)
            if not peer.device.epochs.items() & device.epochs.items():
                peer.highest = -1  # another identity: its counters start over
                renewed.add(eui)
            peer.device = device
            peers[eui] = peer
        for eui in list(self._active):
            peer = self.peers[eui]
            for datagram in list(peer.account.open.values()):
                own = registry.devices[eui].epochs.get(datagram.epoch) if eui in enrolled else None
                if own is None or own.frag_up != datagram.k_frag:
                    self._close(eui, peer, datagram)
                    self.counters[Reason.KEY_GONE] += 1
        for account in (self.peers[eui].account for eui in self._active):
            self.budget.return_borrowed(account)
        self.peers = peers
        self.gateway = registry.gateway
        self._address = eui64.link_local(registry.gateway)
        self.trust.enrol(enrolled - renewed)
        self.trust.enrol(enrolled)
        self.epochs.keep({eui: device.epochs for eui, device in registry.devices.items()})
        return renewed

    @property
    def memory_used(self) -> int:
        """Bytes held for unfinished datagrams and early fragments."""
        return self.budget.used + self.early.used

    @property
    def memory_bound(self) -> int:
        """What `memory_used` never exceeds, bytes."""
        return self.limits.memory

    def standing(self, device: bytes, now: float) -> Standing:
        """How much of its reserve a device has at monotonic time `now`."""
        if self._quarantining is None:
            return Standing.FULL
        self._quarantining.advance(now)
        return self._quarantining.standing(device)

    def mark_used(self, device: bytes, epoch: int, counter: int) -> None:
        """This message is committed: its counter is used from now on."""
        peer = self.peers.get(device)
        if peer is not None:
            peer.used.setdefault(epoch, Intervals(_USED_INTERVALS)).add(counter)

    def restore_used(self, device: bytes, epoch: int, flat: Sequence[int]) -> None:
        """What was used before this start, as `Intervals.to_list` gave it. Raises StateError."""
        peer = self.peers.get(device)
        if peer is not None:
            peer.used[epoch] = Intervals.from_list(flat, _USED_INTERVALS)
            if epoch in peer.device.epochs:
                peer.highest = max((peer.highest, *flat))

    def on_frame(self, frame: bytes, now: float) -> list[Event]:
        """Take one frame, with its FCS, at monotonic time `now` (s, never falling). Never raises."""
        try:
            mac = MacFrame.parse(frame)
        except WireError:
            return [self._reject(Reason.MALFORMED_FRAME, None, now)]
        if mac.dst != self.gateway or mac.kind is not FrameKind.DATA or self._pan not in (None, mac.pan):
            return [self._reject(Reason.NOT_OURS, None, now)]
        source = mac.src
        peer = self.peers.get(source) if source is not None else None
        if source is None or peer is None:
            return [self._stranger(source, now)]
        if peer.device.revoked:
            return self._on_revoked(source, peer, mac, now)
        if mac.secured:
            return [self._reject(Reason.MALFORMED_FRAME, source, now)]
        if mac.payload[:1] in _RECOVERABLE:
            return self._on_recoverable(source, peer, mac.pan, mac.payload, now)
        try:
            packet = lowpan.parse(mac.payload, source, mac.dst)
        except WireError as error:
            return [self._reject(_LOWPAN_REASONS.get(error.reason, Reason.MALFORMED_LOWPAN), source, now)]
        if isinstance(packet, lowpan.Next):
            return self._on_next(source, peer, packet, now)
        return self._on_first(source, peer, mac.pan, packet, now)

    def on_fragment(self, source: bytes, fragment: bytes, now: float) -> list[Event]:
        """Take one fragment that came over MQTT (`wire.mqtt`), on the topic of device `source`. Never raises.

        From here on it is any other fragment: the topic is a claim, as the source of a frame is one.
        """
        peer = self.peers.get(source)
        if peer is None:
            return [self._stranger(source, now)]
        try:
            part = mqtt.Fragment.parse(fragment)
        except WireError:
            return [self._reject(Reason.MALFORMED_FRAGMENT, source, now)]
        if peer.device.revoked and part.i:
            return [self._reject(Reason.REVOKED, source, now)]
        tag = datagram_tag(part.counter)
        if not part.i:
            size = part.payload_length + UDP_OFFSET
            addresses = (peer.address, self._address)
            first = lowpan.First(size, tag, *addresses, PORT, PORT, 0, part.data, part.payload_length)
            return self._on_first(source, peer, None, first, now)
        for datagram in peer.account.open.values():
            if datagram.counter == part.counter:
                offset = datagram.offset_of(part.i)
                return self._on_next(source, peer, lowpan.Next(datagram.size, tag, offset, part.data), now)
        done = any(counter == part.counter for _, counter in peer.complete)
        return [self._reject(Reason.ALREADY_COMPLETE if done else Reason.NO_FIRST, source, now)]

    def tick(self, now: float) -> list[Event]:
        """Drop what was not finished in time; call it about once a second."""
        events: list[Event] = []
        if self._quarantining is not None:
            self._quarantining.advance(now)
        limit = now - self.limits.timeout
        for source in list(self._active):
            peer = self.peers[source]
            for datagram in [d for d in peer.account.open.values() if d.started <= limit]:
                self._close(source, peer, datagram)
                events.append(self._reject(Reason.EXPIRED, source, now))
        expired = self.early.expire(now)
        if expired:
            self.counters[Reason.EARLY_EXPIRED] += expired
        return events

    # A first fragment, or a whole datagram.

    def _on_first(
        self,
        source: bytes,
        peer: Peer,
        pan: int | None,
        packet: lowpan.First | lowpan.Unfragmented,
        now: float,
        *,
        recoverable: bool = False,
    ) -> list[Event]:
        if packet.src16 != peer.address:
            return [self._reject(Reason.BAD_SOURCE, source, now)]
        if packet.dst16 != self._address:
            return [self._reject(Reason.BAD_DESTINATION, source, now)]
        if packet.sport != PORT or packet.dport != PORT:
            return [self._reject(Reason.BAD_PORT, source, now)]
        if isinstance(packet, lowpan.First):
            data, length, tag = packet.udp_payload_slice, packet.payload_length, packet.tag
        else:
            data, length, tag = packet.payload, len(packet.payload), None
        tag_bits = 0xFF if recoverable else 0xFFFF
        if length > MAX_PAYLOAD:
            return [self._reject(Reason.BAD_SIZE, source, now)]
        try:
            first = FirstSlice.parse(data, length)
        except WireError as error:
            return [self._reject(_MESSAGE_REASONS.get(error.reason, Reason.MALFORMED_MESSAGE), source, now)]
        if first.kind is not Kind.DATA:
            return [self._reject(Reason.UNKNOWN_KIND, source, now)]
        own_tag = datagram_tag(first.counter)
        if tag is not None and tag != own_tag & tag_bits:
            return [self._reject(Reason.TAG_MISMATCH, source, now)]
        there = peer.account.open.get((length + UDP_OFFSET, own_tag))
        if there is not None and there.first.data == data:
            # The very bytes that were verified: the device starts over, so its time does too.
            there.started = now
            return [self._reject(Reason.DUPLICATE, source, now)]
        found = peer.device.keys_for(first.epoch2)
        if found is None:
            return [self._reject(Reason.UNKNOWN_EPOCH, source, now)]
        epoch, keys = found
        if self.epochs.retired(source, epoch, now):
            return [self._reject(Reason.RETIRED_EPOCH, source, now)]
        addresses = (packet.src16, packet.dst16)
        if not self._verifier.verify_first(keys.frag_up, addresses, (PORT, PORT), length, first):
            return [self._reject(Reason.BAD_MAC, source, now)]
        return self._on_verified(source, peer, pan, first, epoch, keys, now)

    def _on_verified(
        self,
        source: bytes,
        peer: Peer,
        pan: int | None,
        first: FirstSlice,
        epoch: int,
        keys: GatewayKeys,
        now: float,
    ) -> list[Event]:
        """From here on the device's key stands behind `first`; yet a copy of it is no evidence."""
        counter = first.counter
        fresh = counter > peer.highest
        if fresh:
            peer.highest = counter
        peer.last_heard = now
        if peer.device.revoked:
            refused: list[Event] = [self._reject(Reason.REVOKED, source, now)]
            return [*refused, Revoked(source, epoch, counter, pan)] if peer.repeats.take(now) else refused
        if first.cut_problem is not None:
            if fresh:
                self.trust.observe(source, False, now, Cause.BAD_MANIFEST)
                self.observed.add(source)
            return [self._reject(Reason.BAD_MANIFEST, source, now)]
        name = (epoch, counter)
        done = peer.complete.get(name)
        retry = done is not None and now - done.at < self.limits.retry_window
        if done is not None and now - done.at < min(done.gap, self.limits.retry_window):
            return [self._reject(Reason.ALREADY_COMPLETE, source, now)]
        if epoch in peer.used and counter in peer.used[epoch]:
            gap = self.limits.retry_gap if done is None else 2 * done.gap
            peer.remember(
                name, first.payload_length + UDP_OFFSET, Completed(now, gap), self.limits.remembered
            )
            replayed: list[Event] = [self._reject(Reason.REPLAYED, source, now)]
            return [*replayed, Used(source, epoch, counter, pan)] if peer.repeats.take(now) else replayed
        events: list[Event] = []
        rivals = self._rivals(peer, first)
        if any((rival.counter, rival.first.attempt) >= (counter, first.attempt) for rival in rivals):
            return [self._reject(Reason.STALE, source, now)]
        for rival in rivals:
            self._close(source, peer, rival)
            events.append(self._reject(Reason.EVICTED, source, now))
        if fresh:
            self._meter(source, peer, now)
        datagram = Datagram(first, epoch, keys.frag_up, pan, now, retry=retry)
        if not datagram.complete:
            standing = self.standing(source, now)
            own = self.budget.fits_reserve(peer.account, datagram.size, standing)
            allowance = 0 if own else self.trust.budget(source, self.budget.shared)
            evicted = self.budget.reserve(peer.account, datagram, allowance, standing)
            if evicted is None:
                quarantined = standing is Standing.QUARANTINE
                return [
                    *events,
                    self._reject(Reason.QUARANTINED if quarantined else Reason.QUOTA, source, now),
                ]
            events.extend(self._reject(Reason.EVICTED, source, now) for _ in evicted)
            self._active.add(source)
        self.fragments += 1
        peer.fragments += 1
        if datagram.complete:
            return [*events, self._finish(source, peer, datagram, now)]
        events.append(peer.verified)
        for offset, data in self.early.take(source, datagram.size, datagram.tag):
            events.append(self._fill(source, peer, datagram, offset, data, now))
        for sequence, data in self.early.take(source, 0, datagram.tag & 0xFF):
            events.append(self._fill_sequence(source, peer, datagram, sequence, data, now))
        return events

    @staticmethod
    def _rivals(peer: Peer, first: FirstSlice) -> list[Datagram]:
        """Open datagrams that cannot live beside `first`: the same counter cut anew, or the same tag."""
        size, tag = first.payload_length + UDP_OFFSET, datagram_tag(first.counter)
        return [
            datagram
            for datagram in peer.account.open.values()
            if datagram.counter == first.counter or (datagram.size == size and datagram.tag == tag)
        ]

    def _meter(self, source: bytes, peer: Peer, now: float) -> None:
        """Count a new verified message against the device's rate; above it, that is evidence."""
        if peer.meter(self.limits.rate, self.limits.burst, now):
            return
        self.counters[Reason.OVER_RATE] += 1
        self.trust.observe(source, False, now, Cause.OVER_QUOTA)
        self.observed.add(source)

    def _on_revoked(self, source: bytes, peer: Peer, mac: MacFrame, now: float) -> list[Event]:
        """Nothing of a revoked device is taken; who still makes first fragments with its keys is told so."""
        first: lowpan.First | lowpan.Unfragmented | None = None
        recoverable = mac.payload[:1] in _RECOVERABLE
        try:
            if recoverable and not mac.payload[0] & 2:
                fragment = Rfrag.parse(mac.payload)
                if fragment.sequence == 0 and not fragment.is_abort:
                    first = lowpan.recoverable_first(fragment, source, self.gateway)
            elif not recoverable and not mac.secured:
                packet = lowpan.parse(mac.payload, source, self.gateway)
                first = None if isinstance(packet, lowpan.Next) else packet
        except WireError:
            pass
        if first is None:
            return [self._reject(Reason.REVOKED, source, now)]
        return self._on_first(source, peer, mac.pan, first, now, recoverable=recoverable)

    # A later fragment.

    def _on_next(self, source: bytes, peer: Peer, packet: lowpan.Next, now: float) -> list[Event]:
        key = (packet.datagram_size, packet.tag)
        datagram = peer.account.open.get(key)
        if datagram is not None:
            if now - datagram.started < self.limits.timeout:
                return [self._fill(source, peer, datagram, packet.udp_payload_offset, packet.data, now)]
            self._close(source, peer, datagram)
            return [self._reject(Reason.EXPIRED, source, now), *self._early(source, packet, now)]
        done = peer.complete.get(peer.complete_tags.get(key, (-1, -1)))
        if done is not None and now - done.at < self.limits.retry_window:
            return [self._reject(Reason.ALREADY_COMPLETE, source, now)]
        return self._early(source, packet, now)

    # A recoverable fragment, or what is said about one.

    def _on_recoverable(
        self, source: bytes, peer: Peer, pan: int | None, payload: bytes, now: float
    ) -> list[Event]:
        try:
            if payload[0] & 2:
                ack = RfragAck.parse(payload)
                return [Hint(source, ack.tag, ack.bitmap)]
            fragment = Rfrag.parse(payload)
            if fragment.is_abort:
                return [self._reject(Reason.RECOVERY_ABORT, source, now)]
            if fragment.sequence == 0:
                first = lowpan.recoverable_first(fragment, source, self.gateway)
                if fragment.offset - first.payload_length != lowpan.USUAL_SIZE:
                    return [self._reject(Reason.BAD_SIZE, source, now)]
                events = self._on_first(source, peer, pan, first, now, recoverable=True)
            else:
                events = self._on_sequence(source, peer, fragment, now)
        except WireError as error:
            return [self._reject(_LOWPAN_REASONS.get(error.reason, Reason.MALFORMED_LOWPAN), source, now)]
        if any(isinstance(event, Accepted) for event in events):
            peer.recovers = True
        if fragment.ack_request:
            events.extend(self._acknowledge(source, peer, pan, fragment.tag, events, now))
        return events

    def _on_sequence(self, source: bytes, peer: Peer, fragment: Rfrag, now: float) -> list[Event]:
        """A later fragment: of the newest open datagram with its tag, else of one that is not open."""
        if not fragment.payload:
            return [self._reject(Reason.BAD_LENGTH, source, now)]
        offset = fragment.offset - lowpan.USUAL_SIZE
        if offset <= 0 or offset % 8:
            return [self._reject(Reason.BAD_OFFSET, source, now)]
        datagram = peer.account.newest.get(fragment.tag)
        if datagram is None:
            named = lowpan.Next(0, fragment.tag, fragment.sequence, fragment.payload)
            return self._on_next(source, peer, named, now)
        first = datagram.first
        if fragment.sequence > first.n or first.slice_at(fragment.sequence)[0] != offset:
            return [self._reject(Reason.BAD_OFFSET, source, now)]
        return self._on_next(
            source, peer, lowpan.Next(datagram.size, datagram.tag, offset, fragment.payload), now
        )

    def _fill_sequence(
        self, source: bytes, peer: Peer, datagram: Datagram, sequence: int, data: bytes, now: float
    ) -> Event:
        if sequence > datagram.first.n:
            return self._reject(Reason.BAD_OFFSET, source, now)
        return self._fill(source, peer, datagram, datagram.first.slice_at(sequence)[0], data, now)

    def _acknowledge(
        self, source: bytes, peer: Peer, pan: int | None, tag: int, events: list[Event], now: float
    ) -> list[Event]:
        """The RFRAG-ACK for a fragment that asked for one and had these events, if it gets one."""
        refusals = {event.reason for event in events if isinstance(event, Rejected)} - {Reason.EVICTED}
        genuine = any(isinstance(event, Verified | Accepted) for event in events)
        kept = any(isinstance(event, Kept) for event in events)
        if not genuine and not ((kept or refusals & ANSWERED) and peer.ration.take(now)):
            return []
        datagram = peer.account.newest.get(tag)
        if any(isinstance(event, Accepted) for event in events) or refusals & WHOLE:
            return [Acknowledge(source, pan, tag, FULL_BITMAP)]
        return [Acknowledge(source, pan, tag, NULL_BITMAP if datagram is None else bitmap(datagram))]

    def _early(self, source: bytes, packet: lowpan.Next, now: float) -> list[Event]:
        share = self.ledger.share(source, self.early.capacity, now)
        kept, evicted = self.early.add(
            source, packet.datagram_size, packet.tag, packet.udp_payload_offset, packet.data, now, share
        )
        if evicted:
            self.counters[Reason.EARLY_EVICTED] += evicted
        return [Kept(source) if kept else self._reject(Reason.EARLY_REFUSED, source, now)]

    def _fill(
        self, source: bytes, peer: Peer, datagram: Datagram, offset: int, data: bytes, now: float
    ) -> Event:
        index = datagram.place(offset, data)
        if isinstance(index, Reason):
            return self._reject(index, source, now)
        if not self._verifier.verify_slice(datagram.k_frag, source, datagram.first, index, data):
            return self._reject(Reason.BAD_TAG, source, now)
        datagram.keep(index, data)
        self.fragments += 1
        peer.fragments += 1
        peer.last_heard = now
        if not datagram.complete:
            return peer.verified
        self._close(source, peer, datagram)
        return self._finish(source, peer, datagram, now)

    # Ends.

    def _finish(self, source: bytes, peer: Peer, datagram: Datagram, now: float) -> Accepted:
        self.messages += 1
        peer.messages += 1
        if len(peer.device.epochs) > 1:
            self.epochs.heard(source, datagram.epoch, now)
        if datagram.first.n:
            peer.recovers = False
        name = (datagram.epoch, datagram.counter)
        before = peer.complete.get(name) if datagram.retry else None
        gap = self.limits.retry_gap if before is None else 2 * before.gap
        peer.remember(name, datagram.size, Completed(now, gap), self.limits.remembered)
        first = datagram.first
        return Accepted(
            source,
            without_f(first.octet0),
            datagram.epoch,
            datagram.counter,
            datagram.sealed(),
            datagram.opened,
            datagram.fragments,
            datagram.pan,
            datagram.retry,
        )

    def _close(self, source: bytes, peer: Peer, datagram: Datagram) -> None:
        self.budget.release(peer.account, datagram)
        if not peer.account.open:
            self._active.discard(source)

    def _stranger(self, source: bytes | None, now: float) -> Rejected:
        if source is not None:
            self.strangers[source] = now
            self.strangers.move_to_end(source)
            if len(self.strangers) > _STRANGERS:
                self.strangers.popitem(last=False)
        return self._reject(Reason.STRANGER, source, now)

    def _reject(self, reason: Reason, source: bytes | None, now: float) -> Rejected:
        self.counters[reason] += 1
        if source is not None:
            peer = self.peers.get(source)
            if peer is not None:
                peer.rejected += 1
                if reason in _SUSPICIOUS:
                    self.ledger.fail(source, now)
        return Rejected(reason, source)
