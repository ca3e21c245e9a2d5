"""Goodput: the highest request rate at which at least nine answers in ten are on time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lab.experiments.width import queue
from lab.experiments.width.links import Link
from lab.experiments.width.requests import Model, Plan, simulate
from lab.experiments.width.run import choose, score
from lab.sim.loss import LossModel
from lab.sim.trace import Trace

REQUESTS_PER_S = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0)
ON_TIME = 0.9


@dataclass(frozen=True)
class Goodput:
    """One policy at one link rate: requests per s (0: not even the lowest), accuracy and on-time share."""

    policy: str
    kbps: float
    deadline: float
    requests_per_s: float
    accuracy: float
    on_time: float

    def as_json(self) -> dict[str, object]:
        """The row."""
        return {
            "policy": self.policy,
            "rate_kbps": self.kbps,
            "deadline_ms": round(self.deadline * 1000),
            "requests_per_s": self.requests_per_s,
            "accuracy": round(self.accuracy, 4) if self.requests_per_s else None,
            "on_time": round(self.on_time, 4) if self.requests_per_s else None,
        }


def measure(
    logs: Sequence[Trace],
    model: Model,
    which: Sequence[str],
    *,
    rates: Sequence[float],
    deadline: float = 0.5,
    count: int = 200,
    seed: int = 1,
    losses: Sequence[LossModel] = (),
) -> list[Goodput]:
    """Of each policy at each link rate, over all logs.

    A device does one request at a time and gives it up when the next is due, so the deadline is never longer
    than the period. `slimwire` is told the on-time share that is wanted. losses: how each log's link fades.
    """
    options = model.options()
    found: list[Goodput] = []
    for kbps in rates:
        best = {name: Goodput(name, kbps, deadline, 0.0, float("nan"), float("nan")) for name in which}
        for requests in REQUESTS_PER_S:
            period = 1 / requests
            within = min(deadline, period)
            scores: dict[str, list[tuple[float, ...]]] = {name: [] for name in which}
            for number, log in enumerate(logs):
                own = 1000 * seed + number
                plan = Plan(period, count, losses[number]) if losses else Plan(period, count)
                link = Link.of(log, kbps, plan.seconds)
                outcomes = simulate(link, model, plan, queue.waits(plan.seconds + 60, own), own)
                for name in which:
                    widths = choose(name, outcomes, model, options, within, plan, own, ON_TIME)
                    scores[name].append(score(widths, outcomes, model, within))
            for name in which:
                _, accuracy, on_time, *_ = np.mean(scores[name], axis=0)
                if on_time >= ON_TIME:
                    best[name] = Goodput(name, kbps, deadline, requests, float(accuracy), float(on_time))
        found += best.values()
    return found
