"""What the rows say about each other: each figure with a paired interval."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.experiments.frontier.curve import accuracy_at, bytes_at
from lab.experiments.frontier.energy import cost
from lab.experiments.frontier.resample import Draws, Floats
from lab.experiments.frontier.rows import Ours
from models.records import Record

MATCHED = 0.05
"""How far two mean sizes may lie apart, as a share, to count as equal."""


@dataclass(frozen=True)
class Table:
    """All rows, and the draws over their images."""

    ours: Ours
    others: list[Record]
    draws: Draws
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, ours: Ours, others: list[Record], seed: int) -> Table:
        """Draw with ``seed``."""
        return cls(ours, others, Draws([*ours.records, *others], seed), ours.bundle.headfile.input)

    @property
    def all(self) -> list[Record]:
        """Ours first."""
        return [*self.ours.records, *self.others]

    def kind(self, kind: str) -> list[Record]:
        """The other rows of a kind, by bytes."""
        return sorted(
            (row for row in self.others if row.kind == kind), key=lambda row: float(row.coded.mean())
        )


def slimming_tax(table: Table) -> dict[str, Any] | None:
    """Independent heads' accuracy less that of the widths trained alike; None without such rows.

    Of independent heads, those that saw the most images count. They are compared with the bundle if it saw
    as many, to `MATCHED`, else with the ``slimmable`` records that did: ``compared`` says which. ``tax``
    compares width with width; ``tax_at_equal_bytes`` compares with the widths' curve at the independent
    head's bytes. Several seeds of a width count as their mean.
    """
    independent = table.kind("independent")
    most = max((row.images_seen or 0 for row in independent), default=0)
    groups: dict[float, list[Record]] = defaultdict(list)
    for row in independent:
        if (row.images_seen or 0) == most:
            groups[float(row.setting.partition("@")[0])].append(row)
    records = _trained_alike(table, most)
    mine = table.draws.of(records)
    widths = []
    terms: list[Callable[[Floats, Floats], float]] = []
    for record, own in zip(records, mine, strict=True):
        rows = groups.get(float(record.setting))
        if not rows:
            continue
        theirs = table.draws.of(rows)

        def tax(a: Floats, _: Floats, theirs: list[int] = theirs, own: int = own) -> float:
            return float(a[theirs].mean() - a[own])

        def at_equal_bytes(a: Floats, s: Floats, theirs: list[int] = theirs) -> float:
            return float(a[theirs].mean() - accuracy_at(s[theirs].mean(), s[mine], a[mine]))

        ratio = float(record.coded.mean() / np.mean([row.coded.mean() for row in rows]))
        terms.append(tax)
        widths.append(
            {
                "width": float(record.setting),
                "tax": table.draws.figure(tax).as_json(),
                "tax_at_equal_bytes": table.draws.figure(at_equal_bytes).as_json(),
                "bytes_ratio": round(ratio, 4),
                "bytes_matched": abs(ratio - 1) <= MATCHED,
                "seeds": len(rows),
                "images_seen": {"ours": record.images_seen, "independent": rows[0].images_seen},
            }
        )
    if not widths:
        return None
    mean = table.draws.figure(lambda a, s: float(np.mean([term(a, s) for term in terms])))
    worst = table.draws.figure(lambda a, s: max(term(a, s) for term in terms))
    return {"compared": records[0].kind, "widths": widths, "mean": mean.as_json(), "worst": worst.as_json()}


def _trained_alike(table: Table, images: int) -> list[Record]:
    """Our widths as rows that saw so many images, by width: the bundle's, or records of its training."""
    ours = table.ours.records
    if images and any(abs((row.images_seen or images) / images - 1) > MATCHED for row in ours):
        recorded = [row for row in table.kind("slimmable") if row.images_seen == images]
        if [row.setting for row in recorded] == [row.setting for row in ours]:
            return recorded
    return ours


def input_share(table: Table) -> list[dict[str, Any]]:
    """For each width: its bytes as a share of the raw int8 input, and how far it is from the full model."""
    size = int(np.prod(table.shape))
    full = table.draws.of(table.kind("full"))
    recorded = table.ours.bundle.full_model
    out = []
    for record, own in zip(table.ours.records, table.draws.of(table.ours.records), strict=True):
        gap: dict[str, Any] | None = None
        if full:
            gap = table.draws.figure(lambda a, _, own=own: float(a[full].mean() - a[own])).as_json()  # type: ignore[misc]
        elif recorded is not None:
            gap = {"value": round(float(recorded["top1"]) - record.top1, 4), "ci95": None}
        out.append(
            {
                "width": float(record.setting),
                "share": round(float(record.coded.mean()) / size, 4),
                "below_full_model": gap,
            }
        )
    return out


