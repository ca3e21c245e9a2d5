"""Measures a bundle through the integer pipeline that ships: head → rANS bytes → decoder → LiteRT tail."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.bundle import Bundle
from models.errors import BundleError
from models.head import Head, check_images
from models.heap import heap_bytes
from wire.errors import WireError
from wire.rans import decode_batch, encode

FRAME_LIMITS = (71, 151, 243, 335)
"""Coded bytes that fit 1, 2, 3, 4 frames of 802.15.4 with EUI-64 addresses; each further frame holds 92 more.
"""
FURTHER_FRAME = 92
BATCH = 1000


def frames(coded: int) -> int:
    """802.15.4 frames on the air for a message of ``coded`` bytes of symbols, with EUI-64 addresses."""
    for count, limit in enumerate(FRAME_LIMITS, 1):
        if coded <= limit:
            return count
    return len(FRAME_LIMITS) + -(-(coded - FRAME_LIMITS[-1]) // FURTHER_FRAME)


def wilson(right: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share ``right``/``n``."""
    share = right / n
    center = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (center - half) / (1 + z * z / n), (center + half) / (1 + z * z / n)


def mean_interval(values: npt.NDArray[Any], z: float = 1.959964) -> tuple[float, float] | None:
    """The 95 % interval of the mean of independent ``values`` (N,), by its standard error; None of one."""
    if len(values) < 2:
        return None
    mean, half = float(values.mean()), z * float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean - half, mean + half


def rounded(interval: tuple[float, float] | None, digits: int) -> list[float] | None:
    """An interval as JSON has it."""
    return None if interval is None else [round(bound, digits) for bound in interval]


@dataclass(frozen=True)
class Outcome:
    """What became of each image at one width.

    Attributes:
        right: bool (N,). coded: bytes of coded symbols, int64 (N,).
        entropy_bits: information of the symbols under the width's own tables, float64 (N,).
    """

    right: npt.NDArray[np.bool_]
    coded: npt.NDArray[np.int64]
    entropy_bits: npt.NDArray[np.float64]


def outcomes(bundle: Bundle, x: npt.NDArray[np.uint8], y: npt.NDArray[np.int64]) -> list[Outcome]:
    """Runs images ``x`` (N,H,W,C) uint8 with classes ``y`` (N,) through every width, narrowest first.

    Raises BundleError when the images do not fit the bundle, and when a coded message does not decode to its
    symbols.
    """
    headfile = bundle.headfile
    check_images(x, headfile.input)
    if not len(x) or y.shape != (len(x),):
        raise BundleError(
            f"{len(x)} images with labels of shape {y.shape}; expected as many labels, and at least one"
        )
    if int(y.min()) < 0 or int(y.max()) >= len(bundle.classes):
        raise BundleError(f"labels go from {y.min()} to {y.max()}; expected 0 to {len(bundle.classes) - 1}")
    head, tail = Head(headfile), bundle.tail()
    found = []
    for i, width in enumerate(headfile.widths):
        # 12-bit frequencies: bits of a symbol at a place, by its table
        cost = 12 - np.log2(np.asarray(width.tables.freqs, np.float64))
        places = np.asarray(width.tables.index)
        sizes: list[int] = []
        bits: list[npt.NDArray[np.float64]] = []
        right: list[npt.NDArray[np.bool_]] = []
        for start in range(0, len(x), BATCH):
            symbols = head.run(x[start : start + BATCH], i)
            messages = [encode(row, width.tables) for row in symbols]
            received = decode_batch(messages, width.tables)
            latents = []
            for row, back in zip(symbols, received, strict=True):
                if isinstance(back, WireError) or not np.array_equal(row, back):
                    raise BundleError(
                        f"a latent of width {width.width} does not survive its coder tables ({back})"
                    )
                latents.append((i, back))
            sizes += [len(message) for message in messages]
            bits.append(cost[places, symbols].sum(1))
            right.append(tail.run(latents).argmax(1) == y[start : start + BATCH])
        found.append(Outcome(np.concatenate(right), np.array(sizes), np.concatenate(bits)))
    return found


def evaluate(bundle: Bundle, x: npt.NDArray[np.uint8], y: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Figures of every width on images ``x`` (N,H,W,C) uint8 with classes ``y`` (N,).

    Returns ``{"bundle", "model_tag", "n", "widths": [{"width", "channels", "macs", "ops", "top1",
    "top1_ci95", "n", "bytes": {"mean", "mean_ci95", "p99", "max"}, "frames": {"mean", "max"}}],
    "full_model", "head": {"params", "flash_bytes", "ram_bytes", "ram_bytes_streamed"}}``.

    ``bytes`` are coded symbols, ``frames`` what the message takes on the air. ``full_model`` is what training
    recorded of the model without bottleneck and quantisation, None where it did not. ``ram_bytes`` is the
    heap of the head on MicroPython with its weights in memory, ``ram_bytes_streamed`` with its weights left
    in the file (`models.heap`); None where there is no MicroPython. Raises as `outcomes` does.
    """
    headfile = bundle.headfile
    results = []
    for i, (width, outcome) in enumerate(zip(headfile.widths, outcomes(bundle, x, y), strict=True)):
        sizes, right = outcome.coded, int(outcome.right.sum())
        on_air = [frames(size) for size in sizes.tolist()]
        results.append(
            {
                "width": width.width,
                "channels": width.out_channels[-1],
                "macs": headfile.macs(i),
                "ops": 2 * headfile.macs(i),
                "top1": round(right / len(x), 5),
                "top1_ci95": rounded(wilson(right, len(x)), 4),
                "n": len(x),
                "bytes": {
                    "mean": round(float(np.mean(sizes)), 2),
                    "mean_ci95": rounded(mean_interval(sizes), 2),
                    "p99": float(np.percentile(sizes, 99, method="higher")),
                    "max": int(sizes.max()),
                },
                "frames": {"mean": round(float(np.mean(on_air)), 3), "max": max(on_air)},
            }
        )
    return {
        "bundle": bundle.name,
        "model_tag": headfile.model_tag,
        "n": len(x),
        "widths": results,
        "full_model": bundle.full_model,
        "head": {
            "params": headfile.params,
            "flash_bytes": len(bundle.head_bytes),
            "ram_bytes": heap_bytes(bundle.head_bytes, "ram"),
            "ram_bytes_streamed": heap_bytes(bundle.head_bytes, "flash"),
        },
    }
