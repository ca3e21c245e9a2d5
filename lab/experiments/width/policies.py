"""The policies that are compared, behind one small interface, and what they are told.

The edge server's own `WidthPolicy` is the interface: `slimwire` and `fixed-<w>` are the very classes that it
ships. The others follow the field's rules, on the same samples (seconds from a message's first frame to its
custody ack, frames, coded bytes) and the same figures of the bundle:

- `ewma`: exponential mean of seconds per byte, widest width predicted within 0.8 of the deadline, one step
  up at a time (rate-based adaptation, as in DASH players).
- `harmonic`: harmonic mean of the last five throughputs, widest width predicted in time (FESTIVE, Jiang et
  al. 2012).
- `robust-mpc`: that, divided by 1 + the largest error of the last five predictions (Yin et al. 2015); for
  one-shot requests its horizon is one request.
- `aimd`: a byte budget, up by a fortieth of a second's worth per message on time, halved by a late one.
- `thompson`: a Beta posterior per width of being on time, forgetting, with what is known across widths (a
  narrower one would have been on time too, a wider one late too); a draw decides.

`oracle` and `clairvoyant` see the outcomes' own data and are computed whole: see
`lab.experiments.width.bounds`.
"""

import random
from collections import deque
from collections.abc import Callable, Sequence
from math import inf

from edge_server.width import ChanceConstrained, Choice, FixedWidth, Sample, WidthOption, WidthPolicy
from edge_server.width.types import ANSWER_AIR, CUSTODY_AIR, air

ADAPTIVE = ("ewma", "harmonic", "robust-mpc", "aimd", "thompson", "slimwire")
SERVER_SECONDS = 0.03


