"""Bursty loss: the Gilbert–Elliott model (Gilbert 1960, Elliott 1963) in continuous time.

A receiver is in a good or a bad state, for exponentially distributed times, and loses each frame with that
state's probability. The state lives in time and not in frames, so a burst spoils the link-layer retries that
fall into it, as fading does.
"""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class LossModel:
    """Parameters: mean seconds in each state (> 0), probability of losing a frame in each state (0..1)."""

    good_seconds: float = 2.0
    bad_seconds: float = 0.2
    good_loss: float = 0.02
    bad_loss: float = 0.35

    def __post_init__(self) -> None:
        if self.good_seconds <= 0 or self.bad_seconds <= 0:
            raise ValueError("mean times in a state must be > 0")
        if not (0 <= self.good_loss <= 1 and 0 <= self.bad_loss <= 1):
            raise ValueError("loss probabilities must lie in 0..1")

    @property
    def mean(self) -> float:
        """Long-run share of frames lost."""
        share = self.bad_seconds / (self.good_seconds + self.bad_seconds)
        return share * self.bad_loss + (1 - share) * self.good_loss


class GilbertElliott:
    """One receiver's fading. Times passed to `lost` must not decrease."""

    def __init__(self, model: LossModel, rng: random.Random, start: float = 0.0) -> None:
        self._model = model
        self._rng = rng
        self._bad = False
        self._until = start + rng.expovariate(1 / model.good_seconds)

    def lost(self, now: float) -> bool:
        """Whether a frame that ends at `now` (seconds) is lost here."""
        while now >= self._until:
            self._bad = not self._bad
            mean = self._model.bad_seconds if self._bad else self._model.good_seconds
            self._until += self._rng.expovariate(1 / mean)
        return self._rng.random() < (self._model.bad_loss if self._bad else self._model.good_loss)
