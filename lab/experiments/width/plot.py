"""The experiment's utility by cell, as a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lab.experiments.width.run import Cell
from lab.experiments.width.statistics import interval
from slimwire.errors import MissingExtraError, SlimwireError

_DRAWN = ("ewma", "robust-mpc", "thompson", "slimwire", "oracle")
_COLOURS = ("#8c8c8c", "#c2a15a", "#7a9cc6", "#b3293c", "#2f6f4f")


def draw(cells: Sequence[Cell], path: Path) -> None:
    """A panel per regime: each policy's utility over the best fixed width's, with 95 % intervals.

    Raises SlimwireError where matplotlib is missing, or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError("lab", "lab", "matplotlib") from error
    regimes = list(dict.fromkeys(cell.regime for cell in cells))
    figure = Figure(figsize=(11, 2.6 * len(regimes) + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    for i, (regime, axes) in enumerate(
        zip(regimes, figure.subplots(len(regimes), 1, squeeze=False)[:, 0], strict=True)
    ):
        group = [cell for cell in cells if cell.regime == regime]
        at = np.arange(len(group))
        for k, (policy, colour) in enumerate(zip(_DRAWN, _COLOURS, strict=True)):
            found = [interval(cell.rows[policy].utility - cell.best_fixed.utility) for cell in group]
            means = np.array([f.mean for f in found])
            halves = np.nan_to_num(np.array([f.high - f.mean for f in found]))
            axes.errorbar(at + (k - 2) * 0.14, means, halves, fmt="o", ms=4, lw=1, color=colour, label=policy)
        axes.axhline(0, color="black", lw=0.8)
        axes.set_xticks(
            at, [f"{cell.kbps:g} kb/s\n{cell.deadline * 1000:.0f} ms" for cell in group], fontsize=8
        )
        axes.set_ylabel(f"{regime}: utility\nover best fixed")
        if i == 0:
            axes.legend(ncols=len(_DRAWN), fontsize=8, frameon=False, loc="upper left")
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise SlimwireError(
            f"the plot {path} cannot be written: {error}", expected="a file such as width.png"
        ) from error
