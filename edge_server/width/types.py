"""What goes into a width policy and what comes out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

#: Bytes of a frame that aren't coded symbols: headers, and the spaces around it as bytes.
FRAME_OVERHEAD = 108.0
#: A whole custody ack and a whole answer, likewise.
CUSTODY_AIR, ANSWER_AIR = 121.0, 146.0
#: What seal, manifest and addresses add once a message.
_MESSAGE_OVERHEAD = 30.0


def air(frames: float, coded: float) -> float:
    """Bytes of channel time that a message takes: its frames, what is in them, the spaces between them.

    IEEE 802.15.4's (back-off of 3.5 slots on average, 12 symbols turnaround and the ack, LIFS), counted at
    the link's rate; docs/protocol.md, section 1, for the headers.
    """
    return FRAME_OVERHEAD * frames + _MESSAGE_OVERHEAD + coded


@dataclass(frozen=True, slots=True)
class WidthOption:
    """One width of a bundle, as the controller sees it.

    Attributes:
        width: the width, e.g. 0.25.
        accuracy: measured top-1, 0..1.
        frames: mean 802.15.4 frames of one message at this width, ≥ 1.
        coded: mean bytes of coded symbols.
        head_seconds: what the head takes on the device; 0 where the deadline starts with the first frame.
    """

    width: float
    accuracy: float
    frames: float
    coded: float = 0.0
    head_seconds: float = 0.0


class Sample(NamedTuple):
    """How one message of a device fared.

    Attributes:
        at: when this became known (s, any monotonic clock).
        seconds: from its first frame to its custody ack or answer; `inf` for a message that never arrived.
        frames: frames of the message (without retries), ≥ 1.
        retries: how often the device sent it again.
        coded: bytes of its coded symbols.
        waited: seconds it waited in this server.
        option: index of its width in the options; -1: not known.
        battery: as reported: 0 unknown or mains, 1..15 empty..full.
    """

    at: float
    seconds: float
    frames: int
    retries: int = 0
    coded: float = 0.0
    waited: float = 0.0
    option: int = -1
    battery: int = 0


class Choice(NamedTuple):
    """A width chosen, and why.

    Attributes:
        at: when (s).
        option: the chosen width's index into the options.
        width: the chosen width.
        reason: one sentence for people.
        on_time: P(on time) per option; empty where nothing was measured.
        value: accuracy · P(on time) per option; empty likewise.
        samples: messages measured so far, at most 255.
    """

    at: float
    option: int
    width: float
    reason: str
    on_time: tuple[float, ...] = ()
    value: tuple[float, ...] = ()
    samples: int = 0


class WidthPolicy(Protocol):
    """What the ingest asks for a device's next width. `device` is any hashable name."""

    def observe(self, device: bytes, sample: Sample) -> None:
        """Take in how a message fared."""

    def choose(
        self,
        device: bytes,
        options: Sequence[WidthOption],
        current: int,
        now: float,
        queue: int = 0,
        waited: float = 0.0,
    ) -> int:
        """The next width's index.

        Args:
            device: whose.
            options: the widths of its model. The same object each time, as long as they are the same.
            current: index of the width the device just used.
            now: s.
            queue: samples that wait on the device.
            waited: seconds that its message waited in this server.
        """

    def explain(self, device: bytes) -> list[Choice]:
        """The last choices, newest first; [] for a device never heard."""
