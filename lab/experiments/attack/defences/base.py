"""What a defence is to the judge: frames in; stored, refused or delivered out; bytes in use."""

from collections import Counter
from typing import NamedTuple, Protocol

from lab.experiments.attack.formats import Member
from wire import frag, lowpan
from wire.errors import WireError
from wire.ieee802154 import FrameKind, MacFrame
from wire.ipv6 import udp_checksum


class Delivered(NamedTuple):
    """A datagram handed up.

    Attributes:
        source: the device it is said to be from.
        octets: octet 0, counter and sealed bytes, whatever the format added removed.
        frames: numbers of the frames it was made of, as given to `receive`; empty if not known.
    """

    source: bytes
    octets: bytes
    frames: tuple[int, ...]


class Fate(NamedTuple):
    """What became of one frame.

    Attributes:
        stored: octets of it that were put into a buffer, or straight into a delivery.
        refused: why it was dropped, None if it was not.
        delivered: what it completed.
    """

    stored: int = 0
    refused: str | None = None
    delivered: tuple[Delivered, ...] = ()


#: Refusals that are no loss: the octets are there already, or their time was over.
HARMLESS = frozenset({"duplicate", "already-complete", "expired"})


class Defence(Protocol):
    """A gateway's reception.

    Attributes:
        counters: why frames and unfinished datagrams were dropped, and how often.
        used: bytes held for datagrams under reassembly now.
        bound: what `used` never exceeds.
    """

    @property
    def counters(self) -> Counter[str]: ...

    @property
    def used(self) -> int: ...

    @property
    def bound(self) -> int: ...

    def receive(self, number: int, frame: bytes, now: float) -> Fate:
        """Take frame `number`, with FCS, at `now` s."""

    def tick(self, now: float) -> None:
        """Once a second: let old things go."""

    def trust(self, eui: bytes) -> float | None:
        """Trust in a device, None where a defence has none."""

    def answered(self, delivered: Delivered, *, opens: bool) -> None:
        """The edge server's verdict on what was delivered: whether its seal opens."""


class Settings(NamedTuple):
    """What every defence is built from.

    Attributes:
        members: the enrolled devices, hostile ones too.
        memory: bytes that defences without a documented buffer may use: what Slimwire reserves.
        timeout: s that Slimwire keeps an unfinished datagram.
    """

    members: list[Member]
    memory: int
    timeout: float


class Fragment(NamedTuple):
    """A fragment header as a lenient stack reads it: no check but that the header is there."""

    first: bool
    size: int
    tag: int
    offset: int
    data: bytes


def data_frame(frame: bytes) -> MacFrame | None:
    """The frame, if it is an intact data frame with a source."""
    try:
        mac = MacFrame.parse(frame)
    except WireError:
        return None
    return mac if mac.kind is FrameKind.DATA and mac.src is not None and mac.dst is not None else None


def fragment(payload: bytes) -> Fragment | None:
    """The RFC 4944 fragment in a 6LoWPAN payload, None if it is something else."""
    if len(payload) > frag.FRAG1_SIZE and payload[0] & 0xF8 == 0xC0:
        size, tag = (payload[0] & 7) << 8 | payload[1], payload[2] << 8 | payload[3]
        return Fragment(True, size, tag, 0, payload[frag.FRAG1_SIZE :])
    if len(payload) > frag.FRAGN_SIZE and payload[0] & 0xF8 == 0xE0:
        size, tag = (payload[0] & 7) << 8 | payload[1], payload[2] << 8 | payload[3]
        return Fragment(False, size, tag, 8 * payload[4], payload[frag.FRAGN_SIZE :])
    return None


def first_headers(payload: bytes, mac: MacFrame) -> lowpan.First | None:
    """A first fragment's decompressed headers, None if they cannot be read."""
    try:
        part = lowpan.parse(payload, mac.src, mac.dst)
    except WireError:
        return None
    return part if isinstance(part, lowpan.First) else None


def checksum_is_good(first: lowpan.First, payload: bytes) -> bool:
    """Whether a whole UDP payload is what its first fragment's headers announced."""
    if len(payload) != first.payload_length:
        return False
    return udp_checksum(first.src16, first.dst16, first.sport, first.dport, payload) == first.checksum
