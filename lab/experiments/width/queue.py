"""The edge server's queue: other devices' latents, in bursts, before one worker (Lindley's recursion)."""

import numpy as np

from lab.experiments.width.links import Floats

#: Seconds between two entries of `waits`.
STEP = 0.02

_CALM, _BURST = 0.35, 1.2  # load: seconds of work that come in a second
_CALM_SECONDS, _BURST_SECONDS = 30.0, 2.0
_JOB = 0.004  # seconds of one batch


def waits(seconds: float, seed: int) -> Floats:
    """The time a message that comes in waits, every STEP seconds of `seconds`."""
    rng = np.random.default_rng([seed, 2])
    n = int(seconds / STEP) + 1
    load = np.full(n, _CALM)
    t = rng.exponential(_CALM_SECONDS)
    while t < seconds:
        until = t + rng.exponential(_BURST_SECONDS)
        load[int(t / STEP) : int(until / STEP)] = _BURST
        t = until + rng.exponential(_CALM_SECONDS)
    steps = rng.poisson(load * STEP / _JOB) * _JOB - STEP
    total = np.cumsum(steps)
    waiting: Floats = total - np.minimum(np.minimum.accumulate(total), 0.0)
    return waiting
