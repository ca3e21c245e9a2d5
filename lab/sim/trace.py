"""Bandwidth traces: how fast a link was, second by second, and how fast the emulated channel is at a moment
of a run.

A trace file is JSON, `{"name", "source", "licence", "unit": ["duration_ms", "bandwidth_kbps"], "trace":
[[duration_ms, kbps], …]}` (the layout of Sabre's Norway 3G logs), or CSV with one
`duration_ms,bandwidth_kbps` a line and an optional heading. Three shipped ones lie in `lab/traces/`.

A 3G log is ten to a hundred times faster than an 802.15.4 channel and wanders over minutes, so `pick` makes a
run of it in three steps: it plays the log `speed` times faster; it takes a seeded window among that quarter
of all windows whose link changes most (best against worst eighth of the window, in logarithms); and it maps
rates logarithmically so that the window's 10th percentile becomes `low` and its 90th `high`, and clamps
there. What is kept of the log is its order and rhythm; its absolute rates are not.
"""

import bisect
import csv
import io
import json
import math
import random
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from slimwire.errors import SlimwireError

_SHIPPED = Path(__file__).resolve().parent.parent / "traces"
_MAX_SAMPLES = 100_000
#: A log sample of 0 kb/s has no logarithm; an outage counts as this much.
_FLOOR_KBPS = 1.0


class TraceError(SlimwireError):
    """A trace that cannot be used."""


@dataclass(frozen=True)
class Trace:
    """A piecewise constant rate, played in a circle.

    Attributes:
        name: for people.
        durations: seconds each sample lasts, all > 0.
        rates: kb/s (1000 bit/s) of each sample, all ≥ 0.
    """

    name: str
    durations: tuple[float, ...]
    rates: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.durations or len(self.durations) != len(self.rates):
            raise TraceError(f"trace {self.name!r} has no samples", expected="[[duration_ms, kbps], …]")
        if len(self.durations) > _MAX_SAMPLES:
            raise TraceError(
                f"trace {self.name!r} has {len(self.durations)} samples", expected=f"at most {_MAX_SAMPLES}"
            )
        for duration, rate in zip(self.durations, self.rates, strict=True):
            if not (math.isfinite(duration) and math.isfinite(rate) and duration > 0 and rate >= 0):
                raise TraceError(
                    f"trace {self.name!r} has a sample of {duration} s at {rate} kb/s",
                    expected="durations > 0 and rates ≥ 0",
                )
        object.__setattr__(self, "_ends", tuple(accumulate(self.durations)))

    @property
    def length(self) -> float:
        """Seconds until the trace starts over."""
        ends: tuple[float, ...] = self._ends  # type: ignore[attr-defined]
        return ends[-1]

    def at(self, t: float) -> float:
        """Rate in kb/s, `t` seconds after the start."""
        ends: tuple[float, ...] = self._ends  # type: ignore[attr-defined]
        return self.rates[min(bisect.bisect_right(ends, t % self.length), len(ends) - 1)]

    def window(self, start: float, length: float, step: float) -> "Trace":
        """`length` seconds from `start`, resampled every `step` seconds."""
        n = max(1, math.ceil(length / step - 1e-9))
        return Trace(self.name, (step,) * n, tuple(self.at(start + i * step) for i in range(n)))

    def faster(self, speed: float) -> "Trace":
        """The same rates, `speed` times sooner."""
        return Trace(self.name, tuple(d / speed for d in self.durations), self.rates)

    def rescaled(self, low: float, high: float) -> "Trace":
        """Rates mapped logarithmically.

        10th percentile to `low`, 90th to `high` (kb/s), clamped to between them.
        """
        if not 0 < low <= high:
            raise TraceError(f"rates from {low} to {high} kb/s", expected="0 < lowest ≤ highest")
        logs = [math.log(max(rate, _FLOOR_KBPS)) for rate in self.rates]
        ordered = sorted(logs)
        bottom, top = ordered[len(ordered) // 10], ordered[(9 * len(ordered)) // 10]
        if top - bottom < 1e-9:
            return Trace(self.name, self.durations, (high,) * len(logs))
        slope = math.log(high / low) / (top - bottom)
        rates = tuple(low * math.exp(min(max((x - bottom) * slope, 0.0), math.log(high / low))) for x in logs)
        return Trace(self.name, self.durations, rates)


def pick(trace: Trace, *, seed: int, seconds: float, speed: float, low: float, high: float) -> Trace:
    """A window of `seconds` for one run, as the module's text says; the seed alone decides which."""
    step = 0.25
    played = trace.faster(speed)
    starts = [i * 2.0 for i in range(max(1, int((played.length - seconds) // 2.0) + 1))]
    ranked = sorted(starts, key=lambda start: -_swing(played.window(start, seconds, step).rates))
    chosen = random.Random(f"trace {seed}").choice(ranked[: max(1, len(ranked) // 4)])
    return played.window(chosen, seconds, step).rescaled(low, high)


def _swing(rates: tuple[float, ...]) -> float:
    """log(best / worst) over eighths of the window.

    High where the link stays good for a while and bad for a while.
    """
    size = max(1, len(rates) // 8)
    means = [
        sum(math.log(max(rate, _FLOOR_KBPS)) for rate in rates[i : i + size]) / size
        for i in range(0, len(rates) - size + 1, size)
    ]
    return max(means) - min(means)


def shipped() -> list[str]:
    """Names of the traces that come with Slimwire."""
    return sorted(path.stem for path in _SHIPPED.glob("*.json"))


def load(name_or_path: str) -> Trace:
    """A shipped trace by name, or a JSON or CSV file by path. Raises TraceError."""
    path = Path(name_or_path) if name_or_path not in shipped() else _SHIPPED / f"{name_or_path}.json"
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(
            f"cannot read the trace {name_or_path!r}: {error}",
            expected=f"a file, or one of {', '.join(shipped())}",
        ) from error
    return parse_csv(text, path.stem) if path.suffix == ".csv" else parse_json(text, path.stem)


def parse_json(text: str, name: str) -> Trace:
    """A trace from the JSON layout above. Raises TraceError."""
    try:
        rows = json.loads(text)["trace"]
        pairs = [(float(duration), float(rate)) for duration, rate in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise TraceError(
            f"the trace {name!r} is not in the expected layout: {error!r}",
            expected='JSON {"trace": [[duration_ms, bandwidth_kbps], …]}',
        ) from error
    return _from_ms(name, pairs)


def parse_csv(text: str, name: str) -> Trace:
    """A trace from CSV, `duration_ms,bandwidth_kbps` a line. Raises TraceError."""
    pairs = []
    for number, row in enumerate(csv.reader(io.StringIO(text)), 1):
        if not row or (number == 1 and row[0].strip() == "duration_ms"):
            continue
        try:
            duration, rate = row
            pairs.append((float(duration), float(rate)))
        except ValueError as error:
            raise TraceError(
                f"line {number} of the trace {name!r} is {','.join(row)[:60]!r}",
                expected="duration_ms,bandwidth_kbps",
            ) from error
    return _from_ms(name, pairs)


def _from_ms(name: str, pairs: list[tuple[float, float]]) -> Trace:
    return Trace(name, tuple(d / 1000 for d, _ in pairs), tuple(r for _, r in pairs))
