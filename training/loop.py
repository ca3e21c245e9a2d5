"""Trains head, tail and rate priors together; every epoch leaves a checkpoint to resume or export from.

Each step runs the widest, the narrowest and one width between (sandwich rule); the widest learns from labels
and the teacher, the others from the widest as well (in-place distillation). Each width has its own price of a
byte, which a controller moves until the width's coded bytes meet its own target; the targets start high and
ramp down.
"""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.data import Images, Split, augment
from training.rate import RatePrior
from training.recipe import Recipe
from training.slimmable import SlimHead, Tail, pad_channels, straight_through_round
from training.teacher import to_tensor

log = logging.getLogger(__name__)

REFIT_EVERY = 50
OVER_LIMIT = 3.0
"""How much dearer a byte is beyond a width's frame limit, in the messages that exceed it."""
PRICE_GAIN = 0.006
"""How fast a width's price of a byte follows the logarithmic error of its rate, a step."""
PRICE_RANGE = (math.log(1e-6), math.log(0.03))


class Model(nn.Module):
    """Head, tail, one rate prior for each width and the logarithm of each width's price of a byte."""

    log_beta: Tensor

    def __init__(self, recipe: Recipe, classes: int) -> None:
        super().__init__()
        self.recipe = recipe
        self.head = SlimHead(recipe)
        latent = recipe.layers[-1].channels
        self.tail = Tail(latent[-1], recipe.tail_channels, classes, recipe.dropout)
        places = recipe.grid[0] * recipe.grid[1]
        self.priors = nn.ModuleList(
            [RatePrior(places * c, recipe.levels, recipe.center, recipe.tables) for c in latent]
        )
        self.register_buffer("log_beta", torch.full((len(recipe.widths),), math.log(2e-4)))

    def prior(self, width: int) -> RatePrior:
        """The rate prior of a width."""
        prior = self.priors[width]
        assert isinstance(prior, RatePrior)
        return prior

    def quantise(self, latent: Tensor) -> Tensor:
        """Rounds latents to symbol values (symbol − center), gradients straight through inside the range."""
        low, high = -self.recipe.center, self.recipe.levels - 1 - self.recipe.center
        return straight_through_round(latent.clamp(low, high))


def in_symbol_order(latent: Tensor) -> Tensor:
    """(N,C,H,W) → (N, H·W·C) in symbol order: y, x, channel fastest."""
    return latent.permute(0, 2, 3, 1).flatten(1)


def target_factor(recipe: Recipe, progress: float) -> float:
    """What a width's byte target is multiplied by at this share of the training: falls to 1 over the ramp."""
    return 1 + (recipe.ramp_from - 1) * max(0.0, 1 - progress / recipe.ramp)


def train_step(
    model: Model, x: Tensor, labels: Tensor, soft: Tensor, widths: list[int], factor: float, bf16: bool
) -> Tensor:
    """The loss of one batch at ``widths`` (the widest first); moves rate priors and prices as it goes."""
    recipe = model.recipe
    channels = recipe.layers[-1].channels[-1]
    latents = [model.head(x, width) for width in widths]
    coded = torch.cat([pad_channels(model.quantise(latent), channels) for latent in latents])
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = model.tail(coded.contiguous(memory_format=torch.channels_last))
    log_p = functional.log_softmax(logits.float(), 1).chunk(len(widths))
    loss = torch.zeros(())
    for place, width in enumerate(widths):
        goal = soft if place == 0 else (soft + log_p[0].detach().exp()) / 2
        answer = functional.nll_loss(log_p[place], labels)
        imitation = -(goal * log_p[place]).sum(1).mean()
        task = (1 - recipe.distill) * answer + recipe.distill * imitation

        prior, target = model.prior(width), recipe.targets[width]
        flat = in_symbol_order(latents[place])
        symbols = (flat.detach().round() + recipe.center).clamp(0, recipe.levels - 1).long()
        prior.observe(symbols)
        size = prior.bits(flat) / 8
        excess = functional.relu(size - target.limit * factor)
        rate = size.mean() + OVER_LIMIT * excess.mean()
        loss = loss + task + model.log_beta[width].exp() * rate
        real = float(prior.symbol_bits(symbols).mean()) / 8
        error = max(-0.3, min(0.3, math.log(real / (target.mean * factor))))
        model.log_beta[width] = (model.log_beta[width] + PRICE_GAIN * error).clamp(*PRICE_RANGE)
    return loss / len(widths)


