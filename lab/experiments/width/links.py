"""Links that a request meets: how fast the channel is at each moment, and when it fades. Vectorised.

A link is a bandwidth log scaled so that its time-weighted mean is the wanted rate, played in a circle.
Fading is `lab.sim.loss`'s Gilbert-Elliott model, drawn as whole arrays.
"""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lab.sim import trace as traces
from lab.sim.loss import LossModel
from lab.sim.trace import Trace, TraceError

Floats = npt.NDArray[np.float64]

#: Rates are clamped from below to this share of the wanted mean: outages are an experiment of their own.
_LEAST = 0.125
#: What 802.15.4's O-QPSK carries at most, kb/s.
_MOST_KBPS = 250.0


@dataclass(frozen=True)
class Link:
    """A piecewise constant rate.

    Attributes:
        name: of the log.
        times: (K+1,) seconds at which the rate changes, from 0.
        bits: (K+1,) bits that the link could have carried by then, increasing.
    """

    name: str
    times: Floats
    bits: Floats

    @classmethod
    def of(cls, trace: Trace, kbps: float, seconds: float, factors: Sequence[float] = (1.0,)) -> "Link":
        """`seconds` of a log, its mean scaled to `kbps`.

        Args:
            trace: the log; played in a circle.
            kbps: mean rate over the log's whole length, > 0.
            seconds: length wanted.
            factors: what the rate is multiplied with in each of as many equal parts of the run: a link that
                changes regime.
        """
        durations, rates = np.array(trace.durations), np.array(trace.rates)
        mean = float(durations @ rates / durations.sum())
        rounds = math.ceil(seconds / trace.length)
        times = np.concatenate(([0.0], np.cumsum(np.tile(durations, rounds))))
        rates = np.tile(rates, rounds) * (kbps / mean if mean > 0 else 0.0)
        cuts = np.linspace(0.0, seconds, len(factors) + 1)[1:-1]
        edges = np.union1d(times, cuts)
        rates = rates[np.clip(np.searchsorted(times, edges[:-1], "right") - 1, 0, len(rates) - 1)]
        rates = rates * np.array(factors)[np.searchsorted(cuts, edges[:-1], "right")]
        low = min(factors) * kbps * _LEAST
        rates = np.clip(rates, low, _MOST_KBPS)
        # One more, very long piece: what is under way at the end still ends.
        edges = np.append(edges, edges[-1] + 1e6)
        rates = np.append(rates, rates[-1])
        return cls(trace.name, edges, np.concatenate(([0.0], np.cumsum(np.diff(edges) * rates * 1000))))

    def kbps(self, at: Floats) -> Floats:
        """The rate at each time."""
        i = np.clip(np.searchsorted(self.times, at, "right") - 1, 0, len(self.times) - 2)
        rates: Floats = np.diff(self.bits)[i] / np.diff(self.times)[i] / 1000
        return rates

    def after(self, start: Floats, bits: Floats | float) -> Floats:
        """When `bits` are through that begin at `start`."""
        done: Floats = np.interp(np.interp(start, self.times, self.bits) + bits, self.bits, self.times)
        return done


class Fading:
    """One receiver's fading over a whole run: `LossModel` as an array of the times at which it changes."""

    def __init__(
        self,
        model: LossModel,
        rng: np.random.Generator,
        seconds: float,
        outage: tuple[float, float] | None = None,
    ) -> None:
        """For `seconds`; between the two times of `outage` nothing is heard."""
        self._model = model
        self._outage = outage
        rounds = math.ceil(1.5 * seconds / (model.good_seconds + model.bad_seconds)) + 16
        stays = np.empty(2 * rounds)
        stays[0::2] = rng.exponential(model.good_seconds, rounds)
        stays[1::2] = rng.exponential(model.bad_seconds, rounds)
        self._changes = np.cumsum(stays)

    def bad(self, at: Floats) -> npt.NDArray[np.bool_]:
        """Whether each time falls into a burst."""
        odd: npt.NDArray[np.bool_] = np.searchsorted(self._changes, at, "right") % 2 == 1
        return odd

    def loss(self, at: Floats) -> Floats:
        """The probability of losing a frame that ends at each time."""
        p: Floats = np.where(self.bad(at), self._model.bad_loss, self._model.good_loss)
        if self._outage is not None:
            p = np.where((at >= self._outage[0]) & (at < self._outage[1]), 1.0, p)
        return p


def load(path: Path) -> list[Trace]:
    """The logs of a file, by name; of a directory, those of all its JSON and CSV files.

    JSON `{"traces": {name: [[duration_ms, kbps], …]}}`, the layout of one log (`lab.sim.trace`), Sabre's own
    (`[{"duration_ms": …, "bandwidth_kbps": …}, …]`), or CSV with `duration_ms,kbps` a line, or
    `name,duration_ms,kbps` for several. Raises TraceError.
    """
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.suffix in {".json", ".csv"}]
        if not files:
            raise TraceError(f"no traces in the directory {path}", expected="*.json or *.csv in it")
        return [log for file in files for log in load(file)]
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(f"cannot read the traces {path}: {error}", expected="a JSON or CSV file") from error
    if path.suffix == ".csv":
        return _from_csv(text, path.stem)
    try:
        document = json.loads(text)
    except ValueError as error:
        raise TraceError(f"{path} is not JSON: {error}", remedy="name a CSV file *.csv") from error
    if isinstance(document, dict) and isinstance(document.get("traces"), dict) and document["traces"]:
        return [
            traces.parse_json(json.dumps({"trace": rows}), name)
            for name, rows in sorted(document["traces"].items())
        ]
    if isinstance(document, list):
        return [_from_sabre(document, path.stem)]
    return [traces.parse_json(text, path.stem)]


def _from_sabre(document: list[object], name: str) -> Trace:
    rows = [
        [item.get("duration_ms"), item.get("bandwidth_kbps")] if isinstance(item, dict) else item
        for item in document
    ]
    return traces.parse_json(json.dumps({"trace": rows}), name)


def shipped() -> list[Trace]:
    """The logs that come with Slimwire."""
    return [traces.load(name) for name in traces.shipped()]


def _from_csv(text: str, stem: str) -> list[Trace]:
    lines = [row for row in csv.reader(io.StringIO(text)) if row]
    if not any(len(row) == 3 for row in lines):
        return [traces.parse_csv(text, stem)]
    logs: dict[str, list[str]] = {}
    for number, row in enumerate(lines, 1):
        if number == 1 and row[-2].strip() == "duration_ms":
            continue
        if len(row) != 3:
            raise TraceError(f"line {number} is {','.join(row)[:60]!r}", expected="name,duration_ms,kbps")
        logs.setdefault(row[0], []).append(",".join(row[1:]))
    return [traces.parse_csv("\n".join(rows), name) for name, rows in sorted(logs.items())]
