"""What a link loses: each frame by itself, or in bursts that are counted in frames."""

import random
from typing import NamedTuple


class Loss(NamedTuple):
    """How one direction of a link loses frames.

    Attributes:
        mean: share lost in the long run, 0 to below 1.
        burst: mean length of a run of lost frames (Gilbert's model: in the bad state every frame is lost);
            None: independent.
    """

    mean: float
    burst: float | None

    @property
    def name(self) -> str:
        """For tables."""
        return "independent" if self.burst is None else f"bursts of {self.burst:g}"


class Direction:
    """One direction of a link. Its state moves from frame to frame, so waiting does not end a burst."""

    def __init__(self, loss: Loss, rng: random.Random) -> None:
        self._rng = rng
        self._mean = loss.mean
        self._leave = None if loss.burst is None else 1 / loss.burst
        self._enter = 0.0 if self._leave is None else self._leave * loss.mean / (1 - loss.mean)
        self._bad = rng.random() < loss.mean

    def lost(self) -> bool:
        """Whether the next frame is."""
        if self._leave is None:
            return self._rng.random() < self._mean
        lost = self._bad
        self._bad = self._rng.random() < (1 - self._leave if self._bad else self._enter)
        return lost
