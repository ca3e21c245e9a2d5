"""Images to train on: the split into training and validation, and label-keeping augmentation.

The validation split is the last part of the training split; the test split is never seen here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.datasets import load_named
from slimwire.errors import SlimwireError

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Training and validation images (N,H,W,C) uint8 with labels (N,)."""

    train_x: Images
    train_y: Labels
    valid_x: Images
    valid_y: Labels


def load_split(name: str, validation: int) -> Split:
    """Splits a data set's training images; the last ``validation`` are kept for choosing."""
    x, y = load_named(name, "train")
    if not 0 < validation < len(x):
        raise SlimwireError(
            f"{name} has {len(x)} training images", expected=f"more than the {validation} kept for validation"
        )
    return Split(x[:-validation], y[:-validation], x[-validation:], y[-validation:])


def augment(x: Images, rng: np.random.Generator, shift: int, flip: bool) -> Images:
    """Moves each image by up to ``shift`` pixels and mirrors half of them: (N,H,W,C) → the same."""
    n, height, width, channels = x.shape
    padded = np.zeros((n, height + 2 * shift, width + 2 * shift, channels), np.uint8)
    padded[:, shift : shift + height, shift : shift + width] = x
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    top, left = rng.integers(0, 2 * shift + 1, (2, n))
    out = np.moveaxis(windows[np.arange(n), top, left], 1, -1)
    if flip:
        mirrored = np.less(rng.random(n), 0.5)
        out = np.where(mirrored[:, None, None, None], out[:, :, ::-1], out)
    return np.ascontiguousarray(out)


def erase(x: Images, rng: np.random.Generator, share: float, largest: int) -> None:
    """Blackens a random rectangle of sides up to ``largest`` in ``share`` of the images, in place."""
    n, height, width = x.shape[:3]
    for i in np.flatnonzero(rng.random(n) < share):
        h, w = rng.integers(2, min(largest, height, width) + 1, 2)
        top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
        x[i, top : top + h, left : left + w] = 0
