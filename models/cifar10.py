"""Reads CIFAR-10 (Krizhevsky 2009) from either of two sources, which are not the same pictures.

``official``: ``cifar-10-binary.tar.gz``, 50,000 and 10,000 images; six files of records of 3,073 bytes:
class, then 1,024 red, green and blue values, row by row. The digest is the archive's own; several projects
pin the same, and its MD5 is the one that the data set's page gives.

``jpeg``: ``cifar10_jpeg_train.npz`` and ``cifar10_jpeg_test.npz``, 50,000 and 5,000 images that have been
through JPEG once, which flatters JPEG when it is measured on them. Arrays: ``jpeg`` uint8, all files one
after another; ``offset`` int64 (n+1,); ``label`` uint8 (n,). The digest is of the three arrays' bytes, in
that order.

In a folder that holds both, the official one is taken.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.arrays import read_npz
from models.data_files import DataSet, Source, verified
from models.errors import BundleError

ARCHIVE = "cifar-10-binary.tar.gz"
_MEMBERS = {
    "train": tuple(f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)),
    "test": ("cifar-10-batches-bin/test_batch.bin",),
}
_RECORD = 1 + 3 * 32 * 32
_MEMBER_SIZE = 10_000 * _RECORD


def read(name: str, source: Source, split: str) -> DataSet:
    """The split as (N,32,32,3). Raises BundleError: not found, damaged, or Pillow is missing for ``jpeg``."""
    packed = f"cifar10_jpeg_{split}.npz"
    path = source.find(name, ARCHIVE, packed)
    if path is not None and path.name == packed:
        return DataSet(name, "jpeg", *_from_jpeg(path, source.files[packed]))

    def check(content: bytes, where: str) -> bytes:
        return verified(content, where, source.files[ARCHIVE])

    archive = check(path.read_bytes(), str(path)) if path else source.fetch(name, ARCHIVE, check)
    return DataSet(name, "official", *_from_archive(archive, split))


def _from_archive(content: bytes, split: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    parts = []
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            for member in _MEMBERS[split]:
                file = archive.extractfile(member)
                parts.append(file.read(_MEMBER_SIZE + 1) if file else b"")
    except (tarfile.TarError, OSError, EOFError, KeyError) as error:
        raise BundleError(
            f"{ARCHIVE} can't be read ({error}); expected the official binary version"
        ) from error
    if any(not part or len(part) % _RECORD for part in parts):
        raise BundleError(
            f"{ARCHIVE} holds files of {[len(part) for part in parts]} bytes; expected records of 3073"
        )
    records = np.frombuffer(b"".join(parts), np.uint8).reshape(-1, _RECORD)
    x = np.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return x, records[:, 0].astype(np.int64)


def _from_jpeg(path: Path, digest: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    try:
        from PIL import Image, UnidentifiedImageError  # noqa: PLC0415  (needed for this form alone)
    except ModuleNotFoundError as error:
        raise BundleError(
            f"{path} holds JPEG files, and the Python package 'pillow', which reads them, is not installed "
            "here; pip install 'slimwire[edge]'"
        ) from error
    try:
        jpeg, offset, label = read_npz(path, "jpeg", "offset", "label")
    except ValueError as error:
        raise BundleError(f"{path} can't be read as .npz ({error}); expected jpeg, offset, label") from error
    content = hashlib.sha256(jpeg.tobytes() + offset.astype("<i8").tobytes() + label.tobytes()).hexdigest()
    if content != digest:
        raise BundleError(f"{path} has SHA-256 {content} (jpeg, offset, label); expected {digest}")
    x = np.empty((len(label), 32, 32, 3), np.uint8)
    for i, (start, end) in enumerate(pairwise(offset)):
        try:
            with Image.open(io.BytesIO(jpeg[start:end].tobytes()), formats=["JPEG"]) as image:
                if image.size != (32, 32):
                    raise ValueError(f"{image.size[0]} × {image.size[1]} pixels")
                x[i] = np.asarray(image.convert("RGB"))
        except (UnidentifiedImageError, OSError, ValueError) as error:
            raise BundleError(f"{path}: image {i} is no JPEG file of 32 × 32 ({error})") from error
    return x, label.astype(np.int64)
