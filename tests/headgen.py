"""Random head files in the SWH1 format, and the slow, plain reference that says what they compute.

Independent of the trained bundle and of `models`: what a test needs to know of the format is written out
here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

CONV, DEPTHWISE, POINTWISE = 0, 1, 2
WIDTHS = (0.25, 0.5, 0.75, 1.0)

# (op, stride, output channels at full width); the last layer gives the latent.
FASHION = (
    (CONV, 2, 16),
    (DEPTHWISE, 1, 16),
    (POINTWISE, 1, 32),
    (DEPTHWISE, 2, 32),
    (POINTWISE, 1, 48),
    (DEPTHWISE, 1, 48),
    (POINTWISE, 1, 16),
)


@dataclass
class Layer:
    op: int
    stride: int
    c_in: int
    c_out: int
    weights: NDArray[np.int64]  # conv (out, 3, 3, in); depthwise (3, 3, channel); pointwise (out, in)


@dataclass
class Width:
    width: float
    out_channels: list[int]
    mult: list[NDArray[np.int64]]
    bias: list[NDArray[np.int64]]
    rshift: list[NDArray[np.int64]]
    freqs: NDArray[np.int64]  # (NT, levels)
    index: NDArray[np.int64]  # (n,)


@dataclass
class GeneratedHead:
    shape: tuple[int, int, int]
    levels: int
    center: int
    layers: list[Layer]
    widths: list[Width] = field(default_factory=list)

    def emit(self) -> bytes:
        """The head file."""
        blocks = [(layer.weights + 128).astype(np.uint8).tobytes() for layer in self.layers]
        offsets = np.cumsum([0] + [len(b) for b in blocks]).tolist()
        weights = b"".join(blocks)
        head = b"SWH1" + bytes([1, *self.shape, len(self.widths), len(self.layers), self.levels, self.center])
        head += struct.pack("<I", len(weights))
        for i, (layer, offset) in enumerate(zip(self.layers, offsets, strict=False)):
            act = int(i == len(self.layers) - 1)
            head += struct.pack("<BBBBHHI", layer.op, layer.stride, act, 0, layer.c_in, layer.c_out, offset)
        sections = [self._section(w) for w in self.widths]
        at = len(head) + 4 * len(sections) + len(weights)
        for section in sections:
            head += struct.pack("<I", at)
            at += len(section)
        return head + weights + b"".join(sections)

    def _section(self, w: Width) -> bytes:
        out = struct.pack("<H", round(w.width * 1000)) + np.array(w.out_channels, "<u2").tobytes()
        for mult, bias, rshift in zip(w.mult, w.bias, w.rshift, strict=True):
            out += mult.astype("<u4").tobytes() + (bias + (1 << 24)).astype("<u4").tobytes()
            out += rshift.astype(np.uint8).tobytes()
        out += bytes([len(w.freqs)]) + w.freqs.astype("<u2").tobytes()
        index = np.concatenate([w.index, np.zeros(-len(w.index) % 4, np.int64)]).reshape(-1, 4)
        return out + (index << np.array([0, 2, 4, 6])).sum(axis=1).astype(np.uint8).tobytes()

    def run(self, images: NDArray[np.uint8], width_index: int) -> NDArray[np.uint8]:
        """Symbols (N, n) of images (N, H, W, C), by the definition of each operation in 64-bit integers."""
        w = self.widths[width_index]
        x = images.astype(np.int64)
        for i, layer in enumerate(self.layers):
            last = i == len(self.layers) - 1
            acc = accumulate(x, layer, w.out_channels[i]) + w.bias[i]
            y = requantise(acc, w.mult[i], w.rshift[i])
            x = np.clip(y + self.center, 0, self.levels - 1) if last else np.clip(y, 0, 255)
        return x.reshape(len(x), -1).astype(np.uint8)


def accumulate(x: NDArray[np.int64], layer: Layer, c_out: int) -> NDArray[np.int64]:
    """Sums of products of one layer, (N, H, W, C) to (N, H', W', c_out), TFLite SAME padding."""
    channels = x.shape[3]
    if layer.op == POINTWISE:
        return np.einsum("nhwc,oc->nhwo", x, layer.weights[:c_out, :channels])
    s = layer.stride
    pads = []
    for size in x.shape[1:3]:
        total = max((-(-size // s) - 1) * s + 3 - size, 0)
        pads.append((total // 2, total - total // 2))
    x = np.pad(x, ((0, 0), pads[0], pads[1], (0, 0)))
    h, w = (x.shape[1] - 3) // s + 1, (x.shape[2] - 3) // s + 1
    acc = np.zeros((len(x), h, w, c_out), np.int64)
    for ky in range(3):
        for kx in range(3):
            part = x[:, ky : ky + (h - 1) * s + 1 : s, kx : kx + (w - 1) * s + 1 : s]
            if layer.op == DEPTHWISE:
                acc += part * layer.weights[ky, kx, :c_out]
            else:
                acc += np.einsum("nhwc,oc->nhwo", part, layer.weights[:c_out, ky, kx, :channels])
    return acc


def requantise(
    acc: NDArray[np.int64], mult: NDArray[np.int64], rshift: NDArray[np.int64]
) -> NDArray[np.int64]:
    """gemmlowp: SaturatingRoundingDoublingHighMul, then RoundingDivideByPOT, as its C++ is written."""
    product = acc * mult
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = np.sign(nudged) * (np.abs(nudged) >> 31)  # C++ division truncates
    mask = (np.int64(1) << rshift) - 1
    threshold = (mask >> 1) + (high < 0)
    return (high >> rshift) + ((high & mask) > threshold)


def random_head(
    seed: int,
    shape: tuple[int, int, int] = (28, 28, 1),
    layers: tuple[tuple[int, int, int], ...] = FASHION,
    levels: int = 16,
    tables: int = 4,
    widths: tuple[float, ...] = WIDTHS,
    mult_bits: int = 31,
) -> GeneratedHead:
    """A head with random weights whose activations fill their range, for any mix of layers.

    `mult_bits`: significant bits of the multipliers; LiteRT, which takes them as float32, knows 24.
    """
    rng = np.random.default_rng(seed)
    made, c_in = [], shape[2]
    for op, stride, c_out in layers:
        size = {CONV: (c_out, 3, 3, c_in), DEPTHWISE: (3, 3, c_out), POINTWISE: (c_out, c_in)}[op]
        made.append(Layer(op, stride, c_in, c_out, rng.integers(-127, 128, size)))
        c_in = c_out
    head = GeneratedHead(shape, levels, int(rng.integers(levels)), made)
    probe = rng.integers(0, 256, (4, *shape)).astype(np.int64)
    for width in widths:
        w = Width(width, [], [], [], [], np.zeros((0, 0), np.int64), np.zeros(0, np.int64))
        head.widths.append(w)
        x, c = probe, shape[2]
        for i, layer in enumerate(made):
            last = i == len(made) - 1
            if layer.op != DEPTHWISE:
                c = layer.c_out if last else max(4, round(layer.c_out * width) // 4 * 4)
            w.out_channels.append(c)
            acc = accumulate(x, layer, c)
            bias = rng.integers(-(1 << 12), 1 << 12, c)
            bias[rng.random(c) < 0.05] = rng.choice([1 - (1 << 24), (1 << 24) - 1])
            # a scale that spreads this channel's sums over the range of its output
            spread = np.maximum(np.abs(acc).reshape(-1, c).max(axis=0), 1)
            exponent = np.log2((levels if last else 400) * rng.uniform(0.5, 2, c) / spread)
            shift = np.clip(-np.floor(exponent).astype(np.int64) - 1, 0, 31)
            mult = np.clip(2.0 ** (exponent + shift + 31), 1 << 30, (1 << 31) - 1).astype(np.int64)
            mult[rng.random(c) < 0.1] = 1 << 30  # where exact halves occur
            mult &= -1 << (31 - mult_bits)
            w.mult.append(mult)
            w.bias.append(bias)
            w.rshift.append(shift)
            y = requantise(acc + bias, mult, shift)
            x = np.clip(y + head.center, 0, levels - 1) if last else np.clip(y, 0, 255)
        w.freqs = np.stack([frequencies(rng, levels) for _ in range(tables)])
        w.index = rng.integers(0, tables, x[0].size)
    return head


def frequencies(rng: np.random.Generator, levels: int) -> NDArray[np.int64]:
    """A frequency table with rare and common symbols: every one >= 1, sum 4096."""
    share = rng.dirichlet(np.full(levels, 0.4))
    table = 1 + np.floor(share * (4096 - levels)).astype(np.int64)
    table[int(table.argmax())] += 4096 - int(table.sum())
    return table


def single_width(head: GeneratedHead, index: int) -> GeneratedHead:
    """The head a device would load to run one width only: that width's slice of the weights, its tables."""
    w = head.widths[index]
    layers, c_in = [], head.shape[2]
    for layer, c in zip(head.layers, w.out_channels, strict=True):
        cut = {
            CONV: lambda x, c_in=c_in, c=c: x[:c, :, :, :c_in],
            DEPTHWISE: lambda x, c=c: x[:, :, :c],
            POINTWISE: lambda x, c_in=c_in, c=c: x[:c, :c_in],
        }[layer.op](layer.weights)
        layers.append(Layer(layer.op, layer.stride, c_in, c, cut))
        c_in = c
    return GeneratedHead(head.shape, head.levels, head.center, layers, [w])
