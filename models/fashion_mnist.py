"""Reads Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): four gzipped files in MNIST's IDX format.

Digests are of the decompressed bytes: Debian packs the files anew.
"""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np
import numpy.typing as npt

from models.data_files import DataSet, Source, verified
from models.errors import BundleError


def read(name: str, source: Source, split: str) -> DataSet:
    """The split as (N,28,28,1). Raises BundleError: not found, damaged."""
    prefix = {"train": "train", "test": "t10k"}[split]
    x = _idx(_content(name, source, f"{prefix}-images-idx3-ubyte.gz"), dimensions=3)
    y = _idx(_content(name, source, f"{prefix}-labels-idx1-ubyte.gz"), dimensions=1)
    return DataSet(name, "official", x[..., None], y.astype(np.int64))


def _content(name: str, source: Source, filename: str) -> bytes:
    digest = source.files[filename]

    def unpack(packed: bytes, where: str) -> bytes:
        try:
            content = gzip.decompress(packed)
        except (OSError, EOFError) as error:
            raise BundleError(f"{where} is not a complete gzip file ({error})") from error
        return verified(content, where, digest, " (decompressed)")

    path = source.find(name, filename)
    return unpack(path.read_bytes(), str(path)) if path else source.fetch(name, filename, unpack)


def _idx(content: bytes, dimensions: int) -> npt.NDArray[Any]:
    """MNIST's IDX format: 00 00 | 08 = uint8 | dimensions | sizes u32 big endian | data."""
    sizes = np.frombuffer(content, ">u4", dimensions, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape([int(size) for size in sizes])
