"""An outage and what follows: the device's own fallback and the server's controller together."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lab.experiments.width import device, policies, queue
from lab.experiments.width.links import Link
from lab.experiments.width.requests import Model, Outcomes, Plan, simulate
from lab.sim.trace import Trace

_BEFORE, _AFTER = 120, 120


@dataclass(frozen=True)
class Recovery:
    """Runs with an outage at one rate, with seeds of their own.

    Attributes:
        requests_until_on_time: the first request on time after the link is back, counted from 1; of the worst
            run. 0: a run without any.
        switches_per_request: width changes in the two minutes after the outage, mean.
        utility: in these two minutes, mean; `best_fixed` what the best fixed width had there.
        acknowledged, acknowledged_lost: messages with a custody ack in all runs, and those of them that the
            edge server never got.
    """

    kbps: float
    deadline: float
    runs: int
    requests_until_on_time: int
    switches_per_request: float
    utility: float
    best_fixed: float
    acknowledged: int
    acknowledged_lost: int

    def as_json(self) -> dict[str, object]:
        """As the command prints it."""
        return {
            "rate_kbps": self.kbps,
            "deadline_ms": round(self.deadline * 1000),
            "runs": self.runs,
            "requests_until_on_time": self.requests_until_on_time,
            "switches_per_request": round(self.switches_per_request, 4),
            "utility": round(self.utility, 4),
            "best_fixed": round(self.best_fixed, 4),
            "acknowledged": self.acknowledged,
            "acknowledged_lost": self.acknowledged_lost,
        }


def measure(
    model: Model, kbps: float, *, seconds: float = 60.0, deadline: float = 0.3, runs: int = 10, seed: int = 1
) -> Recovery:
    """A steady link at `kbps`, silent for `seconds` after two minutes, then back for two minutes."""
    plan = Plan(1.0, _BEFORE + int(seconds) + _AFTER, outage=(_BEFORE - 0.5, _BEFORE - 0.5 + seconds))
    link = Link.of(Trace("steady", (1.0,), (1.0,)), kbps, plan.seconds)
    back = np.arange(_BEFORE + int(seconds), plan.count)
    until, switches, utility, fixed = [], [], [], []
    acknowledged = lost = 0
    for number in range(runs):
        own = 1000 * seed + number
        outcomes = simulate(link, model, plan, queue.waits(plan.seconds + 60, own), own)
        widths = device.run(outcomes, model.options(), policies.make("slimwire", deadline), plan.period)
        values = outcomes.on_time(deadline) * model.accuracy
        until.append(_first(values[back, widths[back]] > 0))
        switches.append(float((np.diff(widths[back]) != 0).mean()))
        utility.append(float(values[back, widths[back]].mean()))
        fixed.append(values[back].mean(0))
        got, gone = _acknowledged(outcomes, widths)
        acknowledged, lost = acknowledged + got, lost + gone
    return Recovery(
        kbps,
        deadline,
        runs,
        0 if 0 in until else max(until),
        float(np.mean(switches)),
        float(np.mean(utility)),
        float(np.mean(fixed, axis=0).max()),
        acknowledged,
        lost,
    )


def _acknowledged(outcomes: Outcomes, widths: npt.NDArray[np.int64]) -> tuple[int, int]:
    t = np.arange(len(widths))
    acknowledged = np.isfinite(outcomes.reported[t, widths])
    return int(acknowledged.sum()), int((acknowledged & ~outcomes.arrived[t, widths]).sum())


def _first(found: npt.NDArray[np.bool_]) -> int:
    return int(found.argmax()) + 1 if found.any() else 0
