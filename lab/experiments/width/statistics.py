"""Means with 95 % intervals over runs; differences are paired by run."""

from typing import NamedTuple

from lab.experiments.width.links import Floats

#: Student's t, two-sided 95 %, by degrees of freedom; beyond the table 1.96 + 2.4/df is right to 0.01.
_T = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


class Interval(NamedTuple):
    """A mean and the bounds of its 95 % interval; nan bounds for a single run."""

    mean: float
    low: float
    high: float


def interval(values: Floats) -> Interval:
    """Of (N,) independent runs."""
    n = len(values)
    mean = float(values.mean())
    if n < 2:
        return Interval(mean, float("nan"), float("nan"))
    t = _T[n - 2] if n - 2 < len(_T) else 1.96 + 2.4 / (n - 1)
    half = t * float(values.std(ddof=1)) / n**0.5
    return Interval(mean, mean - half, mean + half)
