"""The frontier as one JSON object, and as a table for people."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table as Shown

from lab.experiments.frontier import compare, goals
from lab.experiments.frontier.compare import Table
from lab.experiments.frontier.energy import MCU, RADIO, cost
from models.data_files import DataSet
from models.evaluate import frames, rounded, wilson
from models.records import Record


def as_json(table: Table, data: DataSet, seed: int) -> dict[str, Any]:
    """All rows, and what they say about each other.

    Keys: ``rows``; ``slimming_tax``, ``input_share``, ``codecs`` (jpeg, webp), ``ensemble`` and ``entropic``
    at equal bytes, ``bottleneck`` at equal accuracy, ``coding``; ``goals``, each with whether it is held. An
    entry is null, or a list empty, where its rows are not there.
    """
    found: dict[str, Any] = {
        "bundle": f"{table.ours.bundle.name} {table.ours.bundle.info['version']}",
        "data": {"name": data.name, "source": data.source, "n": len(data.x)},
        "seed": seed,
        "energy": {"mcu": MCU, "radio": RADIO},
        "rows": [_row(record, table.shape) for record in table.all],
        "slimming_tax": compare.slimming_tax(table),
        "input_share": compare.input_share(table),
        "codecs": {kind: compare.against(table, kind) for kind in ("jpeg", "webp")},
        "ensemble": compare.against(table, "ensemble"),
        "entropic": compare.against(table, "entropic"),
        "bottleneck": compare.bytes_for_equal_accuracy(table, "bottleneck"),
        "coding": compare.coding(table),
    }
    found["goals"] = goals.held(data.name, table, found)
    return found


def _row(record: Record, shape: tuple[int, int, int]) -> dict[str, Any]:
    on_air = [frames(size) for size in record.coded.tolist()]
    price = cost(record, shape)
    return {
        "row": record.row,
        "kind": record.kind,
        "label": record.label,
        "setting": record.setting,
        "top1": round(record.top1, 5),
        "top1_ci95": rounded(wilson(int(record.right.sum()), len(record.right)), 4),
        "bytes": {
            "mean": round(float(record.coded.mean()), 2),
            "p99": float(np.percentile(record.coded, 99, method="higher")),
        },
        "frames": {"mean": round(float(np.mean(on_air)), 3), "max": max(on_air)},
        "device_macs": record.device_macs,
        "server_macs": record.server_macs,
        "params": record.params,
        "flash_bytes": record.flash_bytes,
        "mj": {
            "compute": None if price.compute is None else round(price.compute, 4),
            "radio": round(price.radio, 4),
            "total": None if price.total is None else round(price.total, 4),
        },
        "seed": record.seed,
        "epochs": record.epochs,
        "images_seen": record.images_seen,
        "command": record.command,
    }


def table(found: dict[str, Any]) -> Group:
    """Every row, then what is held."""
    first = Shown(
        "row", "top-1 %", "bytes (p99)", "frames", "MMAC device + server", "weights", "flash", "mJ",
        title=f"{found['bundle']} on {found['data']['name']} ({found['data']['source']}), "
        f"{found['data']['n']} images",
    )  # fmt: skip
    for column in first.columns[1:]:
        column.justify = "right"
    for row in found["rows"]:
        low, high = row["top1_ci95"]
        first.add_row(
            f"[bold]{row['label']} {row['setting']}[/bold]" if row["kind"] == "ours" else row["label"],
            f"{100 * row['top1']:.2f} ±{50 * (high - low):.2f}",
            f"{row['bytes']['mean']:.1f} ({row['bytes']['p99']:.0f})",
            f"{row['frames']['mean']:.2f}",
            f"{_millions(row['device_macs'])} + {_millions(row['server_macs'])}",
            _whole(row["params"]),
            _whole(row["flash_bytes"]),
            "-" if row["mj"]["total"] is None else f"{row['mj']['total']:.2f}",
        )
    second = Shown("goal", "found", "held", title="what it is to show")
    colours = {True: "[green]yes[/green]", False: "[red]no[/red]", None: "no rows"}
    for goal in found["goals"]:
        second.add_row(goal["goal"], str(goal["found"]), colours[goal["held"]])
    notes = [f"mJ: an estimate, {MCU}; {RADIO}"]
    if found["data"]["source"] == "jpeg":
        notes.append("the test images have been through JPEG once before, which flatters the JPEG rows")
    for kind, beside in found["codecs"].items():
        if beside is not None:
            notes.append(_codec(kind, beside))
    return Group(first, second, *notes)


def _millions(value: int | None) -> str:
    return "-" if value is None else f"{value / 1e6:.2f}"


def _whole(value: int | None) -> str:
    return "-" if value is None else f"{value}"


def _codec(kind: str, beside: dict[str, Any]) -> str:
    crossing = beside["crossover"]
    if crossing is None:
        return f"{kind}: never as good as ours, from {beside['from_bytes']['theirs']} bytes on"
    costs = ", ".join(
        f"{who} {_millions(crossing[who]['device_macs'])} MMAC and {crossing[who]['mj']} mJ"
        for who in ("ours", "theirs")
    )
    return f"{kind}: at least as good from {crossing['bytes']} bytes on ({costs})"