class _Predictive:
    """What the rate-based rules share: the widest width whose predicted time stays within the deadline.

    One device; `device` is not looked at.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline

    def observe(self, device: bytes, sample: Sample) -> None:
        """Seconds per byte of channel time; a message that never arrived counts as a whole deadline."""
        seconds = 2 * self.deadline if sample.seconds == inf else sample.seconds
        self.measured(seconds / (air(sample.frames, sample.coded) + CUSTODY_AIR), sample)

    def measured(self, per_byte: float, sample: Sample) -> None:
        """Take in one measurement."""
        raise NotImplementedError

    def explain(self, device: bytes) -> list[Choice]:
        """They keep no record."""
        return []

    def widest(self, options: Sequence[WidthOption], per_byte: float, share: float, waited: float) -> int:
        """The most accurate width predicted within `share` of the deadline; the first one if none is."""
        fits = [
            i
            for i, o in enumerate(options)
            if o.head_seconds
            + SERVER_SECONDS
            + waited
            + per_byte * (air(o.frames, o.coded) + CUSTODY_AIR + ANSWER_AIR)
            <= share * self.deadline
        ]
        return max(fits, key=lambda i: options[i].accuracy, default=0)


class Ewma(_Predictive):
    """`ewma`."""

    def __init__(self, deadline: float, weight: float = 0.3, share: float = 0.8) -> None:
        super().__init__(deadline)
        self._weight, self._share = weight, share
        self._mean = 0.0

    def measured(self, per_byte: float, sample: Sample) -> None:
        """Exponential mean."""
        self._mean += (self._weight if self._mean else 1.0) * (per_byte - self._mean)

    def choose(
        self,
        device: bytes,
        options: Sequence[WidthOption],
        current: int,
        now: float,
        queue: int = 0,
        waited: float = 0.0,
    ) -> int:
        """Down at once, up by one step."""
        if not self._mean:
            return current
        return min(self.widest(options, self._mean, self._share, waited), current + 1)


class Harmonic(_Predictive):
    """`harmonic`; the mean of seconds per byte is the harmonic mean of throughputs."""

    def __init__(self, deadline: float) -> None:
        super().__init__(deadline)
        self._last: deque[float] = deque(maxlen=5)

    def measured(self, per_byte: float, sample: Sample) -> None:
        """Keep five."""
        self._last.append(per_byte)

    def choose(
        self,
        device: bytes,
        options: Sequence[WidthOption],
        current: int,
        now: float,
        queue: int = 0,
        waited: float = 0.0,
    ) -> int:
        """The widest in time."""
        if not self._last:
            return current
        return self.widest(options, sum(self._last) / len(self._last), 1.0, waited)


class RobustMpc(Harmonic):
    """`robust-mpc`."""

    def __init__(self, deadline: float) -> None:
        super().__init__(deadline)
        self._errors: deque[float] = deque(maxlen=5)

    def measured(self, per_byte: float, sample: Sample) -> None:
        """Keep five, and how wrong the prediction was."""
        if self._last:
            predicted = sum(self._last) / len(self._last)
            self._errors.append(abs(per_byte - predicted) / per_byte)
        super().measured(per_byte, sample)

    def choose(
        self,
        device: bytes,
        options: Sequence[WidthOption],
        current: int,
        now: float,
        queue: int = 0,
        waited: float = 0.0,
    ) -> int:
        """The widest in time at the discounted throughput."""
        if not self._last:
            return current
        slower = (1 + max(self._errors, default=0.0)) * sum(self._last) / len(self._last)
        return self.widest(options, slower, 1.0, waited)


class Aimd(_Predictive):
    """`aimd`."""

    def __init__(self, deadline: float) -> None:
        super().__init__(deadline)
        self._budget: float | None = None

    def measured(self, per_byte: float, sample: Sample) -> None:
        """Up by 40 bytes, or half."""
        if self._budget is not None:
            late = sample.retries or sample.seconds + SERVER_SECONDS + per_byte * ANSWER_AIR > self.deadline
            self._budget = max(self._budget / 2, 150.0) if late else min(self._budget + 40.0, 2000.0)

    def choose(
        self,
        device: bytes,
        options: Sequence[WidthOption],
        current: int,
        now: float,
        queue: int = 0,
        waited: float = 0.0,
    ) -> int:
        """The widest within the budget."""
        costs = [air(o.frames, o.coded) for o in options]
        if self._budget is None:
            self._budget = costs[current]
        fits = [i for i, cost in enumerate(costs) if cost <= self._budget]
        return max(fits, key=lambda i: options[i].accuracy, default=0)


class Thompson(_Predictive):
    """`thompson`."""

    def __init__(self, deadline: float, seed: int = 0, keep: float = 0.97) -> None:
        super().__init__(deadline)
        self._rng = random.Random(seed)
        self._keep = keep
        self._won: list[float] = []
        self._lost: list[float] = []

    def measured(self, per_byte: float, sample: Sample) -> None:
        """Update the width used and those that it says something about."""
        if not self._won or sample.option < 0:
            return
        ok = not sample.retries and sample.seconds + per_byte * ANSWER_AIR + SERVER_SECONDS <= (
            self.deadline - self._heads[sample.option]
        )
        for i in range(len(self._won)):
            self._won[i] *= self._keep
            self._lost[i] *= self._keep
        for i in range(sample.option + 1) if ok else range(sample.option, len(self._won)):
            self._won[i] += ok
            self._lost[i] += not ok

    def choose(
        self,
        device: bytes,
        options: Sequence[WidthOption],
        current: int,
        now: float,
        queue: int = 0,
        waited: float = 0.0,
    ) -> int:
        """The best of one draw each."""
        if not self._won:
            self._won, self._lost = [1.0] * len(options), [1.0] * len(options)
            self._heads = [o.head_seconds for o in options]
        draws = [
            o.accuracy * self._rng.betavariate(1 + won, 1 + lost)
            for o, won, lost in zip(options, self._won, self._lost, strict=True)
        ]
        return draws.index(max(draws))


def make(name: str, deadline: float, seed: int = 0, *, min_on_time: float = 0.0) -> WidthPolicy:
    """A new policy by name, for one device; `min_on_time` for those that take it.

    Raises ValueError for a name that is none.
    """
    if name.startswith("fixed-"):
        return FixedWidth(float(name.removeprefix("fixed-")))
    makers: dict[str, Callable[[], WidthPolicy]] = {
        "ewma": lambda: Ewma(deadline),
        "harmonic": lambda: Harmonic(deadline),
        "robust-mpc": lambda: RobustMpc(deadline),
        "aimd": lambda: Aimd(deadline),
        "thompson": lambda: Thompson(deadline, seed),
        "slimwire": lambda: ChanceConstrained(
            deadline, server_seconds=SERVER_SECONDS, min_on_time=min_on_time
        ),
    }
    if name not in makers:
        raise ValueError(f"{name!r} is no policy; expected fixed-<width>, {', '.join(makers)}")
    return makers[name]()
