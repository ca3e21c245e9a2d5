"""Finds labelled image data: by name (Fashion-MNIST), or from a ``.npz`` of a user's own.

A named data set is looked for in ``$SLIMWIRE_DATA`` (the folder itself or ``$SLIMWIRE_DATA/<name>``), then in
its Debian package, and is else downloaded from its official source. Wherever the bytes come from, each file's
decompressed content must have the SHA-256 pinned here.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.arrays import read_npz
from models.errors import BundleError

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """Where a named data set lives. ``files`` maps a file name to the SHA-256 of its decompressed bytes."""

    title: str
    licence: str
    classes: tuple[str, ...]
    debian: Path
    url: str
    files: dict[str, str]


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
    ),
}
DOWNLOAD_LIMIT = 64 << 20


def load_named(name: str, split: str) -> tuple[Images, npt.NDArray[np.int64]]:
    """Returns ``(x uint8 (N,H,W,1), y int64 (N,))`` of a named data set's ``train`` or ``test`` split.

    Raises BundleError when the name or split is unknown, a file is damaged, or nothing was found and the
    download failed.
    """
    source = SOURCES.get(name)
    if source is None:
        raise BundleError(
            f"no data set is called {name!r}; known: {', '.join(sorted(SOURCES))}, or give a .npz file"
        )
    prefix = {"train": "train", "test": "t10k"}.get(split)
    if prefix is None:
        raise BundleError(f"no split is called {split!r}; expected train or test")
    x = _idx(_content(name, source, f"{prefix}-images-idx3-ubyte.gz"), dimensions=3)
    y = _idx(_content(name, source, f"{prefix}-labels-idx1-ubyte.gz"), dimensions=1)
    return x[..., None], y.astype(np.int64)


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


def _content(name: str, source: Source, filename: str) -> bytes:
    """The decompressed bytes of one file of a data set, verified."""
    folders = [source.debian]
    own = os.environ.get("SLIMWIRE_DATA")
    if own:
        folders = [Path(own) / name, Path(own), *folders]
    for folder in folders:
        path = folder / filename
        if path.is_file():
            return _verified(path.read_bytes(), str(path), source.files[filename])
    url = source.url + filename
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            packed = response.read(DOWNLOAD_LIMIT)
    except OSError as error:
        looked = ", ".join(str(folder) for folder in folders)
        raise BundleError(
            f"{source.title} was not found in {looked} and {url} did not answer ({error}); install "
            "the Debian "
            f"package dataset-{name} or set SLIMWIRE_DATA to a folder with {filename}"
        ) from error
    content = _verified(packed, url, source.files[filename])
    if own:
        target = Path(own) / name
        target.mkdir(parents=True, exist_ok=True)
        (target / filename).write_bytes(packed)
    return content


def _verified(packed: bytes, where: str, digest: str) -> bytes:
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError) as error:
        raise BundleError(f"{where} is not a complete gzip file ({error})") from error
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise BundleError(f"{where} has SHA-256 {found} (decompressed); expected {digest}")
    return content


def _idx(content: bytes, dimensions: int) -> npt.NDArray[Any]:
    """MNIST's IDX format: 00 00 | 08 = uint8 | dimensions | sizes u32 big endian | data."""
    sizes = np.frombuffer(content, ">u4", dimensions, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape([int(size) for size in sizes])
