"""What no policy can know: the bounds that policies are measured against."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from lab.experiments.width import requests
from lab.experiments.width.links import Floats
from lab.experiments.width.requests import Ints, Model, Outcomes
from lab.sim.loss import LossModel

Bools = npt.NDArray[np.bool_]

_DRAWS = 64


def clairvoyant(outcomes: Outcomes, model: Model, deadline: float) -> Ints:
    """(T,) the most accurate width that will be on time; the first where none will."""
    best: Ints = (outcomes.on_time(deadline) * model.accuracy).argmax(1)
    return best


def oracle(outcomes: Outcomes, model: Model, deadline: float, loss: LossModel) -> Ints:
    """(T,) the width of the highest expected value, given the moment's rate, loss probability and queue.

    It takes them as they are when the sample is taken, not as they become; and it does not know the coin
    flips (back-off, which frames are lost) nor the image's own size.
    """
    share = np.zeros(outcomes.seconds.shape)
    for bad, probability in ((False, loss.good_loss), (True, loss.bad_loss)):
        now = outcomes.bad == bad
        rate = outcomes.kbps[now] * 1000
        bits, heard = _draws(model, probability)
        for w, head in enumerate(model.head_seconds):
            left = deadline - head - requests.SERVER_SECONDS - outcomes.waited[now]
            share[now, w] = ((bits[w][None, :] <= (left * rate)[:, None]) & heard[w]).mean(1)
    best: Ints = (share * model.accuracy).argmax(1)
    return best


def _draws(model: Model, probability: float) -> tuple[list[Floats], list[Bools]]:
    """Per width, _DRAWS exchanges under one loss probability: bits on the air, and whether all was heard."""
    return _cached(model.lengths.tobytes(), model.lengths.shape, probability)


@lru_cache(maxsize=16)
def _cached(raw: bytes, shape: tuple[int, ...], probability: float) -> tuple[list[Floats], list[Bools]]:
    lengths = np.frombuffer(raw, np.int64).reshape(shape)
    rng = np.random.default_rng(0)
    images = rng.integers(shape[0], size=_DRAWS)
    tries = rng.geometric(1 - probability, size=(_DRAWS, shape[2] + 2))
    backoff = rng.uniform(0, 7, size=tries.shape) * 80
    bits: list[Floats] = []
    heard: list[Bools] = []
    for w in range(shape[1]):
        sizes = np.column_stack(
            [
                lengths[images, w],
                np.full(_DRAWS, requests.CUSTODY_BYTES),
                np.full(_DRAWS, requests.ANSWER_BYTES),
            ]
        )
        there = sizes > 0
        each = 8.0 * (6 + sizes) + backoff + requests.AFTER_BITS
        bits.append((there * each * np.minimum(tries, requests.TRIES)).sum(1))
        # The custody ack is not needed for the answer; it only takes time.
        needed = there.copy()
        needed[:, -2] = False
        heard.append(np.asarray((~needed | (tries <= requests.TRIES)).all(1)))
    return bits, heard
