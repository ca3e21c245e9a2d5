"""The numpy reference, a plain loop of the format, and LiteRT's reference kernels give the same bytes."""

import numpy as np
import pytest

from models.errors import BundleError
from models.head import Head, requantise
from models.headfile import CONV, DEPTHWISE, LATENT
from models.litert_head import LiteRtHead, build
from tests.models.conftest import random_headfile


def rounding_divide(value, shift):
    """gemmlowp's RoundingDivideByPOT on Python integers: half away from zero."""
    magnitude = (abs(value) + ((1 << shift) >> 1)) >> shift
    return magnitude if value >= 0 else -magnitude


def requantise_one(acc, mult, shift):
    """SaturatingRoundingDoublingHighMul then RoundingDivideByPOT, on Python integers."""
    product = acc * mult + ((1 << 30) if acc * mult >= 0 else 1 - (1 << 30))
    high = product // (1 << 31) if product >= 0 else -(-product // (1 << 31))
    return rounding_divide(high, shift)


def plain_head(head, image, width_index):
    """The head as the format describes it: one value at a time."""
    width, x = head.widths[width_index], image.astype(int)
    for i, layer in enumerate(head.layers):
        weights, outs, stride = head.layer_weights(i).astype(int), width.out_channels[i], layer.stride
        rows, columns = (-(-size // stride) for size in x.shape[:2])
        top, left = (
            max(0, (out - 1) * stride + 3 - size) // 2
            for out, size in zip((rows, columns), x.shape[:2], strict=True)
        )
        y = np.zeros((rows, columns, outs), int)
        for r, c, o in np.ndindex(y.shape):
            acc = int(width.bias[i][o])
            if layer.taps == 1:
                acc += int((x[r, c] * weights[o, : x.shape[2]]).sum())
            else:
                for ky, kx in np.ndindex(3, 3):
                    sy, sx = r * stride + ky - top, c * stride + kx - left
                    if not (0 <= sy < x.shape[0] and 0 <= sx < x.shape[1]):
                        continue
                    if layer.op == DEPTHWISE:
                        acc += int(x[sy, sx, o] * weights[ky, kx, o])
                    elif layer.op == CONV:
                        acc += int((x[sy, sx] * weights[o, ky, kx, : x.shape[2]]).sum())
            value = requantise_one(acc, int(width.mult[i][o]), int(width.rshift[i][o]))
            high = head.levels - 1 if layer.act == LATENT else 255
            y[r, c, o] = min(max(value + (head.center if layer.act == LATENT else 0), 0), high)
        x = y
    return x.reshape(-1).astype(np.uint8)


@pytest.mark.parametrize("width_index", [0, 1])
def test_numpy_head_follows_the_format(width_index):
    head = random_headfile(3, (7, 6, 2))
    images = np.random.default_rng(0).integers(0, 256, (2, 7, 6, 2)).astype(np.uint8)
    expected = np.stack([plain_head(head, image, width_index) for image in images])
    assert (Head(head).run(images, width_index) == expected).all()
    assert len(np.unique(expected)) > 4, "the test head saturates: it would hide differences"


def test_requantisation_rounds_like_gemmlowp_at_the_ties():
    accs = np.array([0, 1, -1, 2, -2, 3, -3, 5, -5, 6, -6, 255 * 127 * 9, -(1 << 28)], np.int64)
    for mult in (1 << 30, 3 << 29, (1 << 31) - 128):
        for shift in (0, 1, 2, 7, 31):
            found = requantise(accs, np.int64(mult), np.int64(shift))
            assert found.tolist() == [requantise_one(int(acc), mult, shift) for acc in accs]


@pytest.mark.parametrize(("seed", "size"), [(7, (13, 10, 2)), (8, (28, 28, 1)), (9, (8, 9, 3))])
def test_litert_reference_equals_numpy(seed, size):
    head = random_headfile(seed, size)
    images = np.random.default_rng(seed).integers(0, 256, (64, *size)).astype(np.uint8)
    for width_index in range(len(head.widths)):
        oracle = LiteRtHead(build(head, width_index), head.levels, head.center, reference=True)
        assert (oracle.run(images) == Head(head).run(images, width_index)).all()


def test_litert_default_kernels_stay_within_one(headfile):
    images = np.random.default_rng(1).integers(0, 256, (64, 13, 10, 2)).astype(np.uint8)
    fast = LiteRtHead(build(headfile, 1), headfile.levels, headfile.center, reference=False).run(images)
    exact = Head(headfile).run(images, 1)
    assert np.abs(fast.astype(int) - exact).max() <= 1
    assert (fast != exact).mean() < 0.02


def test_wrong_images_are_refused_with_what_was_expected(headfile):
    with pytest.raises(BundleError, match=r"\(3, 10, 13, 2\).*expected uint8 \(N, 13, 10, 2\)"):
        Head(headfile).run(np.zeros((3, 10, 13, 2), np.uint8), 0)
    with pytest.raises(BundleError, match="float32"):
        Head(headfile).run(np.zeros((3, 13, 10, 2), np.float32), 0)
    with pytest.raises(BundleError, match="no width 2"):
        Head(headfile).run(np.zeros((3, 13, 10, 2), np.uint8), 2)
    oracle = LiteRtHead(build(headfile, 0), headfile.levels, headfile.center, reference=True)
    with pytest.raises(BundleError, match="expected uint8"):
        oracle.run(np.zeros((3, 10, 13, 2), np.uint8))


def test_a_multiplier_that_float32_cannot_hold_is_refused(headfile):
    headfile.widths[0].mult[2][0] |= 1
    with pytest.raises(BundleError, match="layer 2 has a multiplier of more than 24"):
        build(headfile, 0)
