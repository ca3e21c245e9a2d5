"""head.bin, the one file a device needs: weights, per-width requantisation and coder tables (format "SWH1").

All integers are little endian.

    0   4  magic "SWH1"                  9   1  number of layers NL, 1..32
    4   1  format version = 1           10   1  levels: symbols per latent value, 2..32
    5   1  input height                 11   1  center: the symbol of latent value 0
    6   1  input width                  12   4  WL: bytes of weights
    7   1  input channels               16   12·NL  layers: op u8 | stride u8 | act u8 | 0 |
    8   1  number of widths NW, 1..16                in u16 | out u16 | weight offset u32 (full width)
                                        ..   4·NW   file offset of each width section, narrowest first
                                        ..   WL     weights, each int8 + 128
    width section:  width in thousandths u16 | out channels of each layer u16 · NL
                    for each layer: multiplier u32 · C | bias + 2^24 u32 · C | right shift u8 · C
                    number of coder tables u8, 1..4 | frequencies u16 · levels · tables (each sums to 4096)
                    map: 2 bits for each symbol in symbol order, least significant first: which table

Weights of a 3×3 convolution are [out][ky][kx][in], depthwise [ky][kx][channel], pointwise [out][in]. A width
uses the first channels of every layer. ``HeadFile.parse`` is the only way in for untrusted bytes; after it
nothing can fail.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from models.errors import BundleError
from wire.rans import Tables

MAGIC = b"SWH1"
VERSION = 1
CONV, DEPTHWISE, POINTWISE = 0, 1, 2
RELU, LATENT = 0, 1
BIAS_OFFSET = 1 << 24
MAX_WEIGHTS = 1 << 20
MAX_CHANNELS = 4096
MAX_ACTIVATION = 1 << 22
MAX_ACCUMULATOR = 1 << 29
TABLE_TOTAL = 4096
MAX_TABLES = 4
_LAYER = struct.Struct("<BBBBHHI")
_PREFIX = struct.Struct("<4s8BI")


@dataclass(frozen=True)
class Layer:
    """One layer at full width: operator, stride, activation, channels, offset of its weights."""

    op: int
    stride: int
    act: int
    in_channels: int
    out_channels: int
    weight_offset: int

    @property
    def taps(self) -> int:
        """Kernel positions: 9 for 3×3 operators, 1 for pointwise."""
        return 1 if self.op == POINTWISE else 9

    @property
    def weight_count(self) -> int:
        """Number of weights at full width."""
        return self.taps * self.out_channels * (1 if self.op == DEPTHWISE else self.in_channels)


@dataclass(frozen=True)
class Width:
    """What one width adds to the shared weights.

    ``mult`` int64 in [2^30, 2^31), ``bias`` int64 within ±2^24 and ``rshift`` int64 in 0..31: one array (C,)
    a layer.
    """

    thousandths: int
    out_channels: tuple[int, ...]
    mult: tuple[npt.NDArray[np.int64], ...]
    bias: tuple[npt.NDArray[np.int64], ...]
    rshift: tuple[npt.NDArray[np.int64], ...]
    tables: Tables

    @property
    def width(self) -> float:
        """The width as a share of the full head, 0 < width ≤ 1."""
        return self.thousandths / 1000


@dataclass(frozen=True)
class HeadFile:
    """A checked head.bin; ``weights`` int8 (WL,) holds every layer's at its offset."""

    input: tuple[int, int, int]
    levels: int
    center: int
    layers: tuple[Layer, ...]
    weights: npt.NDArray[np.int8]
    widths: tuple[Width, ...]

    @classmethod
    def parse(cls, data: bytes) -> HeadFile:
        """Reads and checks head.bin; raises BundleError, saying what was found and what was expected."""
        return _Reader(bytes(data)).head()

    def emit(self) -> bytes:
        """The bytes of head.bin; the inverse of `parse`."""
        sections = [self._emit_width(i) for i in range(len(self.widths))]
        start = _PREFIX.size + _LAYER.size * len(self.layers) + 4 * len(self.widths) + len(self.weights)
        out = bytearray(
            _PREFIX.pack(
                MAGIC,
                VERSION,
                *self.input,
                len(self.widths),
                len(self.layers),
                self.levels,
                self.center,
                len(self.weights),
            )
        )
        for layer in self.layers:
            out += _LAYER.pack(
                layer.op,
                layer.stride,
                layer.act,
                0,
                layer.in_channels,
                layer.out_channels,
                layer.weight_offset,
            )
        for section in sections:
            out += struct.pack("<I", start)
            start += len(section)
        out += (self.weights.astype(np.int16) + 128).astype(np.uint8).tobytes()
        return bytes(out) + b"".join(sections)

    def _emit_width(self, index: int) -> bytes:
        width = self.widths[index]
        out = bytearray(struct.pack(f"<H{len(self.layers)}H", width.thousandths, *width.out_channels))
        for mult, bias, rshift in zip(width.mult, width.bias, width.rshift, strict=True):
            out += mult.astype("<u4").tobytes() + (bias + BIAS_OFFSET).astype("<u4").tobytes()
            out += rshift.astype(np.uint8).tobytes()
        freqs = np.asarray(width.tables.freqs)
        out += bytes([len(freqs)]) + freqs.astype("<u2").tobytes()
        places = np.asarray(width.tables.index)
        padded = np.zeros(-(-len(places) // 4) * 4, np.uint8)
        padded[: len(places)] = places
        quads = padded.reshape(-1, 4)
        out += (quads[:, 0] | quads[:, 1] << 2 | quads[:, 2] << 4 | quads[:, 3] << 6).tobytes()
        return bytes(out)

    @property
    def digest(self) -> str:
        """SHA-256 of head.bin, in hexadecimal."""
        return hashlib.sha256(self.emit()).hexdigest()

    @property
    def model_tag(self) -> int:
        """What each message names this head by: the first two bytes of the digest, big endian."""
        return int(self.digest[:4], 16)

    def in_channels(self, width_index: int) -> tuple[int, ...]:
        """Input channels of each layer at a width."""
        return (self.input[2], *self.widths[width_index].out_channels[:-1])

    def grids(self) -> list[tuple[int, int]]:
        """(height, width) of the input, then of each layer's output (SAME padding: sizes round up)."""
        sizes = [(self.input[0], self.input[1])]
        for layer in self.layers:
            height, width = sizes[-1]
            sizes.append((-(-height // layer.stride), -(-width // layer.stride)))
        return sizes

    def latent_shape(self, width_index: int) -> tuple[int, int, int]:
        """(height, width, channels) of the latent at a width."""
        height, width = self.grids()[-1]
        return height, width, self.widths[width_index].out_channels[-1]

    def layer_weights(self, layer_index: int) -> npt.NDArray[np.int8]:
        """One layer's weights at full width: (out,3,3,in), (3,3,channels) or (out,in)."""
        layer = self.layers[layer_index]
        flat = self.weights[layer.weight_offset : layer.weight_offset + layer.weight_count]
        if layer.op == CONV:
            return flat.reshape(layer.out_channels, 3, 3, layer.in_channels)
        if layer.op == DEPTHWISE:
            return flat.reshape(3, 3, layer.out_channels)
        return flat.reshape(layer.out_channels, layer.in_channels)

    def macs(self, width_index: int) -> int:
        """Multiply-accumulates of one image at a width (padding counted as work)."""
        total = 0
        inputs = self.in_channels(width_index)
        for i, layer in enumerate(self.layers):
            height, width = self.grids()[i + 1]
            each = layer.taps * (1 if layer.op == DEPTHWISE else inputs[i])
            total += height * width * each * self.widths[width_index].out_channels[i]
        return total

    @property
    def params(self) -> int:
        """Weights of the full head."""
        return sum(layer.weight_count for layer in self.layers)

    def ram_bytes(self, width_index: int) -> int:
        """Memory a device needs at a width: weights, that width's tables, the largest pair of activations."""
        width = self.widths[width_index]
        sizes = [
            height * columns * channels
            for (height, columns), channels in zip(
                self.grids(), (self.input[2], *width.out_channels), strict=True
            )
        ]
        activations = max(before + after for before, after in pairwise(sizes))
        tables = 2 * width.tables.freqs.size + -(-len(width.tables.index) // 4)
        return len(self.weights) + 9 * sum(width.out_channels) + tables + activations


class _Reader:
    """Walks head.bin from the front; every read is checked against the bytes that are there."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int, what: str) -> bytes:
        if self.at + size > len(self.data):
            raise BundleError(
                f"head.bin ends at byte {len(self.data)} inside {what}; "
                f"expected {size} bytes from {self.at} on"
            )
        self.at += size
        return self.data[self.at - size : self.at]

    def array(self, dtype: str, count: int, what: str) -> npt.NDArray[np.int64]:
        return np.frombuffer(self.take(np.dtype(dtype).itemsize * count, what), dtype).astype(np.int64)

    def head(self) -> HeadFile:
        magic, version, height, width, channels, n_widths, n_layers, levels, center, weight_bytes = (
            _PREFIX.unpack(self.take(_PREFIX.size, "the header"))
        )
        _expect(magic == MAGIC, f"head.bin starts with {magic!r}", f"{MAGIC!r}")
        _expect(version == VERSION, f"head.bin has format version {version}", f"version {VERSION}")
        _expect(
            min(height, width, channels) > 0, f"input is {height}×{width}×{channels}", "sizes of at least 1"
        )
        _expect(1 <= n_widths <= 16, f"head.bin has {n_widths} widths", "1 to 16")
        _expect(1 <= n_layers <= 32, f"head.bin has {n_layers} layers", "1 to 32")
        _expect(2 <= levels <= 32, f"the latent has {levels} levels", "2 to 32")
        _expect(center < levels, f"the center symbol is {center}", f"less than the {levels} levels")
        _expect(
            weight_bytes <= MAX_WEIGHTS,
            f"head.bin claims {weight_bytes} bytes of weights",
            f"≤ {MAX_WEIGHTS}",
        )
        layers = self.layers(n_layers, height, width, channels, weight_bytes)
        offsets = self.array("<u4", n_widths, "the offsets of the width sections")
        raw = np.frombuffer(self.take(weight_bytes, "the weights"), np.uint8)
        _expect(not raw.size or int(raw.min()) > 0, "a weight is −128", "−127 to 127")
        weights = (raw.astype(np.int16) - 128).astype(np.int8)
        grid_height, grid_width = height, width
        for layer in layers:
            grid_height, grid_width = -(-grid_height // layer.stride), -(-grid_width // layer.stride)
        widths = []
        for i, offset in enumerate(offsets):
            _expect(
                int(offset) == self.at,
                f"width section {i} starts at {offset}",
                f"{self.at}, where the one before ends",
            )
            widths.append(self.width(i, layers, levels, grid_height * grid_width))
        _expect(self.at == len(self.data), f"{len(self.data) - self.at} bytes follow the last width", "none")
        for before, after in pairwise(widths):
            _expect(
                before.thousandths < after.thousandths,
                f"width {after.thousandths} follows {before.thousandths}",
                "widths in rising order",
            )
        head = HeadFile((height, width, channels), levels, center, layers, weights, tuple(widths))
        for i in range(n_widths):
            _check_accumulators(head, i)
        return head

    def layers(
        self, count: int, height: int, width: int, channels: int, weight_bytes: int
    ) -> tuple[Layer, ...]:
        found = []
        for i in range(count):
            op, stride, act, zero, inputs, outputs, offset = _LAYER.unpack(
                self.take(_LAYER.size, f"layer {i}")
            )
            layer = Layer(op, stride, act, inputs, outputs, offset)
            last = i == count - 1
            _expect(op in (CONV, DEPTHWISE, POINTWISE), f"layer {i} has operator {op}", "0, 1 or 2")
            _expect(stride in (1, 2), f"layer {i} has stride {stride}", "1 or 2")
            _expect(
                stride == 1 or op != POINTWISE,
                f"pointwise layer {i} has stride {stride}",
                "1: it would skip pixels",
            )
            _expect(
                act == (LATENT if last else RELU), f"layer {i} has activation {act}", "1 for the last, else 0"
            )
            _expect(zero == 0, f"the reserved byte of layer {i} is {zero}", "0")
            _expect(inputs == channels, f"layer {i} takes {inputs} channels", f"{channels}")
            _expect(
                1 <= outputs <= MAX_CHANNELS, f"layer {i} gives {outputs} channels", f"1 to {MAX_CHANNELS}"
            )
            _expect(last or outputs % 4 == 0, f"layer {i} gives {outputs} channels", "a multiple of 4")
            _expect(
                op != DEPTHWISE or inputs == outputs,
                f"depthwise layer {i} turns {inputs} into {outputs}",
                "equal",
            )
            _expect(
                offset + layer.weight_count <= weight_bytes,
                f"layer {i} has its weights at {offset}..{offset + layer.weight_count}",
                f"within the {weight_bytes} bytes of weights",
            )
            height, width, channels = -(-height // stride), -(-width // stride), outputs
            _expect(
                height * width * outputs <= MAX_ACTIVATION,
                f"layer {i} gives {height}×{width}×{outputs} values",
                f"≤ {MAX_ACTIVATION}",
            )
            found.append(layer)
        return tuple(found)

    def width(self, index: int, layers: tuple[Layer, ...], levels: int, pixels: int) -> Width:
        where = f"width section {index}"
        thousandths = int(self.array("<u2", 1, where)[0])
        _expect(0 < thousandths <= 1000, f"{where} is for width {thousandths}/1000", "1 to 1000")
        channels = tuple(int(c) for c in self.array("<u2", len(layers), where))
        mults, biases, shifts = [], [], []
        for i, (layer, outputs) in enumerate(zip(layers, channels, strict=True)):
            last = i == len(layers) - 1
            _expect(
                1 <= outputs <= layer.out_channels and (last or outputs % 4 == 0),
                f"layer {i} of {where} gives {outputs} channels",
                f"1 to {layer.out_channels}" + ("" if last else ", a multiple of 4"),
            )
            inputs = channels[i - 1] if i else layer.in_channels
            _expect(
                layer.op != DEPTHWISE or inputs == outputs,
                f"depthwise layer {i} of {where} turns {inputs} channels into {outputs}",
                "equal",
            )
            mult = self.array("<u4", outputs, f"the multipliers of {where}")
            bias = self.array("<u4", outputs, f"the biases of {where}") - BIAS_OFFSET
            rshift = self.array("u1", outputs, f"the shifts of {where}")
            _expect(
                bool(((mult >= 1 << 30) & (mult < 1 << 31)).all()),
                f"a multiplier of layer {i} in {where} is out of range",
                "2^30 ≤ multiplier < 2^31",
            )
            _expect(
                bool((np.abs(bias) < BIAS_OFFSET).all()),
                f"a bias of layer {i} in {where} is out of range",
                "|bias| < 2^24",
            )
            _expect(
                bool((rshift <= 31).all()), f"a shift of layer {i} in {where} is {rshift.max()}", "0 to 31"
            )
            mults.append(mult)
            biases.append(bias)
            shifts.append(rshift)
        tables = self.tables(where, levels, pixels * channels[-1])
        return Width(thousandths, channels, tuple(mults), tuple(biases), tuple(shifts), tables)

    def tables(self, where: str, levels: int, places: int) -> Tables:
        count = self.take(1, f"the tables of {where}")[0]
        _expect(1 <= count <= MAX_TABLES, f"{where} has {count} coder tables", f"1 to {MAX_TABLES}")
        freqs = self.array("<u2", levels * count, f"the tables of {where}").reshape(count, levels)
        _expect(bool((freqs >= 1).all()), f"a table of {where} has a frequency of 0", "at least 1")
        _expect(
            bool((freqs.sum(1) == TABLE_TOTAL).all()),
            f"the tables of {where} sum to {freqs.sum(1).tolist()}",
            f"{TABLE_TOTAL} each",
        )
        packed = np.frombuffer(self.take(-(-places // 4), f"the map of {where}"), np.uint8)
        spread = (packed[:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3
        index = spread.reshape(-1)
        _expect(not index[places:].any(), f"unused bits of the map of {where} are set", "0")
        index = index[:places]
        _expect(
            int(index.max()) < count,
            f"the map of {where} names table {index.max()}",
            f"less than the {count} tables",
        )
        return Tables(freqs.astype(np.uint16), index.astype(np.uint8))


def _check_accumulators(head: HeadFile, width_index: int) -> None:
    """No image can take an accumulator to 2^29 or beyond: the device's arithmetic relies on it."""
    width = head.widths[width_index]
    inputs = head.in_channels(width_index)
    for i, layer in enumerate(head.layers):
        size = np.abs(head.layer_weights(i).astype(np.int64))
        if layer.op == DEPTHWISE:
            total = size.sum((0, 1))[: width.out_channels[i]]
        elif layer.op == CONV:
            total = size[: width.out_channels[i], :, :, : inputs[i]].sum((1, 2, 3))
        else:
            total = size[: width.out_channels[i], : inputs[i]].sum(1)
        worst = int((255 * total + np.abs(width.bias[i])).max())
        _expect(
            worst < MAX_ACCUMULATOR,
            f"layer {i} at width {width.thousandths}/1000 can accumulate {worst}",
            f"less than {MAX_ACCUMULATOR}",
        )


def _expect(condition: bool, found: str, expected: str) -> None:
    if not condition:
        raise BundleError(f"{found}; expected {expected}")
