"""Whether one row is better than another: delivery first, then memory and energy."""

import math
from collections.abc import Sequence
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


def dearer(a: Sequence[tuple[float, int]], b: Sequence[tuple[float, int]]) -> bool:
    """Whether a costs more energy per delivered message than b, beyond the 95 % interval.

    Args:
        a, b: each device's (mJ, messages delivered). The variance of the ratio of their sums is the
            linearised one over devices (Cochran, Sampling Techniques, §6.4).
    """
    (ratio_a, variance_a), (ratio_b, variance_b) = _ratio(a), _ratio(b)
    return ratio_a - ratio_b > _Z * math.sqrt(variance_a + variance_b)


def _ratio(devices: Sequence[tuple[float, int]]) -> tuple[float, float]:
    energy, messages = sum(one for one, _ in devices), max(1, sum(two for _, two in devices))
    ratio, count = energy / messages, len(devices)
    spread = sum((one - ratio * two) ** 2 for one, two in devices)
    return ratio, spread * count / max(1, count - 1) / messages**2


class Comparison(NamedTuple):
    """Slimwire against another defence under one attack.

    Attributes:
        verdict: `better` (more delivered, beyond the interval), `worse` (less, beyond it), and where the
            interval holds 0: `equal` if it takes no more memory and no more energy, `equal-costlier` else.
        difference: interval of the difference in delivery.
        costlier: what it takes more of: `memory` (peak), `energy` (beyond the interval).
    """

    attack: str
    against: str
    verdict: str
    difference: tuple[float, float]
    costlier: tuple[str, ...]


def compare(
    own: dict[str, Any],
    other: dict[str, Any],
    trials: tuple[int, int],
    energy: tuple[Sequence[tuple[float, int]], Sequence[tuple[float, int]]],
) -> Comparison:
    """Two rows of the table; of each, the messages sent and the devices' energy (see `dearer`)."""
    interval = difference(
        (round(own["delivery"] * trials[0]), trials[0]), (round(other["delivery"] * trials[1]), trials[1])
    )
    costlier = []
    if own["buffer_peak_bytes"] > other["buffer_peak_bytes"]:
        costlier.append("memory")
    if dearer(*energy):
        costlier.append("energy")
    if interval[0] > 0:
        verdict = "better"
    elif interval[1] < 0:
        verdict = "worse"
    else:
        verdict = "equal-costlier" if costlier else "equal"
    return Comparison(own["attack"], other["defence"], verdict, interval, tuple(costlier))
