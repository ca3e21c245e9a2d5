"""What all rows show on the test images, and on images drawn again from them: every figure's interval.

The bootstrap is paired: a draw gives each image a weight, Poisson(1), the same for every row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from models.records import Record

DRAWS = 1000

Floats = npt.NDArray[np.float64]


class Draws:
    """Accuracy and mean bytes of every row: on the test images first, then in each draw.

    Attributes:
        accuracy, sizes: (1 + draws, rows).
    """

    def __init__(self, records: Sequence[Record], seed: int, draws: int = DRAWS) -> None:
        self._place = {record.row: i for i, record in enumerate(records)}
        right = np.stack([record.right for record in records], 1).astype(np.float64)
        coded = np.stack([record.coded for record in records], 1).astype(np.float64)
        rng = np.random.default_rng(seed)
        weights = np.concatenate([np.ones((1, len(right))), rng.poisson(1.0, (draws, len(right)))])
        weights /= weights.sum(1, keepdims=True)
        self.accuracy: Floats = weights @ right
        self.sizes: Floats = weights @ coded

    def of(self, records: Sequence[Record]) -> list[int]:
        """The columns of these rows."""
        return [self._place[record.row] for record in records]

    def figure(self, each: Callable[[Floats, Floats], float]) -> Figure:
        """A figure that ``each(accuracy (rows,), sizes (rows,))`` computes: its value, and its interval."""
        values = np.array([each(a, s) for a, s in zip(self.accuracy, self.sizes, strict=True)])
        known = values[1:][np.isfinite(values[1:])]
        if not np.isfinite(values[0]):
            return Figure(None, None)
        if len(known) < 0.975 * (len(values) - 1):  # mostly undefined in the draws: no interval to speak of
            return Figure(float(values[0]), None)
        low, high = np.percentile(known, (2.5, 97.5))
        return Figure(float(values[0]), (float(low), float(high)))


class Figure:
    """A value with its 95 % interval; None where there is none."""

    def __init__(self, value: float | None, interval: tuple[float, float] | None) -> None:
        self.value, self.interval = value, interval

    def as_json(self, digits: int = 4) -> dict[str, object]:
        """``{"value", "ci95"}``, rounded."""
        return {
            "value": None if self.value is None else round(self.value, digits),
            "ci95": None if self.interval is None else [round(bound, digits) for bound in self.interval],
        }
