"""Takes the widest width to its final size, and changes nothing that another width uses.

Once the model is trained, the widest width's own parameters (its gains and biases in each layer, and the
output channels that only it has) learn at the target of the recipe's ``trim``, against the tail as it is.
Messages that exceed the frames' limit cost extra all the while, so that this also cuts the tail of their
sizes. Other widths stay as they are, bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Self

from torch import Tensor, nn

from training.learner import Batch
from training.recipe import Recipe, Target
from training.slim_learner import START_PRICE, SlimLearner
from training.slimmable import SlimLayer

WEIGHT_RATE = 0.3
"""Weights learn so much slower than gains and biases."""


class TrimLearner(SlimLearner):
    """A trained model of which only what the widest width alone uses learns on, at ``target``."""

    def __init__(self, name: str, recipe: Recipe, classes: int, target: Target) -> None:
        widest = len(recipe.widths) - 1
        super().__init__(
            name, replace(recipe, ramp_from=1.0, targets=(*recipe.targets[:widest], target)), classes
        )
        self.widest = widest
        self.requires_grad_(False)
        for layer in self.layers():
            for parameter in (layer.gain[widest], layer.bias[widest], layer.weight):
                parameter.requires_grad_(True)
            shared = layer.layer.channels[widest - 1] if widest else 0
            layer.weight.register_hook(lambda grad, shared=shared: _without_rows(grad, shared))

    def start_from(self, model: SlimLearner) -> None:
        """Takes a trained model over; the price of the widest width's bytes begins anew."""
        self.load_state_dict(model.state_dict())
        self.log_beta[self.widest] = math.log(START_PRICE)

    def layers(self) -> list[SlimLayer]:
        """The head's layers."""
        return [layer for layer in self.head.layers if isinstance(layer, SlimLayer)]

    def loss(self, batch: Batch) -> Tensor:
        return super().loss(replace(batch, widths=(self.widest,)))

    def groups(self) -> list[list[nn.Parameter]]:
        tuned = [p for layer in self.layers() for p in (layer.gain[self.widest], layer.bias[self.widest])]
        return [tuned, [layer.weight for layer in self.layers()]]

    def rates(self) -> list[float]:
        return [1.0, WEIGHT_RATE]

    def refit(self) -> None:
        self.prior(self.widest).refit()

    def train(self, mode: bool = True) -> Self:
        """Statistics and dropout stay as they are when the model answers."""
        return super().train(False)


def _without_rows(grad: Tensor, rows: int) -> Tensor:
    """The gradient, 0 for the first output channels."""
    kept = grad.clone()
    kept[:rows] = 0
    return kept
