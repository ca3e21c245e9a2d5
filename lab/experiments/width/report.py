"""The experiment's result as one JSON object, and as tables for people."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.table import Table

from lab.experiments.width.goodput import Goodput
from lab.experiments.width.outage import Recovery
from lab.experiments.width.run import Cell
from lab.experiments.width.statistics import interval

#: What the controller must hold: utility against the best fixed width, switches per request.
LEAST_GAIN, MOST_SWITCHES = -0.003, 0.1
#: Utilities that differ by no more are level: rounding, or the very same widths.
_LEVEL = 1e-9
#: Where the oracle is this far above the best fixed width, a third of the gap is to be closed.
GAP, CLOSED = 0.03, 1 / 3


def as_json(
    cells: Sequence[Cell], goodput: Sequence[Goodput], recoveries: Sequence[Recovery], about: dict[str, Any]
) -> dict[str, Any]:
    """`rows` has the links as logged, `regimes` those that change in mid-run, `cells` what they add up to."""
    steady = [cell for cell in cells if cell.regime == "steady"]
    changing = [cell for cell in cells if cell.regime != "steady"]
    return {
        **about,
        "rows": [row.as_json() for cell in steady for row in cell.rows.values()],
        "intervals": [
            {
                "policy": row.policy,
                "rate_kbps": row.kbps,
                "deadline_ms": round(row.deadline * 1000),
                "utility_ci95": _bounds(interval(row.utility)),
                "gain_over_best_fixed_ci95": _bounds(cell.gain(row.policy)),
            }
            for cell in steady
            for row in cell.rows.values()
        ],
        "regimes": [
            {"regime": cell.regime, **row.as_json()} for cell in changing for row in cell.rows.values()
        ],
        "cells": [_cell(cell) for cell in cells],
        "goodput": [row.as_json() for row in goodput],
        "outage": [row.as_json() for row in recoveries],
        "held": held(cells),
    }


def held(cells: Sequence[Cell]) -> dict[str, Any]:
    """How many cells meet each requirement, out of how many it speaks of."""
    changing = [cell for cell in cells if cell.regime != "steady"]
    wide = [cell for cell in cells if cell.gap > GAP]
    closed = [cell.gain().mean / cell.gap for cell in wide]
    return {
        "cells": len(cells),
        "at_least_best_fixed": sum(cell.gain().mean >= LEAST_GAIN for cell in cells),
        "worst_gain": round(min(cell.gain().mean for cell in cells), 4),
        "changing_cells": len(changing),
        "above_best_fixed_where_changing": sum(cell.gain().mean > _LEVEL for cell in changing),
        "level_with_best_fixed_where_changing": sum(abs(cell.gain().mean) <= _LEVEL for cell in changing),
        "cells_with_a_gap": len(wide),
        "a_third_closed": sum(share >= CLOSED for share in closed),
        "half_closed": sum(share >= 0.5 for share in closed),
        "most_switches_per_request": round(
            max(float(cell.rows["slimwire"].switches.mean()) for cell in cells), 4
        ),
    }


def _cell(cell: Cell) -> dict[str, Any]:
    gain = cell.gain()
    return {
        "regime": cell.regime,
        "rate_kbps": cell.kbps,
        "deadline_ms": round(cell.deadline * 1000),
        "best_fixed": cell.best_fixed.policy,
        "best_fixed_utility": round(float(cell.best_fixed.utility.mean()), 4),
        "slimwire_gain": round(gain.mean, 4),
        "slimwire_gain_ci95": _bounds(gain),
        "oracle_gap": round(cell.gap, 4),
        "gap_closed": round(gain.mean / cell.gap, 3) if cell.gap > GAP else None,
        "switches_per_request": round(float(cell.rows["slimwire"].switches.mean()), 4),
    }


def _bounds(found: Any) -> list[float] | None:
    return None if found.low != found.low else [round(found.low, 4), round(found.high, 4)]


def table(
    cells: Sequence[Cell], goodput: Sequence[Goodput], recoveries: Sequence[Recovery], about: dict[str, Any]
) -> Group:
    """Utility by cell and policy; goodput; the outage; what holds."""
    policies = list(cells[0].rows)
    first = Table("link", "kb/s", "ms", *policies, "gain", "95 %", "closed", title="utility")
    for cell in cells:
        gain = cell.gain()
        best = cell.best_fixed.policy
        first.add_row(
            cell.regime,
            f"{cell.kbps:g}",
            f"{cell.deadline * 1000:.0f}",
            *(
                f"[bold]{cell.rows[p].utility.mean():.3f}[/bold]"
                if p in (best, "slimwire")
                else f"{cell.rows[p].utility.mean():.3f}"
                for p in policies
            ),
            f"[{'green' if gain.mean >= LEAST_GAIN else 'red'}]{gain.mean:+.4f}[/]",
            "-" if gain.low != gain.low else f"{gain.low:+.3f}..{gain.high:+.3f}",
            f"{gain.mean / cell.gap:.0%} of {cell.gap:.3f}" if cell.gap > GAP else f"({cell.gap:.3f})",
        )
    parts: list[Any] = [first]
    if goodput:
        second = Table("policy", "kb/s", "requests/s", "accuracy", "on time", title="goodput, 90 % on time")
        for row in goodput:
            some = row.requests_per_s > 0
            second.add_row(
                row.policy,
                f"{row.kbps:g}",
                f"{row.requests_per_s:g}" if some else "-",
                f"{row.accuracy:.3f}" if some else "-",
                f"{row.on_time:.3f}" if some else "-",
            )
        parts.append(second)
    if recoveries:
        third = Table(
            "kb/s",
            "on time after",
            "switches/request",
            "utility",
            "best fixed",
            title="after an outage of 60 s",
        )
        for r in recoveries:
            third.add_row(
                f"{r.kbps:g}",
                f"{r.requests_until_on_time} requests",
                f"{r.switches_per_request:.3f}",
                f"{r.utility:.3f}",
                f"{r.best_fixed:.3f}",
            )
        parts.append(third)
    h = held(cells)
    parts.append(
        f"{about['runs']} runs of {about['requests']} requests a cell. slimwire >= best fixed width - 0.003 "
        f"in {h['at_least_best_fixed']} of {h['cells']} cells (worst {h['worst_gain']:+.4f}); above it in "
        f"{h['above_best_fixed_where_changing']} of {h['changing_cells']} cells whose link changes regime, "
        f"level with it in {h['level_with_best_fixed_where_changing']}; a third of the gap to the oracle "
        f"closed in {h['a_third_closed']} of {h['cells_with_a_gap']} cells where it is over {GAP}; at most "
        f"{h['most_switches_per_request']} switches a request"
    )
    return Group(*parts)
