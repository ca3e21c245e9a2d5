"""What the frontier is to show, and whether it does."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lab.experiments.frontier.compare import Table

MOST_OF_INPUT, NEAR_FULL = 0.229, 0.006
MEAN_TAX, WORST_TAX = 0.005, 0.015
MOST_TABLES = 384
HALF = 0.5


@dataclass(frozen=True)
class Goals:
    """Of one data set.

    Attributes:
        accuracy: (least top-1, at most this many mean bytes), for some width.
        codecs: up to which rate the bundle is to beat JPEG and WebP.
        full: least top-1 of the full model, None: not asked.
        macs, flash: most of the widest head, None: not asked.
    """

    accuracy: tuple[tuple[float, float], ...]
    codecs: int
    full: float | None = None
    macs: int | None = None
    flash: int | None = None


GOALS = {
    "fashion-mnist": Goals(((0.90, 40), (0.92, 120)), 60, full=0.925),
    "cifar10": Goals(((0.78, 120), (0.84, 300)), 120, macs=1_300_000, flash=64 << 10),
}


def held(name: str, table: Table, found: dict[str, Any]) -> list[dict[str, Any]]:
    """``[{"goal", "found", "held"}]``; ``held`` is None where the rows it speaks of are not there.

    Args:
        found: the report's other figures.
    """
    rows = table.ours.records
    out: list[dict[str, Any]] = []

    def add(goal: str, value: object, kept: bool | None) -> None:
        out.append({"goal": goal, "found": value, "held": kept})

    for least, most in GOALS[name].accuracy if name in GOALS else ():
        best = max((row.top1 for row in rows if row.coded.mean() <= most), default=None)
        add(
            f"top-1 >= {least:.0%} at <= {most:g} mean bytes",
            None if best is None else round(best, 4),
            best is not None and best >= least,
        )
    add(
        "bytes and top-1 rise with the width",
        [[round(float(row.coded.mean()), 1), round(row.top1, 4)] for row in rows],
        all(a.coded.mean() < b.coded.mean() and a.top1 < b.top1 for a, b in pairwise(rows)),
    )
    near = [
        item
        for item in found["input_share"]
        if item["share"] <= MOST_OF_INPUT and item["below_full_model"] is not None
    ]
    least_gap = min((item["below_full_model"]["value"] for item in near), default=None)
    known = any(item["below_full_model"] is not None for item in found["input_share"])
    add(
        f"a width within {100 * NEAR_FULL:g} points of the full model at <= {MOST_OF_INPUT:.1%} of its input",
        least_gap,
        (least_gap is not None and least_gap <= NEAR_FULL) if known else None,
    )
    tax = found["slimming_tax"]
    add(
        f"slimming tax: mean <= {100 * MEAN_TAX:g} points, none > {100 * WORST_TAX:g}, bytes matched",
        tax and {"mean": tax["mean"]["value"], "worst": tax["worst"]["value"]},
        None
        if tax is None
        else tax["mean"]["value"] <= MEAN_TAX
        and tax["worst"]["value"] <= WORST_TAX
        and all(item["bytes_matched"] for item in tax["widths"]),
    )
    coding = found["coding"]
    add(
        "real bytes <= 1.02 x cross-entropy + 2",
        [round(item["real_bytes"] - item["cross_entropy_bytes"], 3) for item in coding],
        all(item["real_bytes"] <= item["allowed_bytes"] for item in coding),
    )
    sizes = [item["tables_and_map_bytes"] for item in coding]
    add(f"tables and map <= {MOST_TABLES} bytes a width", sizes, max(sizes) <= MOST_TABLES)
    limit = GOALS[name].codecs if name in GOALS else 0
    for kind, beside in found["codecs"].items():
        if name in GOALS:
            lost = None if beside is None else [r for r in beside["loses"] if r[0] <= limit]
            add(f"above {kind} at every rate <= {limit} bytes", lost, None if lost is None else not lost)
    shares = [item["our_share_of_bytes"]["value"] for item in found["bottleneck"]]
    reached = [share for share in shares if share is not None]
    add(
        "half the bytes of the int8 bottleneck at equal accuracy",
        shares or None,
        (bool(reached) and max(reached) <= HALF) if shares else None,
    )
    if name in GOALS:
        _sizes(GOALS[name], table, add)
    return out


def _sizes(goals: Goals, table: Table, add: Any) -> None:
    widest = table.ours.records[-1]
    if goals.full is not None:
        rows = [row.top1 for row in table.kind("full")]
        recorded = table.ours.bundle.full_model
        values = rows or ([float(recorded["top1"])] if recorded else [])
        value = sum(values) / len(values) if values else None
        add(
            f"full model >= {goals.full:.1%}",
            None if value is None else round(value, 4),
            None if value is None else value >= goals.full,
        )
    if goals.macs is not None:
        add(f"head <= {goals.macs / 1e6:g} MMAC", widest.device_macs, (widest.device_macs or 0) <= goals.macs)
    if goals.flash is not None:
        add(
            f"head <= {goals.flash >> 10} KB of flash",
            widest.flash_bytes,
            (widest.flash_bytes or 0) <= goals.flash,
        )
