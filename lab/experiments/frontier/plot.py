"""The frontier as a picture: accuracy over bytes, and over a device's energy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slimwire.errors import MissingExtraError, SlimwireError

_LINES = {
    "ours": ("ours", "#b3293c", "o"),
    "independent": ("independent heads", "#444444", "x"),
    "ensemble": ("slimmable ensemble", "#7a5aa6", "D"),
    "entropic": ("one model per rate", "#2f6f4f", "s"),
    "bottleneck": ("int8 bottleneck", "#7a9cc6", "^"),
    "jpeg": ("JPEG, scan bytes", "#c2a15a", "v"),
    "webp": ("WebP, payload", "#8a6d1f", "<"),
    "full": ("raw input, full model", "#8c8c8c", "P"),
    "on-device": ("all on the device", "#1f1f1f", "*"),
}


def draw(found: dict[str, Any], path: Path) -> None:
    """Two panels of `report.as_json`'s rows.

    Raises SlimwireError where matplotlib is missing, or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
        from matplotlib.ticker import FuncFormatter, LogLocator  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError("lab", "lab", "matplotlib") from error
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for kind, (label, colour, marker) in _LINES.items():
        rows = sorted((r for r in found["rows"] if r["kind"] == kind), key=lambda r: r["bytes"]["mean"])
        if not rows:
            continue
        line = "-" if kind not in ("independent", "full", "on-device") else ""
        top1 = [100 * r["top1"] for r in rows]
        bounds = [
            [100 * (r["top1"] - r["top1_ci95"][0]) for r in rows],
            [100 * (r["top1_ci95"][1] - r["top1"]) for r in rows],
        ]
        style: dict[str, Any] = {"color": colour, "marker": marker, "ls": line, "ms": 5, "lw": 1}
        style |= {"lw": 2, "zorder": 5} if kind == "ours" else {}
        left.errorbar([r["bytes"]["mean"] for r in rows], top1, bounds, label=label, elinewidth=0.6, **style)
        known = [(r["mj"]["total"], 100 * r["top1"]) for r in rows if r["mj"]["total"] is not None]
        if known:
            right.plot([mj for mj, _ in known], [t for _, t in known], **style)
    left.set_xlabel("mean bytes of coded symbols")
    right.set_xlabel("mJ per answer on the device (estimate)")
    left.set_ylabel("top-1, %")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
        axes.grid(alpha=0.25, lw=0.5)
    figure.legend(
        *left.get_legend_handles_labels(), fontsize=8, frameon=False, ncols=5, loc="outside lower center"
    )
    data = found["data"]
    figure.suptitle(f"{found['bundle']} on {data['name']} ({data['source']}), {data['n']} test images")
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise SlimwireError(
            f"the plot {path} cannot be written: {error}", expected="a file such as frontier.png"
        ) from error
