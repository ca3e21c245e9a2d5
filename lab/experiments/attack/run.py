"""All rows: each attack on each format once, each recording to every defence of that format."""

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, NamedTuple

from lab.experiments.attack import live
from lab.experiments.attack.air import Plan, simulate
from lab.experiments.attack.attackers import ATTACKS
from lab.experiments.attack.compare import Comparison, compare
from lab.experiments.attack.defences import DEFENCES, Settings, memory_for
from lab.experiments.attack.judge import play

Row = dict[str, Any]


class Task(NamedTuple):
    """One recording, and the defences that get it."""

    plan: Plan
    attack: str
    defences: tuple[str, ...]


class Result(NamedTuple):
    """Rows, and per row what they were counted over.

    Attributes:
        rows: as issue 5 and docs/attack-lab.md define them.
        messages: legitimate messages sent, by (attack, defence).
        fragments: legitimate fragments (received, refused), by (attack, defence).
        energy: each device's (mJ, messages delivered), by (attack, defence).
    """

    rows: list[Row]
    messages: dict[tuple[str, str], int]
    fragments: dict[tuple[str, str], tuple[int, int]]
    energy: dict[tuple[str, str], list[tuple[float, int]]]

    def pooled(self) -> dict[str, dict[str, Any]]:
        """False rejects of each defence over all attacks."""
        out: dict[str, dict[str, Any]] = {}
        for (_, defence), (received, refused) in self.fragments.items():
            entry = out.setdefault(defence, {"fragments": 0, "refused": 0})
            entry["fragments"] += received
            entry["refused"] += refused
        for entry in out.values():
            entry["false_reject"] = entry["refused"] / max(1, entry["fragments"])
        return out

    def comparisons(self, own: str = "slimwire") -> list[Comparison]:
        """`own` against each other defence, attack by attack; those that send again are another matter."""
        mine = {row["attack"]: row for row in self.rows if row["defence"] == own}
        return [
            compare(
                mine[row["attack"]],
                row,
                (self.messages[row["attack"], own], self.messages[row["attack"], row["defence"]]),
                (self.energy[row["attack"], own], self.energy[row["attack"], row["defence"]]),
            )
            for row in self.rows
            if row["defence"] != own and row["attack"] in mine and not DEFENCES[row["defence"]].live
        ]


def tasks(plan: Plan, attacks: Iterable[str], defences: Iterable[str]) -> list[Task]:
    """The recordings that these attacks and defences need."""
    by_air: dict[str, list[str]] = {}
    for name in defences:
        by_air.setdefault(DEFENCES[name].air, []).append(name)
    return [Task(plan, attack, tuple(names)) for attack in attacks for names in by_air.values()]


def run_task(task: Task) -> Result:
    """Simulate one attack in one format, and judge."""
    plan = task.plan
    kind, attack = DEFENCES[task.defences[0]], ATTACKS[task.attack]
    if kind.live:
        recording = live.simulate(plan, attack, attacked=True)
        peaceful = live.simulate(plan, attack, attacked=False)
    else:
        recording = peaceful = simulate(plan, kind.fmt(), attack)
    members = recording.members + recording.insiders
    settings = Settings(members, memory_for(len(members)), plan.timeout)
    result = Result([], {}, {}, {})
    for name in task.defences:
        kind = DEFENCES[name]
        defence = kind.make(settings, kind.fmt())
        bound = defence.bound
        outcome = play(recording, defence, attacked=True)
        control = play(peaceful, kind.make(settings, kind.fmt()), attacked=False)
        sent = max(1, outcome.sent)
        result.rows.append(
            {
                "attack": task.attack,
                "defence": name,
                "delivery": outcome.delivered / sent,
                "delivery_control": control.delivered / max(1, control.sent),
                "forged_accepted": outcome.forged_accepted,
                "forged_buffered_bytes": outcome.forged_buffered,
                "buffer_peak_bytes": outcome.peak,
                "buffer_bound_bytes": bound,
                "fragments_to_detect": outcome.detected,
                "energy_mj_per_delivered": sum(recording.millijoules) / max(1, outcome.delivered),
                "airtime_legit": recording.airtime_legit,
                "airtime_attack": recording.airtime_attack,
                "victim_trust_min": outcome.trust_min,
                "victim_trust_control": control.trust_min,
                "false_reject": outcome.refused / max(1, outcome.received),
                "rejected": outcome.rejected,
            }
        )
        result.messages[task.attack, name] = outcome.sent
        result.fragments[task.attack, name] = (outcome.received, outcome.refused)
        result.energy[task.attack, name] = list(zip(recording.millijoules, outcome.delivered_by, strict=True))
    return result


def run(
    plan: Plan,
    attacks: list[str],
    defences: list[str],
    *,
    jobs: int = 1,
    done: Callable[[Task], None] = lambda task: None,
) -> Result:
    """All rows in the order of `attacks`, and within each of `defences`, whatever `jobs`.

    Args:
        jobs: processes.
        done: told of each finished recording.
    """
    todo = tasks(plan, attacks, defences)
    result = Result([], {}, {}, {})
    for task, part in _results(todo, jobs):
        result.rows.extend(part.rows)
        result.messages.update(part.messages)
        result.fragments.update(part.fragments)
        result.energy.update(part.energy)
        done(task)
    result.rows.sort(key=lambda row: (attacks.index(row["attack"]), defences.index(row["defence"])))
    return result


def _results(todo: list[Task], jobs: int) -> Iterable[tuple[Task, Result]]:
    if jobs <= 1:
        for task in todo:
            yield task, run_task(task)
        return
    with ProcessPoolExecutor(jobs) as pool:
        futures = {pool.submit(run_task, task): task for task in todo}
        for future in as_completed(futures):
            yield futures[future], future.result()
