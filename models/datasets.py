"""Labelled data: by name (Fashion-MNIST, CIFAR-10, wrist IMU), or from a ``.npz`` of a user's own.

A named data set is looked for in ``$SLIMWIRE_DATA`` (``$SLIMWIRE_DATA/<name>``, then the folder itself), in
its Debian package, in ``shared/data`` beside the project, and is else downloaded from its official source,
where it has one of its own.
Wherever the bytes come from, they must have the SHA-256 pinned here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models import cifar10, fashion_mnist, wrist_imu
from models.arrays import read_npz
from models.data_files import DataSet, Source
from models.errors import BundleError

Images = npt.NDArray[np.uint8]
SPLITS = ("train", "test")

SOURCES = {
    "fashion-mnist": Source(
        title="Fashion-MNIST",
        licence="MIT",
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        debian=Path("/usr/share/datasets/fashion-mnist"),
        url="https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        files={
            "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        read=fashion_mnist.read,
    ),
    "cifar10": Source(
        title="CIFAR-10",
        licence="no licence stated; cite Krizhevsky 2009",
        classes=(
            "airplane",
            "automobile",
            "bird",
            "cat",
            "deer",
            "dog",
            "frog",
            "horse",
            "ship",
            "truck",
        ),
        debian=None,
        url="https://www.cs.toronto.edu/~kriz/",
        files={
            cifar10.ARCHIVE: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            "cifar10_jpeg_train.npz": "ae9bec2174264f706e70e1b233bad174c424d4731bebd849cfcc991b7a6c5beb",
            "cifar10_jpeg_test.npz": "379e1b6b4534ec618c499bdd118cc7edb20cb13a56a7cc32a4a54e9ffa4ef6c8",
        },
        read=cifar10.read,
    ),
    "wrist-imu": Source(
        title="Wrist IMU (seglearn's watch data)",
        licence="BSD-3-Clause",
        classes=("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW"),
        debian=None,
        url="",
        files={wrist_imu.RECORDINGS: "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"},
        read=wrist_imu.read,
    ),
}


def load(name: str, split: str, *, download: bool = True) -> DataSet:
    """A named data set's ``train`` or ``test`` split, with the form it was found in.

    Raises BundleError when the name or split is unknown or a file is damaged, and DataMissingError when
    nothing was found and the download failed, or there was to be none.
    """
    source = SOURCES.get(name)
    if source is None:
        raise BundleError(
            f"no data set is called {name!r}; known: {', '.join(sorted(SOURCES))}, or give a .npz file"
        )
    if split not in SPLITS:
        raise BundleError(f"no split is called {split!r}; expected train or test")
    return source.read(name, source if download else replace(source, url=""), split)


def load_npz(path: Path) -> tuple[Images, npt.NDArray[np.int64]]:
    """Reads ``x`` (N,H,W[,C]) uint8 and ``y`` (N,) of a ``.npz``; returns (N,H,W,C) and int64."""
    try:
        x, y = read_npz(path, "x", "y")
    except ValueError as error:
        raise BundleError(
            f"{path} can't be read as .npz ({error}); expected x (N,H,W[,C]) uint8 and y (N,)"
        ) from error
    if x.dtype != np.uint8 or x.ndim not in (3, 4):
        raise BundleError(f"{path}: x is {x.dtype} {x.shape}; expected uint8 (N,H,W) or (N,H,W,C)")
    if y.ndim != 1 or len(y) != len(x) or y.dtype.kind not in "iu":
        raise BundleError(f"{path}: y is {y.dtype} {y.shape}; expected {len(x)} integers, one for each image")
    if not len(x):
        raise BundleError(f"{path} holds no image")
    return (x[..., None] if x.ndim == 3 else x), y.astype(np.int64)
