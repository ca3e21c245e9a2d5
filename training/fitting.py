"""A recipe for data of any size: a head that fits a microcontroller, targets by frames, epochs by samples."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from models.evaluate import FRAME_LIMITS, FURTHER_FRAME
from slimwire.errors import SlimwireError
from training.data import Data
from training.recipe import CONV, DEPTHWISE, POINTWISE, Layer, Recipe, Stages, Target

MOST_FRAMES = 6
MACS, FLASH = 1_250_000, 60 << 10
"""What the head may take: multiply-accumulates of an image, bytes of weights."""
PLACES = 56
"""About how many places the latent has: 7×7 to 8×8."""
SYMBOLS = 1024
"""The most symbols of a latent: with 2 bits for each, the map of coder tables stays within 256 bytes."""


def frame_counts(text: str) -> tuple[int, ...]:
    """``1,2,4`` → (1, 2, 4). Raises SlimwireError unless they rise and can be aimed at."""
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        counts = ()
    if not counts or list(counts) != sorted({*counts}) or not 1 <= counts[0] <= counts[-1] <= MOST_FRAMES:
        raise SlimwireError(
            f"--frames {text!r} says nothing that widths can aim at",
            expected=f"rising numbers from 1 to {MOST_FRAMES} with commas between them, as 1,2,3,4",
        )
    return counts


def recipe_for(path: Path, data: Data, frames: tuple[int, ...], mirror: bool = False) -> Recipe:
    """A recipe for data of this size and shape, with one width for each count of 802.15.4 frames.

    ``mirror``: a mirrored image is of the same class. The head takes at most `MACS` and `FLASH`; tail,
    teacher and epochs go by how much there is to learn from, so that a few hundred images take minutes on
    one core.
    """
    x = data.split.train_x
    count, (height, width, channels) = len(x), x.shape[1:]
    strides = _strides(height, width)
    places = math.prod(_grid(height, width, strides))
    targets = tuple(_target(each) for each in frames)
    latent = tuple(
        max(2, min(SYMBOLS // places, 3 + math.ceil(8 * target.mean / (2.2 * places)))) for target in targets
    )
    layers = _head((height, width, channels), strides, latent)
    teacher, tail = _networks(count, height * width, sum(stride == 2 for stride in strides))
    epochs = 60 if count < 500 else 45 if count < 5000 else 30
    batch = 16 if count < 500 else 32 if count < 5000 else 128
    window = width == 1
    return Recipe(
        name=_name(path),
        data="",
        input=(height, width, channels),
        widths=tuple(round((i + 1) / len(frames), 3) for i in range(len(frames))),
        layers=layers,
        targets=targets,
        tail=tail,
        teacher=teacher,
        epochs=epochs,
        batch=batch,
        # What the price may move by in all is much the same, however few steps there are.
        price_gain=max(0.006, 100 * 128 / (epochs * count)),
        ramp=0.15,
        ramp_from=1.5,
        rate=2e-3,
        weight_decay=0.05,
        sandwich=False,
        shift=0 if window else max(1, min(height, width) // 16),
        flip=mirror and not window,
        # Where there is little to learn from, it is the teacher that needs the most steps.
        teacher_epochs=2 * epochs if count < 500 else epochs,
        teacher_rate=0.05,
        erase=0 if window else min(height, width) // 3,
        camera_images=max(1, min(len(data.test_x), (8 << 20) // x[0].size)),
        heap_kib=_heap((height, width, channels), layers),
        licence="not stated",
        limits="Trained by `slimwire train --data`, with a head and a recipe chosen by size alone. The "
        "answers' confidence is not calibrated.",
    )


def _name(path: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "-", path.resolve().stem.lower()).strip("-") or "own"


def _target(frames: int) -> Target:
    """A width's mean, well below what its frames hold, and its limit, just below."""
    most = FRAME_LIMITS[min(frames, len(FRAME_LIMITS)) - 1]
    most += FURTHER_FRAME * max(0, frames - len(FRAME_LIMITS))
    return Target(round(0.85 * most), most - 3)


