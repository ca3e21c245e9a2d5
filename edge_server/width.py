"""Width control: which width a device should use next, from what its link did lately. Pure, without a clock.

`ChanceConstrained` keeps, per device, a short window of *seconds per frame* and picks the width with the
highest expected value

    accuracy[w] · P(on time | w),    P(on time | w) = Σ weightᵢ · [xᵢ · (frames_w + 1) ≤ deadline] / Σ weightᵢ

where xᵢ is the i-th newest measured time over frames (the message's own and the answer's one) and weightᵢ =
decayⁱ, doubled where the message missed its deadline or was sent again. A message that never arrived counts
as late, and against smaller messages in proportion to their frames. Around that: hysteresis (a switch must
gain `margin` of the value), a floor (where even the best is hardly ever on time, the cheapest), and a careful
look upwards: a *trial* of the next better width after a run of messages fast enough for it, ended by its
first miss, after which the next trial waits for a run twice as long.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import floor, inf
from typing import Protocol

#: Choices kept per device for `explain`.
HISTORY = 32

_MOST_PATIENCE = 64


@dataclass(frozen=True, slots=True)
class WidthOption:
    """One width of a bundle, as the controller sees it.

    Attributes:
        width: the width, e.g. 0.25.
        accuracy: measured top-1, 0..1.
        frames: mean 802.15.4 frames of one message at this width, ≥ 1.
    """

    width: float
    accuracy: float
    frames: float


@dataclass(frozen=True, slots=True)
class Sample:
    """How one message of a device fared.

    Attributes:
        at: when this became known (s, any monotonic clock).
        seconds: from its first frame to its answer; `inf` for a message that never arrived.
        frames: frames of the message (without retries), ≥ 1.
        retries: how often the device sent it again.
    """

    at: float
    seconds: float
    frames: int
    retries: int = 0

    @property
    def per_frame(self) -> float:
        """Seconds per frame on the air: the message's frames and the answer's one."""
        return self.seconds / (self.frames + 1)


@dataclass(frozen=True, slots=True)
class Choice:
    """A width chosen, and why.

    Attributes:
        at: when (s).
        index: the chosen width's index into the options.
        width: the chosen width.
        reason: one sentence for people.
        on_time: P(on time) per option; empty where nothing was measured.
        value: accuracy · P(on time) per option; empty likewise.
        samples: samples in the window.
    """

    at: float
    index: int
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
        self, device: bytes, options: Sequence[WidthOption], current: int, now: float, queue: int = 0
    ) -> Choice:
        """The next width. `current` indexes the width the device just used; `queue` samples wait on it."""

    def explain(self, device: bytes) -> list[Choice]:
        """The last choices, newest first; [] for a device never heard."""


class FixedWidth:
    """The same width for everybody, whatever the link does (`--policy fixed-0.5`)."""

    def __init__(self, width: float) -> None:
        self.width = width
        self._last: dict[bytes, Choice] = {}

    def observe(self, device: bytes, sample: Sample) -> None:
        """Nothing to learn."""

    def choose(
        self, device: bytes, options: Sequence[WidthOption], current: int, now: float, queue: int = 0
    ) -> Choice:
        """The option nearest to the fixed width."""
        index = min(range(len(options)), key=lambda i: abs(options[i].width - self.width))
        choice = Choice(now, index, options[index].width, f"the policy is fixed at {self.width:g}")
        self._last[device] = choice
        return choice

    def explain(self, device: bytes) -> list[Choice]:
        """The last choice."""
        return [self._last[device]] if device in self._last else []


@dataclass(slots=True)
class _DeviceState:
    window: deque[Sample]
    history: deque[Choice] = field(default_factory=lambda: deque(maxlen=HISTORY))
    trial: int | None = None
    patience: int = 0
    run: int = 0


class ChanceConstrained:
    """The controller that ships (`--policy slimwire`); the rule is the module's.

    Args:
        deadline: seconds from a message's first frame to its answer that count as on time.
        window: samples kept per device.
        decay: weight of a sample relative to the next newer one.
        margin: share of value that a switch must gain.
        floor: P(on time) of the best width at and below which the cheapest is chosen. 0: only where nothing
            was on time lately. Higher saves air on a bad link, and costs value when the link comes back.
        patience: fast messages in a row before a trial of the next better width; doubles with each failed
            one.
        horizon: seconds after which a sample says nothing about the link any more.
    """

    def __init__(
        self,
        deadline: float,
        *,
        window: int = 24,
        decay: float = 0.9,
        margin: float = 0.01,
        floor: float = 0.0,
        patience: int = 8,
        horizon: float = 120.0,
    ) -> None:
        self.deadline = deadline
        self._size = window
        self._decay = decay
        self._margin = margin
        self._floor = floor
        self._patience = patience
        self._horizon = horizon
        self._devices: dict[bytes, _DeviceState] = {}

    def observe(self, device: bytes, sample: Sample) -> None:
        """Take in how a message fared; ends a running trial when it was late."""
        state = self._state(device)
        state.window.appendleft(sample)
        late = sample.seconds > self.deadline
        state.run = 0 if late else state.run + 1
        if late and state.trial is not None:
            state.trial = None
            state.patience = min(2 * state.patience, _MOST_PATIENCE)

    def choose(
        self, device: bytes, options: Sequence[WidthOption], current: int, now: float, queue: int = 0
    ) -> Choice:
        """The next width by the module's rule. Keeps `current` while nothing is measured."""
        state = self._state(device)
        while state.window and now - state.window[-1].at > self._horizon:
            state.window.pop()
        choice = self._decide(state, options, current, now, queue)
        state.history.appendleft(choice)
        return choice

    def explain(self, device: bytes) -> list[Choice]:
        """The last choices, newest first."""
        state = self._devices.get(device)
        return list(state.history) if state else []

    def _state(self, device: bytes) -> _DeviceState:
        if device not in self._devices:
            self._devices[device] = _DeviceState(deque(maxlen=self._size), patience=self._patience)
        return self._devices[device]

    def _decide(
        self, state: _DeviceState, options: Sequence[WidthOption], current: int, now: float, queue: int
    ) -> Choice:
        previous = state.history[0].index if state.history else current
        if previous >= len(options):
            previous = current
        if not state.window:
            return Choice(
                now, current, options[current].width, "nothing measured yet: keep the device's width"
            )
        on_time = tuple(self._on_time(state.window, option.frames) for option in options)
        value = tuple(o.accuracy * p for o, p in zip(options, on_time, strict=True))
        best = max(range(len(options)), key=lambda i: (value[i], -options[i].frames))

        def chosen(index: int, reason: str) -> Choice:
            return Choice(now, index, options[index].width, reason, on_time, value, len(state.window))

        if on_time[best] <= self._floor:
            state.trial = None
            cheapest = min(range(len(options)), key=lambda i: (options[i].frames, -options[i].accuracy))
            return chosen(
                cheapest, f"even the best width is on time only {on_time[best]:.0%} of the time: the cheapest"
            )
        if state.trial is not None:
            trial = state.trial
            if trial < len(options) and options[trial].accuracy > options[best].accuracy:
                return chosen(trial, "the trial of this width goes on: no miss so far")
            state.trial, state.patience = (
                None,
                self._patience,
            )  # the window agrees by now: the trial succeeded
        better = self._next_better(options, best)
        if better is not None and queue < 2 and self._fast_enough(state, options[better].frames):
            state.trial, state.run = better, 0
            return chosen(better, f"a trial: the last {state.patience} messages were fast enough for it")
        if best != previous and value[best] < value[previous] * (1 + self._margin):
            return chosen(previous, f"{options[best].width:g} gains less than {self._margin:.1%}: stay")
        return chosen(
            best, f"highest accuracy x P(on time): {options[best].accuracy:.3f} x {on_time[best]:.2f}"
        )

    def _on_time(self, window: deque[Sample], frames: float) -> float:
        """P(on time) of a message of `frames` (a mean: mixed from the whole numbers on either side of it)."""
        low = floor(frames)
        share = frames - low
        hit = total = 0.0
        weight = 1.0
        for sample in window:
            w = weight * (2.0 if sample.retries or sample.seconds > self.deadline else 1.0)
            if sample.seconds == inf:
                ok = max(0.0, 1.0 - frames / sample.frames)
            else:
                x = sample.per_frame
                ok = (1 - share) * (x * (low + 1) <= self.deadline) + share * (x * (low + 2) <= self.deadline)
            hit += w * ok
            total += w
            weight *= self._decay
        return hit / total

    @staticmethod
    def _next_better(options: Sequence[WidthOption], best: int) -> int | None:
        better = [i for i, o in enumerate(options) if o.accuracy > options[best].accuracy]
        return min(better, key=lambda i: options[i].frames, default=None)

    def _fast_enough(self, state: _DeviceState, frames: float) -> bool:
        if state.run < state.patience:
            return False
        return all(
            s.per_frame * (frames + 1) <= 0.9 * self.deadline for s in islice(state.window, state.patience)
        )
