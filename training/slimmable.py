"""The slimmable head as a torch module, with quantisation in the loop.

Two encoders have this one interface (both of Slimmable Encoders, arXiv 2306.12691). *Slices*: width ``i``
uses the first channels of every layer, one weight array, a batch norm for each width. *Ensemble*: ``members``
encoders of one shape whose latents are summed, which is a network whose inner weights are block-diagonal:
width ``i`` uses the first encoders, and the last layer adds them up. A mask makes the one the other.

The forward pass computes what the integer head computes: int8 weights, uint8 activations, integer latent
symbols; gradients pass the rounding straight through. Sums of integers below 2²⁴ are exact in float32, and in
TF32, so the convolutions run on integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.recipe import CONV, DEPTHWISE, Layer, Recipe

CLIP = 6.0
STEP = CLIP / 255
"""Real value of one uint8 activation step, the same in every layer but the image's (1/255)."""
GAIN_FLOOR = 0.02
"""Batch-norm gains are |g| + this: the integer multiplier of a channel must be positive."""


def same_pad(x: Tensor) -> Tensor:
    """(N,C,H,W) with the zeros that SAME puts around it for a 3×3 kernel of stride 2."""
    height, width = x.shape[2:]
    return functional.pad(x, (width % 2, 1, height % 2, 1))


class _QuantisedRelu(torch.autograd.Function):
    """round(clip(x, 0, CLIP) / STEP), 0..255; the gradient passes where x was not clipped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward((x > 0) & (x < CLIP))
        return x.mul(1 / STEP).round_().clamp_(0, 255)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (inside,) = ctx.saved_tensors
        return grad * inside * (1 / STEP)


def straight_through_round(x: Tensor) -> Tensor:
    """round(x), with the gradient of x."""
    return x + (x.round() - x).detach()


def _blocks(members: int, weight: Tensor) -> Tensor:
    """1 where an output channel belongs to the same encoder as the input channel, else 0: (out,in,1,1)."""
    outputs, inputs = (torch.arange(n) * members // n for n in weight.shape[:2])
    return (outputs[:, None] == inputs).float()[:, :, None, None]


@dataclass(frozen=True)
class Folded:
    """A layer at one width as numbers for the integer export: all float64 arrays on the CPU.

    ``gain`` (C,) and ``offset`` (C,): output = gain · (Σ x·w) + offset in real units.
    """

    gain: Tensor
    offset: Tensor


class SlimLayer(nn.Module):
    """A convolution sliced to the width in use, then that width's batch norm and the activation."""

    def __init__(self, layer: Layer, in_channels: tuple[int, ...], step_in: float, members: int = 1) -> None:
        super().__init__()
        self.layer = layer
        self.in_channels = in_channels
        self.step_in = step_in
        kernel = 3 if layer.op in (CONV, DEPTHWISE) else 1
        inputs = 1 if layer.op == DEPTHWISE else in_channels[-1]
        self.weight = nn.Parameter(torch.empty(layer.channels[-1], inputs, kernel, kernel))
        nn.init.kaiming_normal_(self.weight, mode="fan_in", nonlinearity="relu")
        self.register_buffer("mask", _blocks(members, self.weight) if members > 1 else None, persistent=False)
        if members > 1:
            self.weight.data.mul_(members**0.5).mul_(self.get_buffer("mask"))
        start = 1.0 if layer.relu else 1.5
        self.gain = nn.ParameterList([nn.Parameter(torch.full((c,), start)) for c in layer.channels])
        self.bias = nn.ParameterList([nn.Parameter(torch.zeros(c)) for c in layer.channels])
        for i, c in enumerate(layer.channels):
            self.register_buffer(f"mean{i}", torch.zeros(c))
            self.register_buffer(f"var{i}", torch.ones(c))
        self.frozen = False

    def weight_scale(self) -> Tensor:
        """Real value of one int8 weight step for each output channel (C_full,)."""
        return self.weight.detach().abs().amax(dim=(1, 2, 3)).clamp_min(1e-8) / 127

    def quantised_weight(self) -> Tensor:
        """The weights in int8 steps, −127..127, gradients straight through."""
        steps = straight_through_round(self.weight / self.weight_scale()[:, None, None, None])
        return steps if self.mask is None else steps * self.get_buffer("mask")

    def forward(self, x: Tensor, width: int) -> Tensor:
        """(N,in,H,W) → (N,out,H',W') at a width: uint8 steps in and out, the latent in units of symbols."""
        outputs, inputs = self.layer.channels[width], self.in_channels[width]
        weight = self.quantised_weight()[:outputs]
        groups = outputs if self.layer.op == DEPTHWISE else 1
        if self.layer.op != DEPTHWISE:
            weight = weight[:, :inputs]
        padding = 0
        if weight.shape[-1] == 3:
            if self.layer.stride == 2:
                x = same_pad(x)
            else:
                padding = 1
        y = functional.conv2d(x, weight, None, self.layer.stride, padding, 1, groups)
        scale = self.weight_scale()[:outputs] * self.step_in
        y = functional.batch_norm(
            y * scale[:, None, None],
            self.get_buffer(f"mean{width}"),
            self.get_buffer(f"var{width}"),
            self.gain[width].abs() + GAIN_FLOOR,
            self.bias[width],
            training=self.training and not self.frozen,
            momentum=0.05,
        )
        if self.layer.relu:
            y = _QuantisedRelu.apply(y)
        return y

    @torch.no_grad()
    def folded(self, width: int) -> Folded:
        """Batch norm of this width as one gain and offset for each channel."""
        mean = self.get_buffer(f"mean{width}").double()
        var = self.get_buffer(f"var{width}").double()
        gain = (self.gain[width].double().abs() + GAIN_FLOOR) / (var + 1e-5).sqrt()
        return Folded(gain, self.bias[width].double() - gain * mean)


class SlimHead(nn.Module):
    """The device's part: images (N,C,H,W) in 0..255 at a width → real latent (N,C_latent[width],H',W').

    One unit of the latent is one symbol; rounding and clipping to the symbol range belong to whoever uses it.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        layers = []
        inputs, step = (recipe.input[2],) * len(recipe.widths), 1 / 255
        for number, layer in enumerate(recipe.layers):
            inner = number > 0 and layer.relu and layer.op != DEPTHWISE
            layers.append(SlimLayer(layer, inputs, step, recipe.members if inner else 1))
            inputs, step = layer.channels, STEP
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, width: int) -> Tensor:
        for layer in self.layers:
            x = layer(x, width)
        return x

    def freeze_statistics(self, frozen: bool) -> None:
        """From here on batch norm uses its running statistics, as the exported head does."""
        for layer in self.layers:
            assert isinstance(layer, SlimLayer)
            layer.frozen = frozen


def pad_channels(latent: Tensor, channels: int) -> Tensor:
    """(N, C, H, W) → (N, channels, H, W): the channels a narrow width lacks are 0."""
    return functional.pad(latent, (0, 0, 0, 0, 0, channels - latent.shape[1]))
