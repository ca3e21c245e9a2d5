"""A small random head file that obeys every rule, for the tests of this room."""

import numpy as np
import pytest

from models.headfile import CONV, DEPTHWISE, LATENT, POINTWISE, RELU, HeadFile, Layer, Width
from wire.rans import Tables

SHAPE = (
    (CONV, 2, (4, 8)),
    (DEPTHWISE, 1, (4, 8)),
    (POINTWISE, 1, (8, 12)),
    (DEPTHWISE, 2, (8, 12)),
    (CONV, 1, (4, 16)),
    (POINTWISE, 1, (3, 6)),
)


def random_tables(rng: np.random.Generator, levels: int, places: int) -> Tables:
    """Four valid coder tables and a random map."""
    freqs = [1 + rng.multinomial(4096 - levels, rng.dirichlet(np.ones(levels))) for _ in range(4)]
    return Tables(np.array(freqs), rng.integers(0, 4, places).astype(np.uint8))


def random_headfile(seed: int, size: tuple[int, int, int] = (13, 10, 2), levels: int = 16) -> HeadFile:
    """Odd sizes, both strides, all operators, two widths; multipliers of 24 bits as the export makes them."""
    rng = np.random.default_rng(seed)
    layers, offset, channels = [], 0, size[2]
    for i, (op, stride, outs) in enumerate(SHAPE):
        act = LATENT if i == len(SHAPE) - 1 else RELU
        layers.append(Layer(op, stride, act, channels, outs[-1], offset))
        offset += layers[-1].weight_count
        channels = outs[-1]
    weights = rng.integers(-127, 128, offset).astype(np.int8)
    height, width = size[:2]
    for layer in layers:
        height, width = -(-height // layer.stride), -(-width // layer.stride)
    widths = []
    for w, thousandths in enumerate((500, 1000)):
        outs = tuple(spec[2][w] for spec in SHAPE)
        mult, bias, rshift = [], [], []
        for i, c in enumerate(outs):
            mult.append(rng.integers(1 << 23, 1 << 24, c).astype(np.int64) << 7)
            bias.append(rng.integers(-(1 << 13), 1 << 14, c).astype(np.int64))
            # the latent needs a larger step than the activations: its range is that of the symbols
            rshift.append(rng.integers(10, 13, c) if i == len(outs) - 1 else rng.integers(7, 10, c))
        tables = random_tables(rng, levels, height * width * outs[-1])
        widths.append(Width(thousandths, outs, tuple(mult), tuple(bias), tuple(rshift), tables))
    return HeadFile(size, levels, levels // 2, tuple(layers), weights, tuple(widths))


@pytest.fixture
def headfile() -> HeadFile:
    return random_headfile(7)
