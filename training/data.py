"""Images to train on, to choose by, and to measure with, and what a bundle says of them.

Of a named data set the validation split is the last part of the training split, and the test split is touched
once, for the figures. `training.own` makes the same of a person's own images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.datasets import SOURCES, load
from slimwire.errors import SlimwireError
from training.recipe import Recipe

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Training and validation images (N,H,W,C) uint8 with labels (N,)."""

    train_x: Images
    train_y: Labels
    valid_x: Images
    valid_y: Labels


@dataclass(frozen=True)
class Data:
    """Everything a bundle is made from. ``about`` is bundle.json's ``data``: name, licence, source."""

    split: Split
    test_x: Images
    test_y: Labels
    classes: tuple[str, ...]
    about: dict[str, Any]


def load_split(name: str, validation: int) -> Split:
    """Splits a data set's training images; the last ``validation`` are kept for choosing."""
    found = load(name, "train")
    x, y = found.x, found.y
    if not 0 < validation < len(x):
        raise SlimwireError(
            f"{name} has {len(x)} training images", expected=f"more than the {validation} kept for validation"
        )
    return Split(x[:-validation], y[:-validation], x[-validation:], y[-validation:])


def load_data(recipe: Recipe) -> Data:
    """The named data set of a recipe.

    Raises BundleError when it is not to be had, SlimwireError when it is too small.
    """
    split, test, source = (
        load_split(recipe.data, recipe.validation),
        load(recipe.data, "test"),
        SOURCES[recipe.data],
    )
    about = {"name": source.title, "licence": source.licence, "source": test.source}
    return Data(split, test.x, test.y, source.classes, about)