def against(table: Table, kind: str) -> dict[str, Any] | None:
    """Our curve beside another method's, at equal mean bytes; None without such rows.

    ``points``: at each of its settings, our curve's accuracy less its own. ``wins``: ranges of whole bytes at
    which our curve is higher (or it has no setting so small). ``crossover``: from how many bytes on it is at
    least as good, with what both cost a device there; None where it never is.
    """
    rows = table.kind(kind)
    if not rows:
        return None
    mine, theirs = table.draws.of(table.ours.records), table.draws.of(rows)
    points = []
    for row, place in zip(rows, theirs, strict=True):

        def difference(a: Floats, s: Floats, place: int = place) -> float:
            return float(accuracy_at(s[place], s[mine], a[mine])) - float(a[place])

        points.append(
            {
                "row": row.row,
                "bytes": round(float(row.coded.mean()), 2),
                "theirs": round(row.top1, 4),
                "ours_less_theirs": table.draws.figure(difference).as_json(),
            }
        )
    rates = np.arange(1, int(max(table.draws.sizes[0][mine + theirs])) + 2, dtype=np.float64)
    accuracy, sizes = table.draws.accuracy[0], table.draws.sizes[0]
    own = accuracy_at(rates, sizes[mine], accuracy[mine])
    other = accuracy_at(rates, sizes[theirs], accuracy[theirs])
    ahead = np.where(np.isnan(own), False, np.isnan(other) | (own > other))
    behind = np.flatnonzero(~ahead & ~np.isnan(other))
    ahead_at = np.flatnonzero(ahead)
    last_ahead = ahead_at[-1] if len(ahead_at) else -1
    crossing = next((int(rates[i]) for i in behind if i > last_ahead), None)
    return {
        "points": points,
        "from_bytes": {
            "ours": round(float(min(sizes[mine])), 2),
            "theirs": round(float(min(sizes[theirs])), 2),
        },
        "wins": _ranges(rates[ahead]),
        "loses": _ranges(rates[behind]),
        "crossover": None if crossing is None else _crossover(table, rows, crossing),
    }


def _crossover(table: Table, rows: Sequence[Record], rate: int) -> dict[str, Any]:
    """Costs of both at ``rate`` bytes, between the settings around it."""

    def at(records: Sequence[Record], values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        if len(known) < len(records):
            return None
        sizes = [float(record.coded.mean()) for record in records]
        return float(np.interp(rate, sizes, known))

    def costs(records: Sequence[Record]) -> dict[str, Any]:
        macs = at(records, [record.device_macs for record in records])
        mj = at(records, [cost(record, table.shape).total for record in records])
        return {
            "device_macs": None if macs is None else round(macs),
            "mj": None if mj is None else round(mj, 3),
        }

    return {"bytes": rate, "ours": costs(table.ours.records), "theirs": costs(rows)}


def _ranges(rates: Floats) -> list[list[int]]:
    """Whole numbers as [first, last] of each run."""
    found: list[list[int]] = []
    for rate in rates.astype(int).tolist():
        if found and found[-1][1] == rate - 1:
            found[-1][1] = rate
        else:
            found.append([rate, rate])
    return found


def bytes_for_equal_accuracy(table: Table, kind: str) -> list[dict[str, Any]]:
    """For each row of a kind: our bytes at its accuracy, as a share of its own.

    ``at_most``: our narrowest width is better already, so that the share is an upper bound. No value: our
    widest does not reach its accuracy.
    """
    mine = table.draws.of(table.ours.records)
    out = []
    for row, place in zip(table.kind(kind), table.draws.of(table.kind(kind)), strict=True):

        def share(a: Floats, s: Floats, place: int = place) -> float:
            return bytes_at(float(a[place]), s[mine], a[mine]) / float(s[place])

        out.append(
            {
                "row": row.row,
                "bytes": round(float(row.coded.mean()), 2),
                "top1": round(row.top1, 4),
                "our_share_of_bytes": table.draws.figure(share).as_json(3),
                "at_most": bool(row.top1 <= table.ours.records[0].top1),
            }
        )
    return out


def coding(table: Table) -> list[dict[str, Any]]:
    """For each width: real bytes beside the cross-entropy of its tables, and what tables and map take."""
    out = []
    for record, outcome, width in zip(
        table.ours.records, table.ours.outcomes, table.ours.bundle.headfile.widths, strict=True
    ):
        information = float(outcome.entropy_bits.mean()) / 8
        tables = 2 * np.asarray(width.tables.freqs).size + -(-len(width.tables.index) // 4)
        out.append(
            {
                "width": float(record.setting),
                "cross_entropy_bytes": round(information, 3),
                "real_bytes": round(float(record.coded.mean()), 3),
                "allowed_bytes": round(1.02 * information + 2, 3),
                "tables_and_map_bytes": int(tables),
            }
        )
    return out
