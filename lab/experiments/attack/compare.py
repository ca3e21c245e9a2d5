"""Whether one row is better than another: delivery first, then memory and energy."""

import math
from typing import Any, NamedTuple

_Z = 1.959964  # two-sided 95 %


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion (Wilson 1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    p, z2 = successes / trials, _Z * _Z
    middle = (p + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z / (1 + z2 / trials) * math.sqrt(p * (1 - p) / trials + z2 / (4 * trials * trials))
    return max(0.0, middle - half), min(1.0, middle + half)


def difference(a: tuple[int, int], b: tuple[int, int]) -> tuple[float, float]:
    """Newcombe's 95 % interval of the difference of two proportions, a - b (Newcombe 1998, method 10)."""
    (low_a, high_a), (low_b, high_b) = wilson(*a), wilson(*b)
    p, q = a[0] / max(1, a[1]), b[0] / max(1, b[1])
    return (
        p - q - math.sqrt((p - low_a) ** 2 + (high_b - q) ** 2),
        p - q + math.sqrt((high_a - p) ** 2 + (q - low_b) ** 2),
    )


class Comparison(NamedTuple):
    """Slimwire against another defence under one attack.

    Attributes:
        verdict: `better` (more delivered, beyond the interval), `worse` (less, beyond it), and where the
            interval holds 0: `equal` if it takes no more memory and no more energy, `equal-costlier` else.
        difference: interval of the difference in delivery.
        costlier: what it takes more of: `memory`, `energy`.
    """

    attack: str
    against: str
    verdict: str
    difference: tuple[float, float]
    costlier: tuple[str, ...]


def compare(own: dict[str, Any], other: dict[str, Any], trials: tuple[int, int]) -> Comparison:
    """Two rows of the table; `trials` are the messages sent in each."""
    interval = difference(
        (round(own["delivery"] * trials[0]), trials[0]), (round(other["delivery"] * trials[1]), trials[1])
    )
    costlier = []
    if own["buffer_peak_bytes"] > other["buffer_peak_bytes"]:
        costlier.append("memory")
    if own["energy_mj_per_delivered"] > other["energy_mj_per_delivered"]:
        costlier.append("energy")
    if interval[0] > 0:
        verdict = "better"
    elif interval[1] < 0:
        verdict = "worse"
    else:
        verdict = "equal-costlier" if costlier else "equal"
    return Comparison(own["attack"], other["defence"], verdict, interval, tuple(costlier))
