"""Measures a bundle through the integer pipeline that ships: head → rANS bytes → decoder → LiteRT tail."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from models.bundle import Bundle
from models.errors import BundleError
from models.head import Head, check_images
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


def evaluate(bundle: Bundle, x: npt.NDArray[np.uint8], y: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Figures of every width on images ``x`` (N,H,W,C) uint8 with classes ``y`` (N,).

    Returns ``{"bundle", "model_tag", "n", "widths": [{"width", "channels", "macs", "ops", "top1",
    "top1_ci95", "n", "bytes": {"mean", "p99", "max"}, "frames": {"mean", "max"}}], "head": {"params",
    "flash_bytes", "ram_bytes"}}``. ``bytes`` are coded symbols, ``frames`` what the message takes on the air.
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
    results = []
    for i, width in enumerate(headfile.widths):
        sizes: list[int] = []
        right = 0
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
            right += int((tail.run(latents).argmax(1) == y[start : start + BATCH]).sum())
        on_air = [frames(size) for size in sizes]
        results.append(
            {
                "width": width.width,
                "channels": width.out_channels[-1],
                "macs": headfile.macs(i),
                "ops": 2 * headfile.macs(i),
                "top1": round(right / len(x), 5),
                "top1_ci95": [round(bound, 4) for bound in wilson(right, len(x))],
                "n": len(x),
                "bytes": {
                    "mean": round(float(np.mean(sizes)), 2),
                    "p99": float(np.percentile(sizes, 99, method="higher")),
                    "max": max(sizes),
                },
                "frames": {"mean": round(float(np.mean(on_air)), 3), "max": max(on_air)},
            }
        )
    return {
        "bundle": bundle.name,
        "model_tag": headfile.model_tag,
        "n": len(x),
        "widths": results,
        "head": {
            "params": headfile.params,
            "flash_bytes": len(bundle.head_bytes),
            "ram_bytes": headfile.ram_bytes(len(headfile.widths) - 1),
        },
    }
