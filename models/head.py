"""The head in integers: what the device computes, as the numpy reference.

Requantisation is gemmlowp's double rounding (SaturatingRoundingDoublingHighMul, then RoundingDivideByPOT),
the arithmetic of LiteRT's reference kernels; the MicroPython kernels and `models.litert_head` give the same
bytes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.errors import BundleError
from models.headfile import CONV, DEPTHWISE, LATENT, HeadFile

BATCH = 64
"""Images computed at once: the working set stays in the processor's cache."""


class Head:
    """Runs a head file on images, at any of its widths."""

    def __init__(self, headfile: HeadFile) -> None:
        self.headfile = headfile

    def run(self, images: npt.NDArray[np.uint8], width_index: int) -> npt.NDArray[np.uint8]:
        """(N,H,W,C) uint8 images → (N,n) uint8 symbols in symbol order (y, x, channel).

        Raises BundleError when the images do not have the head's input shape or the width does not exist.
        """
        check_images(images, self.headfile.input)
        if not 0 <= width_index < len(self.headfile.widths):
            raise BundleError(f"no width {width_index}; expected 0 to {len(self.headfile.widths) - 1}")
        out = np.empty((len(images), int(np.prod(self.headfile.latent_shape(width_index)))), np.uint8)
        for start in range(0, len(images), BATCH):
            x = images[start : start + BATCH]
            for i in range(len(self.headfile.layers)):
                x = self._layer(x, i, width_index)
            out[start : start + BATCH] = x.reshape(len(x), -1)
        return out

    def _layer(self, x: npt.NDArray[np.uint8], index: int, width_index: int) -> npt.NDArray[np.uint8]:
        """One layer at one width: (N,H,W,in) uint8 → (N,H',W',out) uint8."""
        layer, width = self.headfile.layers[index], self.headfile.widths[width_index]
        outputs = width.out_channels[index]
        weights = self.headfile.layer_weights(index).astype(np.float64)
        # float64 holds every accumulator exactly (|acc| < 2^29) and lets BLAS do the work
        if layer.op == DEPTHWISE:
            windows = _windows(x, layer.stride)
            acc = np.zeros((*windows.shape[:3], outputs))
            for ky in range(3):
                for kx in range(3):
                    acc += windows[..., ky, kx] * weights[ky, kx, :outputs]
        elif layer.op == CONV:
            windows = _windows(x, layer.stride)
            kernel = weights[:outputs, :, :, : x.shape[-1]].transpose(3, 1, 2, 0).reshape(-1, outputs)
            acc = windows.reshape(*windows.shape[:3], -1).astype(np.float64) @ kernel
        else:
            acc = x.astype(np.float64) @ weights[:outputs, : x.shape[-1]].T
        y = requantise(acc.astype(np.int64) + width.bias[index], width.mult[index], width.rshift[index])
        if layer.act == LATENT:
            return np.clip(y + self.headfile.center, 0, self.headfile.levels - 1).astype(np.uint8)
        return np.clip(y, 0, 255).astype(np.uint8)


def check_images(images: npt.NDArray[np.uint8], shape: tuple[int, int, int]) -> None:
    """Raises BundleError unless ``images`` is uint8 (N, *shape)."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape:
        height, width, channels = shape
        raise BundleError(
            f"the images are {images.dtype} {images.shape}; expected uint8 (N, {height}, {width}, {channels})"
        )


def _windows(x: npt.NDArray[np.uint8], stride: int) -> npt.NDArray[np.uint8]:
    """3×3 neighbourhoods with TFLite's SAME padding: (N,H,W,C) → (N,H',W',C,3,3)."""
    pads = []
    for size in x.shape[1:3]:
        total = max(0, (-(-size // stride) - 1) * stride + 3 - size)
        pads.append((total // 2, total - total // 2))
    padded = np.pad(x, ((0, 0), *pads, (0, 0)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return view[:, ::stride, ::stride]


def requantise(
    acc: npt.NDArray[np.int64], mult: npt.NDArray[np.int64], rshift: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """gemmlowp's RoundingDivideByPOT(SaturatingRoundingDoublingHighMul(acc, mult), rshift); channels last.

    The high multiply rounds half away from zero towards positive nudges and truncates; the shift rounds half
    away from zero. Saturation (both factors −2^31) can't happen: |acc| < 2^29.
    """
    product = acc * mult
    nudge = np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    total = product + nudge
    high = np.where(total >= 0, total >> 31, -(-total >> 31))
    mask = (np.int64(1) << rshift) - 1
    threshold = (mask >> 1) + (high < 0)
    rounded: npt.NDArray[np.int64] = (high >> rshift) + ((high & mask) > threshold)
    return rounded