def learning_rate(recipe: Recipe, step: int, total: int) -> float:
    """Linear warm-up over the first 2 %, then half a cosine to a hundredth."""
    warm = max(1, total // 50)
    if step < warm:
        return recipe.rate * (step + 1) / warm
    return recipe.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm))))


@torch.no_grad()
def validate(model: Model, x: Images, y: npt.NDArray[np.int64], bf16: bool) -> list[tuple[float, float]]:
    """(top-1, estimated mean bytes) of each width on plain images, with quantisation as trained."""
    model.eval()
    channels = model.recipe.layers[-1].channels[-1]
    results = []
    for width in range(len(model.recipe.widths)):
        right, size = 0, 0.0
        for start in range(0, len(x), 500):
            latent = model.head(to_tensor(x[start : start + 500]), width)
            symbols = (in_symbol_order(latent).round() + model.recipe.center).clamp(
                0, model.recipe.levels - 1
            )
            size += float(model.prior(width).symbol_bits(symbols.long()).sum()) / 8
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = model.tail(pad_channels(model.quantise(latent), channels))
            right += int((logits.argmax(1).numpy() == y[start : start + 500]).sum())
        results.append((right / len(x), size / len(x)))
    model.train()
    return results


def optimiser_for(model: Model) -> torch.optim.Optimizer:
    """AdamW; only weights of more than one dimension decay."""
    recipe = model.recipe
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.99))


def train(
    recipe: Recipe, split: Split, soft: npt.NDArray[np.float32], seed: int, bf16: bool, path: Path
) -> Model:
    """Trains for ``recipe.epochs`` (from ``path`` on, if there is a checkpoint) and returns the model.

    ``soft`` (N,K): the teacher's probabilities on the training images.
    """
    torch.manual_seed(seed)
    model = Model(recipe, soft.shape[1])
    model.to(memory_format=torch.channels_last)
    optimiser = optimiser_for(model)
    first = 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        first = saved["epoch"]
        log.info("going on after epoch %d of %s", first, path)
    steps = len(split.train_x) // recipe.batch
    total = steps * recipe.epochs
    last = len(recipe.widths) - 1
    for epoch in range(first, recipe.epochs):
        started = time.monotonic()
        rng = np.random.default_rng((seed, epoch))
        torch.manual_seed(seed * 1000 + epoch)
        order = rng.permutation(len(split.train_x))
        losses = 0.0
        model.train()
        model.head.freeze_statistics(epoch >= recipe.epochs * (1 - recipe.settle))
        for step in range(steps):
            now = epoch * steps + step
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(recipe, now, total)
            pick = order[step * recipe.batch : (step + 1) * recipe.batch]
            x = to_tensor(augment(split.train_x[pick], rng, recipe.shift, recipe.flip))
            labels, goal = torch.from_numpy(split.train_y[pick]), torch.from_numpy(soft[pick])
            widths = [last, 0] + ([int(rng.integers(1, last))] if last > 1 else [])
            factor = target_factor(recipe, now / total)
            loss = train_step(model, x, labels, goal, widths, factor, bf16)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            losses += float(loss.detach())
            if now % REFIT_EVERY == 0:
                for width in range(last + 1):
                    model.prior(width).refit()
        results = validate(model, split.valid_x, split.valid_y, bf16)
        seconds = time.monotonic() - started
        log.info(
            "epoch %d/%d: loss %.4f; validation %s; price %s; %.0f s, %.0f min left",
            epoch + 1,
            recipe.epochs,
            losses / steps,
            " ".join(f"{top1:.4f}@{size:.0f}B" for top1, size in results),
            " ".join(f"{beta:.1e}" for beta in model.log_beta.exp().tolist()),
            seconds,
            seconds * (recipe.epochs - epoch - 1) / 60,
        )
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch + 1}
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)
    return model
