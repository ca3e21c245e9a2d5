"""Generated links: rates and fading that no log has, for a controller to meet for the first time.

Three kinds in turn, each link with parameters of its own (drawn log-uniformly):

- `markov`: a Markov-modulated rate of 2 to 5 states that lie up to sixteenfold apart, mean stays 5 to 90 s.
- `wander`: ln of the rate is an Ornstein-Uhlenbeck process, deviation 0.2 to 0.8, time constant 5 to 60 s.
- `steps`: the rate changes for good 2 to 6 times at random moments, up to fourfold either way, with 10 %
  jitter in between.

Fading: Gilbert-Elliott with mean stays of 0.5 to 8 s (good) and 0.05 to 0.6 s (bad), which lose 0.5 to 5 %
and 20 to 60 % of the frames.
"""

import math

import numpy as np

from lab.sim.loss import LossModel
from lab.sim.trace import Trace

KINDS = ("markov", "wander", "steps")
_SECONDS = 1200


def link(kind: str, number: int, seed: int) -> tuple[Trace, LossModel]:
    """One of KINDS; number and seed decide everything. Rates are relative: their scale says nothing."""
    rng = np.random.default_rng([seed, number, 3])

    def between(low: float, high: float) -> float:
        return math.exp(rng.uniform(math.log(low), math.log(high)))

    loss = LossModel(between(0.5, 8), between(0.05, 0.6), between(0.005, 0.05), between(0.2, 0.6))
    if kind == "markov":
        states = int(rng.integers(2, 6))
        rates = [between(1, 16) for _ in range(states)]
        stays = [between(5, 90) for _ in range(states)]
        level = np.empty(_SECONDS)
        state, t = 0, 0
        while t < _SECONDS:
            stay = max(1, round(rng.exponential(stays[state])))
            level[t : t + stay] = rates[state]
            t += stay
            state = int((state + rng.integers(1, states)) % states)
    elif kind == "wander":
        deviation, keep = between(0.2, 0.8), math.exp(-1 / between(5, 60))
        x = np.empty(_SECONDS)
        x[0] = rng.normal(0, deviation)
        for t in range(1, _SECONDS):
            x[t] = keep * x[t - 1] + rng.normal(0, deviation * math.sqrt(1 - keep * keep))
        level = np.exp(x)
    else:
        cuts = np.sort(rng.integers(1, _SECONDS, size=int(rng.integers(2, 7))))
        steps = np.cumsum([0.0, *(rng.uniform(-math.log(4), math.log(4)) for _ in cuts)])
        level = np.exp(steps[np.searchsorted(cuts, np.arange(_SECONDS), "right")])
        level = level * rng.uniform(0.9, 1.1, _SECONDS)
    name = f"generated-{seed}-{number:02d}-{kind}"
    return Trace(name, (1.0,) * _SECONDS, tuple((100.0 * level).tolist())), loss


def links(count: int, seed: int) -> list[tuple[Trace, LossModel]]:
    """`count` links, the kinds in turn."""
    return [link(KINDS[number % len(KINDS)], number, seed) for number in range(count)]
