"""What the receiver remembers of one enrolled device."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.admission import Account
from gateway.events import Verified
from gateway.recovery import AckRation
from security.keys import GatewayKeys
from security.registry import Device
from security.replay import Intervals
from wire.message import datagram_tag


class Completed(NamedTuple):
    """When a message was last complete, and for how long after that its copies are late duplicates, s.

    The gap doubles with each retry: whoever replays a message gets few answers out of it.
    """

    at: float
    gap: float


@dataclass(slots=True)
class Peer:
    """What the receiver remembers of one enrolled device."""

    device: Device[GatewayKeys]
    #: Its link-local IPv6 address.
    address: bytes
    account: Account = field(default_factory=Account)
    #: Counters of messages in custody or delivered, by epoch.
    used: dict[int, Intervals] = field(default_factory=dict)
    #: The last completed messages by (epoch, counter), oldest first.
    complete: "OrderedDict[tuple[int, int], Completed]" = field(default_factory=OrderedDict)
    #: (datagram size, datagram tag) of those; (0, 8-bit tag) is what a recoverable fragment names it by.
    complete_tags: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    #: Highest verified counter of any epoch; only newer ones count for the rate.
    highest: int = -1
    #: Token bucket of verified new messages.
    tokens: float = 0.0
    refilled: float = 0.0
    messages: int = 0
    fragments: int = 0
    rejected: int = 0
    last_heard: float | None = None
    #: Whether its last message of several fragments was completed by a recoverable one.
    recovers: bool = False
    #: RFRAG-ACKs that nothing authenticated has asked for.
    ration: AckRation = field(default_factory=lambda: AckRation(burst=8.0, rate=4.0))
    #: Words about messages used before: whoever replays a recorded one gets few out of it.
    repeats: AckRation = field(default_factory=AckRation)
    #: Made once: most frames have this one event.
    verified: Verified = field(init=False)

    def __post_init__(self) -> None:
        self.verified = Verified(self.device.eui)

    def meter(self, rate: float, burst: float, now: float) -> bool:
        """Count a new verified message: whether it is within `rate` a second, and `burst` on top."""
        self.tokens = min(burst, self.tokens + (now - self.refilled) * rate)
        self.refilled = now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True

    def remember(self, name: tuple[int, int], size: int, done: Completed, most: int) -> None:
        """What comes of this message from now on is a late copy, or a retry; of `most` messages at most.

        Args:
            name: (epoch, counter). size: of its datagram, octets.
        """
        tag = datagram_tag(name[1])
        self.complete[name] = done
        self.complete.move_to_end(name)
        self.complete_tags[(size, tag)] = name
        self.complete_tags[(0, tag & 0xFF)] = name
        while len(self.complete) > most:
            self.complete.popitem(last=False)
        if len(self.complete_tags) > 4 * most:
            self.complete_tags = {
                key: name for key, name in self.complete_tags.items() if name in self.complete
            }
