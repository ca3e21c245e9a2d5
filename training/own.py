"""A person's own labelled data: read, checked, and divided by seed.

A folder has a folder of images for each class, of any size and any format that Pillow reads. A ``.npz`` has
``x`` (N,H,W[,C]) uint8, ``y`` (N,) classes from 0 on and, where they have names, ``classes``. Windows of a
sensor's readings are images of width 1: ``x`` (N,T,1,C).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from models.arrays import read_npz
from models.datasets import load_npz
from slimwire.errors import SlimwireError
from training.data import Data, Images, Labels, Split

SIZE = 32
"""Height and width of images from a folder."""
LEAST, MOST, LONGEST = 8, 96, 255
"""Sides that an image can have; readings that a window can have."""
MOST_CHANNELS = 16
SAMPLES = 20
"""The fewest samples of a class: 14 to learn from, 3 to choose by, 3 to measure with."""
SHARES = (0.15, 0.15)
"""Of each class, what goes to the validation and to the test split."""
_DEEP = {"I;16": 8, "I;16L": 8, "I;16B": 8, "I;16N": 8}
"""Modes of more than 8 bits, and by how much they are shifted."""
_GREY = ("1", "L", "LA", *_DEEP)
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "La", "RGBa")


def load(path: Path, size: int | None, seed: int) -> Data:
    """Reads a folder or ``.npz`` and splits it; ``size`` resizes images to a square, None: as they are.

    (Images from a folder are then 32×32.) Raises SlimwireError for anything that cannot be learned from.
    """
    if size is not None and not LEAST <= size <= MOST:
        raise SlimwireError(f"--size {size} is out of range", expected=f"{LEAST} to {MOST}")
    if path.is_dir():
        x, y, classes = read_folder(path, size or SIZE)
    elif path.suffix == ".npz" and path.is_file():
        x, y, classes = read_file(path, size)
    else:
        raise SlimwireError(
            f"there is no folder and no .npz file {path}",
            expected="a folder with a folder of images for each class, or a .npz with x and y",
        )
    _check_classes(path, y, classes)
    about = {
        "name": f"{path.name} (own data)",
        "licence": "not stated",
        "split": f"Of each class, {100 - round(100 * sum(SHARES))} % are for training, "
        f"{100 * SHARES[0]:.0f} % for choosing and {100 * SHARES[1]:.0f} % for the test, "
        f"drawn by seed {seed}.",
    }
    return _divided(x, y, classes, seed, about)


def read_folder(path: Path, size: int) -> tuple[Images, Labels, tuple[str, ...]]:
    """Images (N,size,size,C) uint8 with labels (N,), from a folder for each class; C is 1 if all are grey."""
    folders = sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    if not folders:
        raise SlimwireError(
            f"{path} has no folders, so nothing says which image is of which class",
            expected="a folder of images for each class, named as the class",
        )
    pictures: list[Image.Image] = []
    labels: list[int] = []
    broken: list[str] = []
    for label, folder in enumerate(folders):
        for file in sorted(folder.iterdir()):
            if file.name.startswith(".") or file.name == "Thumbs.db":
                continue
            try:
                pictures.append(_picture(file, size))
                labels.append(label)
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                broken.append(f"{file.relative_to(path)} ({error})")
    if broken:
        more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
        raise SlimwireError(
            f"{len(broken)} files in {path} can't be read as images: {'; '.join(broken[:5])}{more}",
            expected="nothing but images in the folders of the classes",
            remedy="remove or convert them",
        )
    mode = "L" if all(picture.mode == "L" for picture in pictures) else "RGB"
    channels = 1 if mode == "L" else 3
    x = np.zeros((len(pictures), size, size, channels), np.uint8)
    for row, picture in zip(x, pictures, strict=True):
        row[:] = np.asarray(picture.convert(mode)).reshape(row.shape)
    return x, np.array(labels, np.int64), tuple(folder.name for folder in folders)


def _picture(file: Path, size: int) -> Image.Image:
    """An image file as its camera meant it to stand, cut to a square and resized; mode L or RGB."""
    with Image.open(file) as opened:
        picture = ImageOps.exif_transpose(opened)
        if picture.mode not in (*_GREY, *_COLOUR):
            raise ValueError(f"its pixels are of the mode {picture.mode}")
        if picture.mode in _DEEP:
            values = np.asarray(picture) >> _DEEP[picture.mode]
            picture = Image.fromarray(values.astype(np.uint8))
        picture = picture.convert("L" if picture.mode in _GREY else "RGB")
        return ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)


def read_file(path: Path, size: int | None) -> tuple[Images, Labels, tuple[str, ...]]:
    """``x``, ``y`` and the names of the classes of a ``.npz``; x resized to a square of ``size`` if given."""
    x, y = load_npz(path)
    names = [str(label) for label in range(int(y.max()) + 1)]
    try:
        (stored,) = read_npz(path, "classes")
    except ValueError:
        stored = None  # x and y could be read, so it has no names
    if stored is not None:
        if stored.ndim != 1 or stored.dtype.kind != "U" or len(stored) < len(names):
            raise SlimwireError(
                f"{path}: classes is {stored.dtype} {stored.shape}",
                expected=f"at least {len(names)} names, as an array of strings",
            )
        names = [str(name) for name in stored]
    if int(y.min()) < 0:
        raise SlimwireError(f"{path}: y has labels from {y.min()} on", expected="classes from 0 on")
    if size is not None and x.shape[1:3] != (size, size):
        x = _resized(path, x, size)
    _check_shape(path, x)
    return x, y, tuple(names)


def _resized(path: Path, x: Images, size: int) -> Images:
    """(N,H,W,C) → (N,size,size,C), each channel by itself."""
    if x.shape[2] == 1:
        raise SlimwireError(f"{path} has windows of readings, not images", remedy="leave out --size")
    small = np.empty((len(x), size, size, x.shape[3]), np.uint8)
    for before, after in zip(x, small, strict=True):
        for channel in range(x.shape[3]):
            plane = Image.fromarray(np.ascontiguousarray(before[..., channel]))
            after[..., channel] = np.asarray(ImageOps.fit(plane, (size, size), Image.Resampling.LANCZOS))
    return small


def _check_shape(path: Path, x: Images) -> None:
    height, width, channels = x.shape[1:]
    if not 1 <= channels <= MOST_CHANNELS:
        raise SlimwireError(f"{path}: x is {x.shape}", expected=f"1 to {MOST_CHANNELS} channels, last")
    if width == 1:
        if not LEAST <= height <= LONGEST:
            raise SlimwireError(
                f"{path}: windows have {height} readings", expected=f"{LEAST} to {LONGEST}, as (N,T,1,C)"
            )
    elif not (LEAST <= height <= MOST and LEAST <= width <= MOST):
        raise SlimwireError(
            f"{path}: images have {height}×{width} pixels",
            expected=f"sides from {LEAST} to {MOST}, or a width of 1 for windows of readings (N,T,1,C)",
            remedy=f"--size {SIZE} resizes images",
        )


def _check_classes(path: Path, y: Labels, classes: Sequence[str]) -> None:
    counts = np.bincount(y, minlength=len(classes))
    if len(classes) < 2:
        raise SlimwireError(
            f"{path} has one class, {classes[0]!r}: there is nothing to tell apart",
            expected="at least two classes",
        )
    few = [f"{name} {count}" for name, count in zip(classes, counts.tolist(), strict=True) if count < SAMPLES]
    if few:
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        raise SlimwireError(
            f"{path} has too few samples of {len(few)} classes: {', '.join(few[:5])}{more}",
            expected=f"at least {SAMPLES} of each class",
            remedy="add samples, or leave the class out",
        )


def _divided(x: Images, y: Labels, classes: tuple[str, ...], seed: int, about: dict[str, str]) -> Data:
    """Each class divided by the same shares, drawn by the seed."""
    rng = np.random.default_rng(seed)
    parts: list[list[npt.NDArray[np.int64]]] = [[], [], []]
    for label in range(len(classes)):
        order = rng.permutation(np.flatnonzero(y == label))
        valid, test = (round(share * len(order)) for share in SHARES)
        for part, chosen in zip(
            parts, (order[valid + test :], order[:valid], order[valid : valid + test]), strict=True
        ):
            part.append(chosen)
    train, validation, rest = (np.sort(np.concatenate(part)) for part in parts)
    split = Split(x[train], y[train], x[validation], y[validation])
    return Data(split, x[rest], y[rest], classes, dict(about))
