"""What the controller keeps of one device: well under a kilobyte (`slimwire bench control`)."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise
from math import erf, log, sqrt
from struct import Struct

from edge_server.width.types import ANSWER_AIR, CUSTODY_AIR, WidthOption, air

#: Choices kept per device for `explain`.
HISTORY = 8

#: The forecast's errors, ln(measured / forecast), are counted in bins of `BIN_STEP` from `BIN_LOW`; the last
#: bin has all larger ones.
BINS, BIN_LOW, BIN_STEP = 32, -1.5, 0.1
#: What a device is believed to be before anything is measured: its errors are normal with this deviation, and
#: of this many frames so many spoilt their message.
_PRIOR_SIGMA, _PRIOR_WEIGHT = 0.35, 20.0
_PRIOR_FRAMES, _PRIOR_LOST = 100.0, 0.5

_HEAD = Struct("<dBBB")


class Reason(IntEnum):
    """Why a width was chosen, as the history keeps it."""

    UNKNOWN = 0
    BEST = 1
    STAY = 2
    FLOOR = 3
    BUDGET = 4
    PROBE = 5
    QUEUE = 6


@dataclass(frozen=True, slots=True)
class Plan:
    """What follows from a model's options and a deadline alone; shared by all devices of that model.

    Attributes:
        options: the widths.
        accuracy, frames, air, left: per width: top-1; mean frames; bytes of channel time of message, custody
            ack and answer; seconds that head and server leave them.
        limit: per width: ln of the seconds per byte at which the time left is just used up; None: no time
            is left at all.
        cheapest: index of the least air.
        dearer: per width, the index of the next better one in accuracy that takes more air; -1: none.
    """

    options: Sequence[WidthOption]
    accuracy: tuple[float, ...]
    frames: tuple[float, ...]
    air: tuple[float, ...]
    left: tuple[float, ...]
    limit: tuple[float | None, ...]
    cheapest: int
    dearer: tuple[int, ...]

    @classmethod
    def of(cls, options: Sequence[WidthOption], deadline: float, server_seconds: float) -> Plan:
        """For a deadline in seconds, of which the server and the way to it take `server_seconds`."""
        bytes_ = tuple(air(o.frames, o.coded) + CUSTODY_AIR + ANSWER_AIR for o in options)
        left = tuple(deadline - o.head_seconds - server_seconds for o in options)
        dearer = []
        for i, o in enumerate(options):
            better = [j for j, p in enumerate(options) if p.accuracy > o.accuracy and bytes_[j] > bytes_[i]]
            dearer.append(min(better, key=lambda j: bytes_[j], default=-1))
        return cls(
            options,
            tuple(o.accuracy for o in options),
            tuple(o.frames for o in options),
            bytes_,
            left,
            tuple(log(t / b) if t > 0 else None for t, b in zip(left, bytes_, strict=True)),
            min(range(len(options)), key=lambda i: (bytes_[i], -options[i].accuracy)),
            tuple(dearer),
        )


def _prior() -> array[float]:
    edges = [BIN_LOW + BIN_STEP * i for i in range(BINS)]
    below = [0.0, *((1 + erf(z / _PRIOR_SIGMA / sqrt(2))) / 2 for z in edges[1:]), 1.0]
    return array("f", [_PRIOR_WEIGHT * (high - low) for low, high in pairwise(below)])


_PRIOR = _prior()


@dataclass(slots=True, eq=False)
class DeviceState:
    """One device with one model.

    Attributes:
        plan: the model's.
        memory: float32: BINS weights of the forecast's errors, then per width the slow mean of on time, then
            per width ln of how much longer than the others' its bytes take.
        weight: what the next error weighs; grows, so that older ones count less.
        x: smoothed ln of seconds per byte; nan before the first measurement and after silence.
        at: of the last measurement; `interval` mean seconds between them, 0 = unknown.
        samples: messages measured, saturating.
        tokens: switches that may be spent.
        pick: the width the adaptive rule stands at; -1 before the first choice.
        forecast: whether a forecast has been made.
        frames, lost: discounted counts of frames, and of messages that never arrived, were sent again or
            (in part) took much longer than forecast.
        battery: as last reported.
        probe: messages until the next look upwards; `patience` what it starts from; `probing` the width
            being looked at, or -1; `hint`: ln by how much, and more, the last look was faster than forecast.
        history: HISTORY records, newest at `newest`.
    """

    plan: Plan
    memory: array[float]
    history: bytearray
    x: float = float("nan")
    at: float = 0.0
    interval: float = 0.0
    frames: float = _PRIOR_FRAMES
    lost: float = _PRIOR_LOST
    tokens: float = 0.0
    samples: int = 0
    pick: int = -1
    forecast: bool = False
    weight: float = 1.0
    battery: int = 0
    probe: int = 0
    patience: int = 0
    probing: int = -1
    hint: float = 0.0
    newest: int = field(default=-1)

    @classmethod
    def of(cls, plan: Plan) -> DeviceState:
        """A device of which nothing is known."""
        w = len(plan.options)
        return cls(
            plan,
            _PRIOR + array("f", [0.0] * (2 * w)),
            bytearray(HISTORY * (_HEAD.size + w)),
        )

    def note(self, now: float, index: int, reason: Reason, on_time: bytes) -> None:
        """Add a choice to the history. on_time: 255ths per width; empty where nothing was measured."""
        self.newest = place = (self.newest + 1) % HISTORY
        w = len(self.plan.options)
        size = _HEAD.size + w
        start = place * size
        _HEAD.pack_into(self.history, start, now, index + 1, reason, self.samples)
        self.history[start + _HEAD.size : start + size] = on_time or bytes(w)

    def choices(self) -> list[tuple[float, int, Reason, int, bytes]]:
        """(at, index, reason, samples, on time in 255ths), newest first."""
        size = _HEAD.size + len(self.plan.options)
        found = []
        for back in range(HISTORY):
            start = (self.newest - back) % HISTORY * size
            at, index, reason, samples = _HEAD.unpack_from(self.history, start)
            if index:
                on_time = bytes(self.history[start + _HEAD.size : start + size])
                found.append((at, index - 1, Reason(reason), samples, on_time))
        return found
