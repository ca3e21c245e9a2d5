"""Accuracy over bytes: a method at several settings is a curve of points.

Between two points the curve is the straight line, which a device reaches by taking one setting for some
images and the other for the rest. To the right it goes on at its best accuracy, since nobody has to send more
bytes; left of its first point there is nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def accuracy_at(rate: Floats | float, sizes: Floats, accuracy: Floats) -> Floats:
    """Accuracy at mean bytes ``rate`` of the curve through points ``(sizes, accuracy)``; nan left of it."""
    sizes, accuracy = _ordered(sizes, accuracy)
    return np.asarray(np.interp(rate, sizes, accuracy, left=np.nan), np.float64)


def bytes_at(goal: float, sizes: Floats, accuracy: Floats) -> float:
    """Mean bytes at which the curve reaches ``goal``: at least its first point's, nan where it never does."""
    sizes, accuracy = _ordered(sizes, accuracy)
    if goal > accuracy[-1]:
        return float("nan")
    at = int(np.searchsorted(accuracy, goal))
    if at == 0:
        return float(sizes[0])
    low, high = accuracy[at - 1], accuracy[at]
    return float(sizes[at - 1] + (goal - low) / (high - low) * (sizes[at] - sizes[at - 1]))


def _ordered(sizes: Floats, accuracy: Floats) -> tuple[Floats, Floats]:
    """By size; a point that costs more and is no better than one before counts as good as that one."""
    order = np.lexsort((-accuracy, sizes))
    return sizes[order], np.maximum.accumulate(accuracy[order])
