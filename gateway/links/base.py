"""What a link is: whole 802.15.4 frames in and out.

A wrapper (`FaultyLink`, `PcapLink`) takes any link and is one. Loss, corruption and capture are never flags
of a driver.
"""

from collections import Counter
from typing import NamedTuple, Protocol


class Received(NamedTuple):
    """One frame from the air."""

    #: The frame with its FCS.
    frame: bytes
    #: Where the link got it from, opaque to everyone else; given back in `Link.learn`.
    origin: object
    #: Link quality as the radio states it, 0..255.
    lqi: int
    #: Monotonic time of arrival, s.
    at: float


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

    async def receive(self) -> Received:
        """The next frame, in order of arrival; waits for one."""
        ...

    async def send(self, frame: bytes) -> None:
        """Hand one frame, with its FCS, to the radio."""
        ...

    def learn(self, source: bytes, origin: object) -> None:
        """A frame of `source` (EUI-64) from `origin` was verified: frames for it go there from now on."""
        ...

    def close(self) -> None:
        """Release what the link holds; a waiting `receive` is the caller's to cancel."""
        ...
