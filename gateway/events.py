"""What a frame came to at the receiver. Whoever acts on it is `gateway.service`."""

from typing import NamedTuple

from gateway.reasons import Reason


class Accepted(NamedTuple):
    """A whole message, every byte of it authenticated by `device`'s key."""

    device: bytes
    #: F cleared.
    octet0: int
    #: The full key epoch.
    epoch: int
    counter: int
    sealed: bytes
    #: Monotonic time of its first fragment, s.
    started: float
    #: Frames it came in.
    frames: int
    #: The PAN it came from: answers go there.
    pan: int | None
    #: Whether a message with this counter was accepted before: the device heard no answer and asks again.
    retry: bool


class Verified(NamedTuple):
    """A fragment that authenticated itself and waits for the rest of its datagram."""

    device: bytes


class Rejected(NamedTuple):
    """A frame or an unfinished datagram that was dropped. `device` is the claimed source, if there is one."""

    reason: Reason
    device: bytes | None


class Kept(NamedTuple):
    """A fragment that waits, unauthenticated, for its first one."""

    device: bytes


class Acknowledge(NamedTuple):
    """An RFRAG-ACK that the device is to get. `tag`: 8 bits; `bitmap`: 32, sequence 0 at the left."""

    device: bytes
    pan: int | None
    tag: int
    bitmap: int


class Hint(NamedTuple):
    """An RFRAG-ACK in the name of this device, about a datagram of the gateway's. Anybody can send it."""

    device: bytes
    tag: int
    bitmap: int


class Used(NamedTuple):
    """A verified first fragment of a message that is in custody, or was: its device is to be told so."""

    device: bytes
    epoch: int
    counter: int
    pan: int | None


class Revoked(NamedTuple):
    """A verified first fragment of a device whose enrolment was revoked: it is to be told so."""

    device: bytes
    epoch: int
    counter: int
    pan: int | None


Event = Accepted | Verified | Rejected | Kept | Acknowledge | Hint | Used | Revoked
