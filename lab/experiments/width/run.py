"""The experiment: every policy on every link, paired, cell by cell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge_server.width import WidthOption
from lab.experiments.width import bounds, device, policies, queue
from lab.experiments.width.links import Floats, Link
from lab.experiments.width.requests import Ints, Model, Outcomes, Plan, simulate
from lab.experiments.width.statistics import Interval, interval
from lab.sim.loss import LossModel
from lab.sim.trace import Trace

RATES = (20.0, 40.0, 80.0, 250.0)
DEADLINES = (0.2, 0.3, 0.5)
#: What the rate is multiplied with in equal parts of a run; "steady" is the log as it is.
REGIMES: dict[str, tuple[float, ...]] = {
    "steady": (1.0,),
    "drop": (1.0, 0.25),
    "rise": (0.25, 1.0),
    "square": (1.0, 0.25, 1.0, 0.25),
}


@dataclass(frozen=True)
class Row:
    """One policy in one cell, over all runs. Arrays are (N,), a value per run.

    Attributes:
        utility: mean of accuracy of the width where on time, else 0.
        accuracy: mean accuracy of the widths used.
        on_time: share of answers in time. frames: mean frames sent, retries included. energy: mJ a request.
        switches: width changes per request.
    """

    policy: str
    regime: str
    kbps: float
    deadline: float
    utility: Floats
    accuracy: Floats
    on_time: Floats
    frames: Floats
    energy: Floats
    switches: Floats

    def as_json(self) -> dict[str, object]:
        """The row's means."""
        return {
            "policy": self.policy,
            "rate_kbps": self.kbps,
            "deadline_ms": round(self.deadline * 1000),
            "utility": round(float(self.utility.mean()), 4),
            "accuracy": round(float(self.accuracy.mean()), 4),
            "on_time": round(float(self.on_time.mean()), 4),
            "frames": round(float(self.frames.mean()), 3),
            "energy_mj": round(float(self.energy.mean()), 2),
            "switches_per_request": round(float(self.switches.mean()), 4),
        }


@dataclass(frozen=True)
class Cell:
    """One regime, rate and deadline, with the rows of all policies."""

    regime: str
    kbps: float
    deadline: float
    rows: dict[str, Row]

    @property
    def best_fixed(self) -> Row:
        """The fixed width that did best in hindsight over all runs of the cell."""
        fixed = [row for name, row in self.rows.items() if name.startswith("fixed-")]
        return max(fixed, key=lambda row: float(row.utility.mean()))

    def gain(self, policy: str = "slimwire") -> Interval:
        """Utility over the best fixed width's, paired by run."""
        return interval(self.rows[policy].utility - self.best_fixed.utility)

    @property
    def gap(self) -> float:
        """The oracle's utility over the best fixed width's."""
        return float((self.rows["oracle"].utility - self.best_fixed.utility).mean())


def names(model: Model) -> list[str]:
    """All policies for a bundle's widths."""
    return [*(f"fixed-{w:g}" for w in model.widths), *policies.ADAPTIVE, "oracle", "clairvoyant"]


def compare(
    logs: Sequence[Trace],
    model: Model,
    plan: Plan,
    *,
    seeds: int,
    seed: int = 1,
    rates: Sequence[float] = RATES,
    deadlines: Sequence[float] = DEADLINES,
    regimes: Sequence[str] = tuple(REGIMES),
    which: Sequence[str] | None = None,
    losses: Sequence[LossModel] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> list[Cell]:
    """Every policy in every cell; each run is a log with a seed of its own, the same for all policies.

    Args:
        logs: the links. seeds: runs per log. seed: the first one.
        which: policies, by name; None for all.
        losses: how each log's link fades; none: as `plan` says.
        progress: told what begins.
    """
    which = which if which is not None else names(model)
    options = model.options()
    cells = []
    for regime in regimes:
        for kbps in rates:
            progress(f"{regime}, {kbps:g} kb/s")
            found: dict[tuple[float, str], list[tuple[float, ...]]] = {}
            for number, log in enumerate(log for log in logs for _ in range(seeds)):
                own = 1000 * seed + number
                fades = replace(plan, loss=losses[number // seeds]) if losses else plan
                link = Link.of(log, kbps, plan.seconds, REGIMES[regime])
                outcomes = simulate(link, model, fades, queue.waits(plan.seconds + 60, own), own)
                for deadline in deadlines:
                    for name in which:
                        widths = choose(name, outcomes, model, options, deadline, fades, own)
                        found.setdefault((deadline, name), []).append(
                            score(widths, outcomes, model, deadline)
                        )
            for deadline in deadlines:
                rows = {
                    name: Row(name, regime, kbps, deadline, *np.array(found[deadline, name]).T)
                    for name in which
                }
                cells.append(Cell(regime, kbps, deadline, rows))
    return cells


def choose(
    name: str,
    outcomes: Outcomes,
    model: Model,
    options: Sequence[WidthOption],
    deadline: float,
    plan: Plan,
    seed: int,
    min_on_time: float = 0.0,
) -> Ints:
    """(T,) the widths that a policy, or a bound, uses."""
    if name.startswith("fixed-"):
        width = float(name.removeprefix("fixed-"))
        return np.full(len(outcomes.at), model.widths.index(width))
    if name == "clairvoyant":
        return bounds.clairvoyant(outcomes, model, deadline)
    if name == "oracle":
        return bounds.oracle(outcomes, model, deadline, plan.loss)
    return device.run(
        outcomes, options, policies.make(name, deadline, seed, min_on_time=min_on_time), plan.period
    )


def score(widths: Ints, outcomes: Outcomes, model: Model, deadline: float) -> tuple[float, ...]:
    """What `Row` has of one run."""
    t = np.arange(len(widths))
    on_time = outcomes.on_time(deadline)[t, widths]
    accuracy = model.accuracy[widths]
    return (
        float((accuracy * on_time).mean()),
        float(accuracy.mean()),
        float(on_time.mean()),
        float(outcomes.sent[t, widths].mean()),
        float(outcomes.energy[t, widths].mean()),
        float((np.diff(widths) != 0).mean()),
    )
