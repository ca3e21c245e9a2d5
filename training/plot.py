"""The model card's picture: accuracy over bytes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from models.evaluate import FRAME_LIMITS


def draw_curve(info: dict[str, Any], path: Path) -> bool:
    """Writes a PNG of each width's measured top-1, with its interval, over its mean bytes.

    Returns whether it did: without matplotlib there is no picture.
    """
    if find_spec("matplotlib") is None:
        return False
    from matplotlib.figure import Figure  # noqa: PLC0415  (optional)

    rows = info["widths"]
    sizes = [row["bytes"]["mean"] for row in rows]
    shares = [100 * row["top1"] for row in rows]
    below = [100 * (row["top1"] - row["top1_ci95"][0]) for row in rows]
    above = [100 * (row["top1_ci95"][1] - row["top1"]) for row in rows]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.errorbar(sizes, shares, yerr=[below, above], marker="o", capsize=3)
    for row, size, share in zip(rows, sizes, shares, strict=True):
        axes.annotate(f"{row['width']:g}", (size, share), xytext=(5, -12), textcoords="offset points")
    full = info["training"].get("full_model")
    if full:
        axes.axhline(100 * full["top1"], linestyle="--", color="grey", label="full model")
        axes.legend(loc="lower right")
    for count, limit in enumerate(FRAME_LIMITS, 1):
        if limit <= 1.15 * max(sizes):
            axes.axvline(limit, linestyle=":", color="lightgrey")
            axes.annotate(
                f"{count} frame{'s' if count > 1 else ''}",
                (limit, 0.02),
                xycoords=("data", "axes fraction"),
                rotation=90,
                ha="right",
                color="grey",
                fontsize="small",
            )
    axes.set(xlabel="coded bytes, mean", ylabel="top-1 %", title=f"{info['name']}, widths {_span(rows)}")
    figure.savefig(path, dpi=100)
    return True


def _span(rows: list[dict[str, Any]]) -> str:
    return f"{rows[0]['width']:g} to {rows[-1]['width']:g}"
