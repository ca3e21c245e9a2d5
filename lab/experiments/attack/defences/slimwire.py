"""Slimwire itself: `gateway.receiver.Receiver` with the keyed chain and the trust engine that ships.

Around it only what the service does when the edge server has answered: the counter is used, and the verdict
on the seal is evidence.
"""

from collections import Counter

from gateway.admission import LARGEST_DATAGRAM, Limits
from gateway.events import Accepted, Acknowledge, Hint, Kept, Rejected, Verified
from gateway.reasons import Reason
from gateway.receiver import Receiver
from lab.experiments.attack.defences.base import Delivered, Fate, Settings
from lab.experiments.attack.formats import GATEWAY, SITE, Format
from security.chain import ChainVerifier, KeyedChain
from security.registry import Device, GatewayRegistry
from security.trust import Cause, PredictiveTrust
from wire import ieee802154

#: Of a frame beside its 6LoWPAN payload, FCS included.
_HEADERS = ieee802154.MAX_FRAME - ieee802154.room(GATEWAY, GATEWAY)

#: Bytes of the remainder that trust shares out, beside the reserves.
SHARED = 4 * LARGEST_DATAGRAM


def memory_for(devices: int) -> int:
    """Bytes for so many enrolled devices: their reserves, the early pool and a small remainder."""
    return devices * Limits().reserve + Limits().early_pool + SHARED


class Slimwire:
    """See the module.

    Args:
        verifier: replaces the keyed chain: a control for the judge.
    """

    def __init__(self, settings: Settings, fmt: Format, verifier: ChainVerifier | None = None) -> None:
        devices = {
            member.eui: Device(member.eui, f"device {member.number}", {0: member.keys})
            for member in settings.members
        }
        self._receiver = Receiver(
            GatewayRegistry(GATEWAY, SITE, devices=devices),
            verifier or KeyedChain(),
            PredictiveTrust(),
            Limits(memory=settings.memory, timeout=settings.timeout),
        )
        self._now = 0.0
        #: RFRAG-ACKs that the gateway wants to send because of the last frame.
        self.acks: list[Acknowledge] = []

    @property
    def counters(self) -> Counter[str]:
        """See `Defence`."""
        return self._receiver.counters

    @property
    def used(self) -> int:
        """See `Defence`."""
        return self._receiver.memory_used

    @property
    def bound(self) -> int:
        """See `Defence`."""
        return self._receiver.memory_bound

    def trust(self, eui: bytes) -> float | None:
        """See `Defence`."""
        return self._receiver.trust.level(eui)

    def tick(self, now: float) -> None:
        """See `Defence`."""
        self._receiver.tick(now)

    def answered(self, delivered: Delivered, *, opens: bool) -> None:
        """See `Defence`: as `gateway.service` does."""
        counter = int.from_bytes(delivered.octets[1:5], "big")
        self._receiver.mark_used(delivered.source, 0, counter)
        cause = Cause.ANSWERED if opens else Cause.SEAL
        self._receiver.trust.observe(delivered.source, cause.outcome, self._now, cause)

    def receive(self, number: int, frame: bytes, now: float) -> Fate:
        """See `Defence`."""
        self._now = now
        events = self._receiver.on_frame(frame, now)
        delivered = tuple(
            Delivered(
                event.device,
                bytes([event.octet0]) + event.counter.to_bytes(4, "big") + event.sealed,
                (),
            )
            for event in events
            # A message asked for again is answered from the edge server's store: not a second delivery.
            if isinstance(event, Accepted) and not event.retry
        )
        self.acks = [event for event in events if isinstance(event, Acknowledge)]
        if isinstance(events[0], Hint):
            # As `gateway.downlink` does: no answer of several frames is under way here.
            self.counters[Reason.STRAY_ACK] += 1
            return Fate(0, str(Reason.STRAY_ACK))
        if any(isinstance(event, Accepted | Verified | Kept) for event in events):
            return Fate(len(frame) - _HEADERS, None, delivered)
        own = [event.reason for event in events if isinstance(event, Rejected)]
        reason = next((reason for reason in own if reason is not Reason.EVICTED), own[0])
        return Fate(0, str(reason))
