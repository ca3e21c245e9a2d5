"""What a link is: whole 802.15.4 frames in and out; over MQTT, fragments in.

A wrapper (`FaultyLink`, `PcapLink`) takes any link and is one. Loss, corruption and capture are never flags
of a driver.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Received(NamedTuple):
    """One frame from the air, or one fragment from a broker."""

    #: The frame with its FCS; the fragment (`wire.mqtt`) where there is a `source`.
    frame: bytes
    #: Where the link got it from, opaque to everyone else; given back in `Link.learn`.
    origin: object
    #: Link quality as the radio states it, 0..255.
    lqi: int
    #: Monotonic time of arrival, s.
    at: float
    #: EUI-64 of the device on whose MQTT topic the fragment came; None for a frame.
    source: bytes | None = None


class Leg(NamedTuple):
    """One way in and out, for people and metrics."""

    #: "zep", "mqtt" or "uart".
    name: str
    description: str
    #: Whether it works at this moment.
    up: bool
    #: Frames or fragments that came in, and went out.
    received: int
    sent: int


class Link(Protocol):
    """Carries frames. `receive` may be called by one task, `send` by one task."""

    @property
    def counters(self) -> Counter[str]:
        """Frames dropped below 802.15.4, by reason."""
        ...

    @property
    def description(self) -> str:
        """What the link is and where it listens, for people."""
        ...

    def legs(self) -> Sequence[Leg]:
        """The legs behind this link: itself, or those it wraps."""
        ...

    async def receive(self) -> Received:
        """The next frame, in order of arrival; waits for one."""
        ...

    async def send(self, frame: bytes) -> None:
        """Hand one frame, with its FCS, to the radio."""
        ...

    def learn(self, source: bytes, origin: object) -> None:
        """A frame of `source` (EUI-64) from `origin` was verified: frames for it go there from now on."""
        ...

    def refuse(self, received: Received) -> None:
        """Nothing that `received` carried was taken: a broker that keeps it until we say so may forget it."""
        ...

    def close(self) -> None:
        """Release what the link holds; a waiting `receive` is the caller's to cancel."""
        ...
