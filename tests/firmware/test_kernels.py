"""The kernels' arithmetic, against 64-bit integers: as viper on x86-64 runs it, and as 32-bit boards do."""

import struct
from dataclasses import dataclass

import numpy as np
import pytest

from tests import headgen, viper32

CHANNELS = 3000  # more than a head may have: here each is a case of its own
INPUTS = 12


@dataclass
class Case:
    """One pixel through one layer of many channels: all kinds of sums, multipliers and shifts."""

    kernel: str
    x: bytes
    weights: bytes
    tables: bytes
    plan: list[int]
    expected: bytes

    def files(self) -> dict[str, bytes]:
        plan = struct.pack(f"<{len(self.plan)}H", *self.plan)
        return {"x": self.x, "weights": self.weights, "tables": self.tables, "plan": plan}


def make_case(kernel: str, linear: bool, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    center, top = (13, 31) if linear else (0, 255)
    bias = np.concatenate(
        [
            rng.integers(-40, 41, CHANNELS // 3),  # small sums: exact halves, both signs
            rng.integers(1 - (1 << 24), 1 << 24, CHANNELS // 3),
            rng.choice([1 - (1 << 24), (1 << 24) - 1, 0, 1, -1], CHANNELS - CHANNELS // 3 * 2),
        ]
    )
    mult = rng.integers(1 << 30, 1 << 31, CHANNELS)
    mult[::4] = 1 << 30
    mult[1::7] = rng.choice([(1 << 31) - 1, (1 << 30) + 1, 3 << 29], mult[1::7].size)
    if kernel == "pointwise":
        x = rng.integers(0, 256, (1, 1, 1, INPUTS))
        weights = rng.integers(-127, 128, (CHANNELS, INPUTS))
        layer = headgen.Layer(headgen.POINTWISE, 1, INPUTS, CHANNELS, weights)
        kind, row, full, channels_in = 1, 0, INPUTS, INPUTS
    else:
        x = rng.integers(0, 256, (1, 3, 3, CHANNELS))
        weights = rng.integers(-127, 128, (3, 3, CHANNELS))
        layer = headgen.Layer(headgen.DEPTHWISE, 1, CHANNELS, CHANNELS, weights)
        kind, row, full, channels_in = 2, 3 * CHANNELS, CHANNELS, CHANNELS
    quiet = rng.random(CHANNELS) < 0.5  # where the bias alone decides
    if kernel == "pointwise":
        weights[quiet] = 0
        acc = headgen.accumulate(x, layer, CHANNELS)[0, 0, 0] + bias
    else:
        weights[:, :, quiet] = 0
        acc = headgen.accumulate(x, layer, CHANNELS)[0, 1, 1] + bias
    fitting = np.ceil(np.log2(np.maximum(np.abs(acc), 1) / top)).astype(np.int64)
    shift = np.clip(fitting + rng.integers(-2, 3, CHANNELS), 0, 31)
    shift[::5] = rng.integers(0, 32, shift[::5].size)
    y = headgen.requantise(acc, mult, shift)
    expected = np.clip(y + center, 0, top) if linear else np.clip(y, 0, 255)
    tables = mult.astype("<u4").tobytes() + (bias + (1 << 24)).astype("<u4").tobytes()
    tables += shift.astype(np.uint8).tobytes()
    plan = [kind, 0, row, channels_in, 1, 0, full, 0, 0, CHANNELS, CHANNELS, 1, 1, center, top, 0]
    return Case(
        kernel,
        x.astype(np.uint8).tobytes(),
        (weights + 128).astype(np.uint8).tobytes(),
        tables,
        plan,
        expected.astype(np.uint8).tobytes(),
    )


CASES = [
    pytest.param(kernel, linear, id=f"{kernel}-{'latent' if linear else 'relu'}")
    for kernel in ("pointwise", "window")
    for linear in (False, True)
]

RUN = """
import sys
from array import array
from firmware import kernels
x, weights, tables, plan = (open(name, "rb").read() for name in ("x", "weights", "tables", "plan"))
plan = array("H", plan)
out = bytearray(%d)
if sys.argv[1] == "pointwise":
    for first, end in ((0, 100), (100, 101), (101, 3000)):  # weights may come in pieces
        some = memoryview(weights)[12 * first :]
        kernels.pointwise(x, some, 0, out, tables, array("I", [0]), plan, 0, 0, first | end << 16)
else:
    kernels.window(x, 0, out, weights, tables, plan, 0)
sys.stdout.buffer.write(out)
"""


@pytest.mark.parametrize(("kernel", "linear"), CASES)
def test_viper_requantises_as_gemmlowp_does(run_micropython, kernel, linear):
    case = make_case(kernel, linear, seed=1)
    out = run_micropython(RUN % CHANNELS, kernel, heap="1m", files=case.files())
    assert len(set(case.expected)) > 20
    assert out == case.expected


@pytest.mark.parametrize(("kernel", "linear"), CASES)
def test_nothing_overflows_32_bits(kernel, linear):
    case = make_case(kernel, linear, seed=2)
    kernels = viper32.load("kernels")
    out = bytearray(CHANNELS)
    plan = np.array(case.plan, np.uint16)
    if kernel == "pointwise":
        kernels.pointwise(
            case.x, case.weights, 0, out, case.tables, np.zeros(1, np.uint32), plan, 0, 0, CHANNELS << 16
        )
    else:
        kernels.window(case.x, 0, out, case.weights, case.tables, plan, 0)
    assert out == case.expected


@pytest.mark.parametrize("weight", [-127, 127])
@pytest.mark.parametrize("mult", [1 << 30, (1 << 31) - 1])
def test_the_largest_sums_fit_32_bits(weight, mult):
    """9 * 1024 products of the largest values, as a patched 3x3 layer of 1024 channels would have."""
    n, center, top = 9 * 1024, 13, 31
    kernels = viper32.load("kernels")
    bias = (1 << 24) - 1 if weight > 0 else 1 - (1 << 24)
    for shift in (0, 24, 25, 31):
        tables = struct.pack("<IIB", mult, bias + (1 << 24), shift)
        plan = np.array([4, 0, 0, 1024, 1, 0, 1024, 0, 0, 1, 1, 1, 1, center, top, 0], np.uint16)
        out = bytearray(1)
        x, weights = bytes([255]) * n, bytes([weight + 128]) * n
        kernels.pointwise(x, weights, 0, out, tables, np.zeros(1, np.uint32), plan, 0, 0, 1 << 16)
        acc = np.array([n * 255 * weight + bias])
        y = headgen.requantise(acc, np.array([mult]), np.array([shift]))
        assert out[0] == np.clip(y + center, 0, top)[0]


def test_the_check_sees_an_overflow():
    checked = viper32.execute("def square(x):\n    x *= x\n    return x")
    assert checked.square(46340) == 46340**2
    with pytest.raises(OverflowError):
        checked.square(46341)
