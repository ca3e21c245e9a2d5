"""What other processes do for training: codecs and coder. Without torch, so that they start quickly."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from models.codecs import jpeg, webp
from wire.rans import Tables, encode

CODECS = {"jpeg": jpeg, "webp": webp}

Part = TypeVar("Part")
Result = TypeVar("Result")


def spread(work: Callable[[Part], Result], parts: Iterable[Part], jobs: int) -> list[Result]:
    """``work`` of each part, in ``jobs`` processes; in this one where there is to be one only."""
    if jobs == 1:
        return [work(part) for part in parts]
    # Not forked: this process has threads of torch.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(work, parts))


def through_codec(
    x: npt.NDArray[np.uint8], codec: str, quality: int, jobs: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images (N,H,W,C) as they come out of a codec, and the bytes (N,) they took."""
    done = spread(partial(_through, codec, quality), _parts(x, jobs), jobs)
    return np.concatenate([images for images, _ in done]), np.concatenate([sizes for _, sizes in done])


def coded_lengths(symbols: npt.NDArray[np.uint8], tables: Tables, jobs: int) -> npt.NDArray[np.int64]:
    """The bytes (N,) that the coder writes for symbols (N,places)."""
    return np.concatenate(spread(partial(_lengths, tables), _parts(symbols, jobs), jobs))


def _parts(x: npt.NDArray[np.uint8], jobs: int) -> list[npt.NDArray[np.uint8]]:
    """At least one part, none of them empty unless ``x`` is."""
    return np.array_split(x, min(max(1, len(x)), jobs * 4))


def _through(
    codec: str, quality: int, x: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    return CODECS[codec](x, quality)


def _lengths(tables: Tables, symbols: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    return np.array([len(encode(row, tables)) for row in symbols], np.int64)
