"""A trained head as integers: weights, multipliers and biases of every width, coder tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from models.head import Head
from models.headfile import BIAS_OFFSET, CONV, DEPTHWISE, LATENT, RELU, HeadFile, Layer, Width
from slimwire.errors import SlimwireError
from training.data import Images
from training.rate import fit_best_tables
from training.recipe import Recipe
from training.slimmable import STEP, SlimHead, SlimLayer
from wire.rans import Tables

MULTIPLIER_BITS = 24
"""Significant bits of a multiplier, so that LiteRT's float32 scales hold it exactly."""


def export_head(head: SlimHead, recipe: Recipe, images: Images) -> HeadFile:
    """The integer head, with coder tables made from the symbols of training ``images`` (N,H,W,C).

    Raises SlimwireError when a folded number does not fit the format (the training has gone wrong then).
    """
    layers, weights = _weights(head, recipe)
    widths = tuple(_width(head, recipe, i) for i in range(len(recipe.widths)))
    untabled = HeadFile(recipe.input, recipe.levels, recipe.center, layers, weights, widths)
    runner = Head(untabled)
    tabled = []
    for i, width in enumerate(widths):
        counts = symbol_counts(runner.run(images, i), recipe.levels)
        freqs, index = fit_best_tables(counts, recipe.tables)
        tabled.append(replace(width, tables=Tables(freqs, index)))
    return HeadFile.parse(replace(untabled, widths=tuple(tabled)).emit())


def _weights(head: SlimHead, recipe: Recipe) -> tuple[tuple[Layer, ...], npt.NDArray[np.int8]]:
    """The layer records and the one weight array, in the file's order."""
    records, blocks = [], []
    offset, inputs = 0, recipe.input[2]
    for module in _layers(head):
        spec = module.layer
        values = module.quantised_weight().detach().numpy().astype(np.int8)  # (out, in, ky, kx)
        if spec.op == CONV:
            values = values.transpose(0, 2, 3, 1)
        elif spec.op == DEPTHWISE:
            values = values[:, 0].transpose(1, 2, 0)
        else:
            values = values[:, :, 0, 0]
        act = RELU if spec.relu else LATENT
        records.append(Layer(spec.op, spec.stride, act, inputs, spec.channels[-1], offset))
        blocks.append(values.reshape(-1))
        offset, inputs = offset + values.size, spec.channels[-1]
    return tuple(records), np.concatenate(blocks)


def _width(head: SlimHead, recipe: Recipe, index: int) -> Width:
    """Batch norm, weight scales and activation scales of one width as multipliers and biases."""
    mults, biases, shifts = [], [], []
    step_in = 1 / 255
    for number, module in enumerate(_layers(head)):
        folded = module.folded(index)
        step_out = STEP if module.layer.relu else 1.0
        scale = module.weight_scale().double()[: module.layer.channels[index]]
        factor = (folded.gain * scale * step_in / step_out).numpy()
        bias = np.rint((folded.offset / step_out).numpy() / factor)
        mantissa, exponent = np.frexp(factor)
        mult = np.rint(np.ldexp(mantissa, MULTIPLIER_BITS)).astype(np.int64)
        overflow = mult == 1 << MULTIPLIER_BITS
        mult, exponent = np.where(overflow, mult >> 1, mult), exponent + overflow
        if (exponent > 0).any() or (exponent < -31).any() or (np.abs(bias) >= BIAS_OFFSET).any():
            raise SlimwireError(
                f"layer {number} at width {recipe.widths[index]} has a factor of {factor.max():.3g} "
                f"(least {factor.min():.3g}) and a bias of up to {np.abs(bias).max():.3g} steps",
                expected="factors from 2^-32 to 1 and biases below 2^24",
                remedy="train longer, or with a lower rate",
            )
        mults.append(mult << (31 - MULTIPLIER_BITS))
        biases.append(bias.astype(np.int64))
        shifts.append(-exponent.astype(np.int64))
        step_in = step_out
    height, width = recipe.grid
    channels = tuple(module.layer.channels[index] for module in _layers(head))
    flat = np.full((1, recipe.levels), 4096 // recipe.levels)
    flat[0, 0] += 4096 - flat.sum()
    tables = Tables(flat.astype(np.uint16), np.zeros(height * width * channels[-1], np.uint8))
    thousandths = round(recipe.widths[index] * 1000)
    return Width(thousandths, channels, tuple(mults), tuple(biases), tuple(shifts), tables)


def symbol_counts(symbols: npt.NDArray[np.integer[Any]], levels: int) -> npt.NDArray[np.float64]:
    """(N, n) symbols → how often each symbol came at each place (n, levels)."""
    places = symbols.shape[1]
    flat = symbols.astype(np.int64) + np.arange(places) * levels
    return np.bincount(flat.reshape(-1), minlength=places * levels).reshape(places, levels).astype(np.float64)


def _layers(head: SlimHead) -> list[SlimLayer]:
    return [module for module in head.layers if isinstance(module, SlimLayer)]