def _grid(height: int, width: int, strides: Sequence[int]) -> tuple[int, int]:
    for stride in strides:
        height, width = -(-height // stride), -(-width // stride)
    return height, width


def _strides(height: int, width: int) -> tuple[int, ...]:
    """Strides of the convolutions: two at least, and a latent of about `PLACES`."""
    halvings = min(
        range(1, 6), key=lambda n: abs(math.log(math.prod(_grid(height, width, [2] * n)) / PLACES))
    )
    return (2, 1) if halvings == 1 else (2,) * halvings


def _head(
    shape: tuple[int, int, int], strides: tuple[int, ...], latent: tuple[int, ...]
) -> tuple[Layer, ...]:
    """The head with the most work that fits: full convolutions first and last, depthwise between them."""
    best: tuple[int, tuple[Layer, ...]] | None = None
    for first in range(4, 33, 4):
        for last in range(first, 97, 4):
            growth = (last / first) ** (1 / (len(strides) - 1))
            if not 1.25 <= growth <= 3:
                continue
            layers = _layers(strides, first, growth, latent)
            macs, weights = _cost(shape, layers)
            if macs <= MACS and weights <= FLASH and (best is None or macs > best[0]):
                best = macs, layers
    if best is None:
        height, width, channels = shape
        raise SlimwireError(
            f"inputs of {height}×{width}×{channels} are too much work for any head",
            expected=f"at most {MACS / 1e6:g} million multiply-accumulates",
            remedy="smaller images (--size), or fewer channels",
        )
    return best[1]


def _layers(
    strides: tuple[int, ...], first: int, growth: float, latent: tuple[int, ...]
) -> tuple[Layer, ...]:
    found: list[Layer] = []
    before = _shares(first, len(latent))
    for number, stride in enumerate(strides):
        after = _shares(first * growth**number, len(latent))
        if 0 < number < len(strides) - 1:
            found += [Layer(DEPTHWISE, stride, before), Layer(POINTWISE, 1, after)]
        else:
            found.append(Layer(CONV, stride, after))
        before = after
    return (*found, Layer(POINTWISE, 1, latent, relu=False))


def _shares(channels: float, widths: int) -> tuple[int, ...]:
    """Channels of each width, in fours: the narrowest has about half of all."""
    shares = [0.5 + 0.5 * (i + 1) / widths for i in range(widths)]
    return tuple(max(4, 4 * round(channels * share / 4)) for share in shares)


def _cost(shape: tuple[int, int, int], layers: tuple[Layer, ...]) -> tuple[int, int]:
    """(multiply-accumulates of an image, weights) at full width."""
    height, width, inputs = shape
    macs, weights = 0, 0
    for layer in layers:
        height, width = _grid(height, width, [layer.stride])
        outputs = layer.channels[-1]
        count = (1 if layer.op == POINTWISE else 9) * (1 if layer.op == DEPTHWISE else inputs) * outputs
        macs, weights, inputs = macs + height * width * count, weights + count, outputs
    return macs, weights


def _heap(shape: tuple[int, int, int], layers: tuple[Layer, ...]) -> int:
    """KiB of heap that a device needs: 64 where weights and the largest pair of activations take a third."""
    sizes = [math.prod(shape)]
    height, width, _ = shape
    for layer in layers:
        height, width = _grid(height, width, [layer.stride])
        sizes.append(height * width * layer.channels[-1])
    need = _cost(shape, layers)[1] + max(a + b for a, b in pairwise(sizes)) + sizes[0]
    return 64 if need <= 21 << 10 else 128 if need <= 64 << 10 else 256


def _networks(count: int, pixels: int, halvings: int) -> tuple[Stages, Stages]:
    """(teacher, tail): the teacher goes at least as deep as the latent's grid."""
    base = (16 if count < 2000 else 32) // (1 if pixels <= 1200 else 2)
    teacher = tuple((min(base << stage, 8 * base), 1) for stage in range(halvings + 1))
    return teacher, ((48, 1), (96, 1)) if count < 2000 else ((96, 2), (160, 1))
