"""What `slimwire lab attack` does: check what was asked for, show progress on stderr, print the rows."""

import time
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from lab.experiments.attack import plot, run, table
from lab.experiments.attack.air import Plan
from lab.experiments.attack.attackers import ATTACKS
from lab.experiments.attack.defences import DEFENCES
from slimwire import output
from slimwire.errors import SlimwireError


def names(asked: str, known: dict[str, Any], what: str) -> list[str]:
    """The names in a comma-separated list, in the order of the table; `all` is all but the extra ones.

    Raises:
        SlimwireError: one is not known.
    """
    wanted = [name.strip() for name in asked.split(",")]
    if wanted == ["all"]:
        return [name for name, kind in known.items() if not getattr(kind, "extra", False)]
    for name in wanted:
        if name not in known:
            raise SlimwireError(
                f"there is no {what} {name!r}", expected=f"all, or some of {', '.join(known)}"
            )
    return [name for name in known if name in wanted]


def report(plan: Plan, attacks: str, defences: str, *, jobs: int, as_json: bool, plots: Path | None) -> None:
    """Run and print.

    Raises:
        SlimwireError: an unknown name, an impossible parameter, charts that cannot be written.
    """
    chosen, against = names(attacks, ATTACKS, "attack"), names(defences, DEFENCES, "defence")
    todo = run.tasks(plan, chosen, against)
    began = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.stderr) as progress:
        bar = progress.add_task("attack", total=len(todo))

        def done(task: run.Task) -> None:
            progress.update(bar, advance=1, description=f"{task.attack} on {', '.join(task.defences)}")

        result = run.run(plan, chosen, against, jobs=jobs, done=done)
    comparisons = result.comparisons()
    if plots is not None:
        for path in plot.draw(result.rows, plots):
            output.stderr.print(f"wrote {path}")
    if as_json:
        output.print_json(
            {
                "rows": result.rows,
                "pooled": result.pooled(),
                "comparisons": [comparison._asdict() for comparison in comparisons],
                "datagrams": min(result.messages.values()),
                "seconds": plan.seconds,
                "wall_seconds": round(time.monotonic() - began, 1),
            }
        )
        return
    for name in chosen:
        rows = [row for row in result.rows if row["attack"] == name]
        output.stdout.print(table.attack_table(name, rows, comparisons))


def list_all(*, as_json: bool) -> None:
    """Print every attack and defence with a line on what it is."""
    attacks = {name: attack.about for name, attack in ATTACKS.items()}
    defences = {name: kind.about for name, kind in DEFENCES.items()}
    if as_json:
        output.print_json({"attacks": attacks, "defences": defences})
        return
    for what, entries in (("attack", attacks), ("defence", defences)):
        listing = Table(what, "what it is")
        for name, about in entries.items():
            listing.add_row(name, about)
        output.stdout.print(listing)
