"""A bundle's camera: the pictures that demonstrations and devices on a desk show.

``bundle.json`` names a file of the bundle, ``{"file", "sha256"}``, or, where the pictures may not be passed
on, a draw from a named data set: ``{"data": name, "split": "train"|"test", "n", "seed"}``, the first ``n`` of
numpy's ``default_rng(seed).choice(images, n, replace=False)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.datasets import SOURCES, SPLITS, load, load_npz
from models.errors import BundleError

MOST = 65535
"""A device's camera file counts its pictures in 16 bits."""
GENERATED = 64


@dataclass(frozen=True)
class Pictures:
    """What a camera shows.

    Attributes:
        x: uint8 (N,H,W,C). y: classes, int64 (N,); None for pictures of nothing.
        origin: where they come from, in words.
    """

    x: npt.NDArray[np.uint8]
    y: npt.NDArray[np.int64] | None
    origin: str


def check(where: str, camera: dict[str, Any]) -> None:
    """Raises BundleError unless a camera that names a data set can be drawn."""
    expected = {
        "data": f"one of {', '.join(SOURCES)}",
        "split": f"one of {', '.join(SPLITS)}",
        "n": f"1 to {MOST}",
        "seed": "a number of at least 0",
    }
    n, seed = camera.get("n"), camera.get("seed")
    fine = {
        "data": camera.get("data") in tuple(SOURCES),
        "split": camera.get("split") in SPLITS,
        "n": type(n) is int and 1 <= n <= MOST,
        "seed": type(seed) is int and seed >= 0,
    }
    for field, good in fine.items():
        if not good:
            raise BundleError(
                f"{where}: the camera's {field!r} is {camera.get(field)!r}; expected {expected[field]}"
            )


def from_file(path: Path) -> Pictures:
    """The pictures of a ``.npz``. Raises BundleError as `load_npz`."""
    x, y = load_npz(path)
    return Pictures(x, y, f"{len(x)} pictures of the bundle")


def from_data(camera: dict[str, Any]) -> Pictures:
    """The draw that a checked camera names, from a data set on this machine: nothing is downloaded.

    Raises BundleError, DataMissingError where the data set is not here.
    """
    found = load(camera["data"], camera["split"], download=False)
    if len(found.x) < camera["n"]:
        raise BundleError(
            f"the {camera['split']} split of {found.name} has {len(found.x)} images; "
            f"expected at least the {camera['n']} of the camera"
        )
    picked = np.random.default_rng(camera["seed"]).choice(len(found.x), camera["n"], replace=False)
    title = SOURCES[found.name].title
    return Pictures(found.x[picked], found.y[picked], f"{camera['n']} {camera['split']} images of {title}")


def generated(shape: tuple[int, int, int], count: int = GENERATED, seed: int = 0) -> Pictures:
    """Pictures of nothing: noise whose spectrum falls as 1/f, as that of natural images does (Field 1987).

    They take the computing time of real ones, and belong to no class.
    """
    height, width, _ = shape
    rng = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    # a part that the channels share, and a weaker one of each: natural colours are mostly brightness
    noise = rng.normal(size=(count, height, width, 1)) + 0.4 * rng.normal(size=(count, *shape))
    spectrum = np.fft.rfft2(noise, axes=(1, 2)) / frequency[None, :, :, None]
    waves = np.fft.irfft2(spectrum, (height, width), axes=(1, 2))
    scaled = 128 + 55 * waves / waves.std((1, 2, 3), keepdims=True)
    return Pictures(np.clip(np.rint(scaled), 0, 255).astype(np.uint8), None, f"{count} generated pictures")
