"""The slimmable model as a learner: head, tail, and one rate prior and price of a byte for each width.

The widest learns from labels and the teacher, the others from the widest as well (sandwich rule and in-place
distillation). Each width has its own price of a byte, which a controller moves until the width's coded bytes
meet its own target; the targets start high and ramp down. In stages, head and the tail's first stage learn to
give the teacher's features before the tail learns the answers (BottleFit, arXiv 2201.02693; Entropic Student,
arXiv 2108.11898).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.data import Images, Labels
from training.learner import Batch, Learner, Outcome, Phase, task_loss
from training.loop import Machine, outcomes, top1
from training.nets import Tail
from training.rate import RatePrior
from training.recipe import Recipe
from training.slimmable import SlimHead, pad_channels, straight_through_round

OVER_LIMIT = 3.0
"""How much dearer a byte is beyond a width's frame limit, in the messages that exceed it."""
START_PRICE = 2e-4
PRICE_RANGE = (math.log(1e-6), math.log(0.03))


@dataclass(frozen=True)
class Coding:
    """How the latent is priced and trained.

    ``entropy``: symbols are entropy coded, and rate is part of the loss; otherwise each takes one byte.
    ``staged``: first features and rate alone, then with the head as it is the answers alone, as the papers
    have it; otherwise answers and rate together (refining).
    """

    entropy: bool = True
    staged: bool = False


class SlimLearner(Learner):
    """Head, tail and coder tables of every width of a recipe."""

    log_beta: Tensor

    def __init__(self, name: str, recipe: Recipe, classes: int, coding: Coding | None = None) -> None:
        super().__init__(name, recipe)
        self.coding = coding or Coding()
        self.head = SlimHead(recipe)
        latent = recipe.layers[-1].channels
        self.tail = Tail(latent[-1], recipe.tail, classes, recipe.dropout, recipe.tail_scale)
        stage = (recipe.stride // recipe.tail_scale).bit_length() - 1
        self.stage = min(stage, len(recipe.teacher) - 1)
        self.project = nn.Conv2d(recipe.tail[0][0], recipe.teacher[self.stage][0], 1)
        places = recipe.grid[0] * recipe.grid[1]
        self.priors = nn.ModuleList(
            [RatePrior(places * c, recipe.levels, recipe.center, recipe.tables) for c in latent]
        )
        self.register_buffer("log_beta", torch.full((len(recipe.widths),), math.log(START_PRICE)))
        if not self.coding.entropy:
            for gain in self.head.layers[-1].get_submodule("gain").parameters():
                gain.data.fill_(recipe.center / 4)

    def prior(self, width: int) -> RatePrior:
        """The rate prior of a width."""
        prior = self.priors[width]
        assert isinstance(prior, RatePrior)
        return prior

    def quantise(self, latent: Tensor) -> Tensor:
        """Rounds latents to symbol values (symbol − center), gradients straight through inside the range."""
        low, high = -self.recipe.center, self.recipe.levels - 1 - self.recipe.center
        return straight_through_round(latent.clamp(low, high))

    def symbols(self, latent: Tensor) -> Tensor:
        """(N,C,H,W) → symbols (N,places) int64 in symbol order."""
        flat = in_symbol_order(latent.detach()).round() + self.recipe.center
        return flat.clamp(0, self.recipe.levels - 1).long()

    @property
    def answering(self) -> bool:
        """Whether the head is done and the tail alone learns."""
        return self.coding.staged and self.phase.second

    def loss(self, batch: Batch) -> Tensor:
        x, recipe = batch.images[self.source], self.recipe
        channels = recipe.layers[-1].channels[-1]
        widths = [width for width in batch.widths if width < len(recipe.widths)]
        with torch.autocast(x.device.type, enabled=False), torch.set_grad_enabled(not self.answering):
            latents = [self.head(x, width) for width in widths]
        coded = torch.cat([pad_channels(self.quantise(latent), channels) for latent in latents])
        logits, features = self.tail.with_features(coded.contiguous(memory_format=torch.channels_last))
        if self.coding.staged and not self.answering:
            loss = self._mismatch(features, batch.features[self.stage], len(widths)) * len(widths)
        else:
            loss = self._task(logits, widths, batch)
        if self.coding.entropy and not self.answering:
            for latent, width in zip(latents, widths, strict=True):
                loss = loss + self._rate(latent, width, batch.progress)
        return loss / len(widths)

    def _task(self, logits: Tensor, widths: list[int], batch: Batch) -> Tensor:
        """Labels and the teacher for every width, and the widest's answers for the others; summed."""
        log_p = logits.float().log_softmax(1).chunk(len(widths))
        task = torch.zeros((), device=logits.device)
        for place in range(len(widths)):
            goal = batch.soft
            if place and goal is not None:
                goal = (goal + log_p[0].detach().exp()) / 2
            task = task + task_loss(self.recipe, log_p[place], batch.labels, goal)
        return task

    def _mismatch(self, features: Tensor, goal: Tensor, copies: int) -> Tensor:
        """Mean squared error against the teacher's features, in units of their variance."""
        wanted = goal.detach().float()
        error = (self.project(features).float() - wanted.repeat(copies, 1, 1, 1)).square().mean()
        return error / wanted.var()

    def _rate(self, latent: Tensor, width: int, progress: Tensor) -> Tensor:
        """Price of the bytes of a width's latents; moves the price towards the target."""
        prior, target = self.prior(width), self.recipe.targets[width]
        factor = target_factor(self.recipe, progress)
        symbols = self.symbols(latent)
        prior.observe(symbols)
        size = prior.bits(in_symbol_order(latent).float()) / 8
        excess = functional.relu(size - target.limit * factor)
        rate = size.mean() + OVER_LIMIT * excess.mean()
        price = self.log_beta[width].exp()
        real = prior.symbol_bits(symbols).mean() / 8
        error = (real / (target.mean * factor)).log().clamp(-0.3, 0.3)
        gain = self.recipe.price_gain * len(latent) / 128
        self.log_beta[width] = (self.log_beta[width] + gain * error).clamp(*PRICE_RANGE)
        return price * rate

    def refit(self) -> None:
        if self.coding.entropy and not self.answering:
            for width in range(len(self.recipe.widths)):
                self.prior(width).refit()

    @torch.no_grad()
    def outcomes(self, images: Tensor) -> list[Outcome]:
        channels, found = self.recipe.layers[-1].channels[-1], []
        for width in range(len(self.recipe.widths)):
            with torch.autocast(images.device.type, enabled=False):
                latent = self.head(images, width)
            logits = self.tail(pad_channels(self.quantise(latent), channels))
            found.append(Outcome(logits.float(), self.symbols(latent)))
        return found

    def groups(self) -> list[list[nn.Parameter]]:
        return [list(self.head.parameters()), [*self.tail.parameters(), *self.project.parameters()]]

    def rates(self) -> list[float]:
        return [0.0 if self.answering else 1.0, 1.0]

    def enter(self, phase: Phase) -> None:
        super().enter(phase)
        self.head.freeze_statistics(phase.settled or self.answering)


def in_symbol_order(latent: Tensor) -> Tensor:
    """(N,C,H,W) → (N, H·W·C) in symbol order: y, x, channel fastest."""
    return latent.permute(0, 2, 3, 1).flatten(1)


def target_factor(recipe: Recipe, progress: Tensor) -> Tensor:
    """What a width's byte target is multiplied by at this share of the training: falls to 1 over the ramp."""
    return 1 + (recipe.ramp_from - 1) * functional.relu(1 - progress / recipe.ramp)


def figures(learner: Learner, x: Images, y: Labels, machine: Machine) -> str:
    """Top-1 and estimated bytes of each width on plain images, for the log."""
    if learner.source != "clean":
        return "not judged on plain images"
    parts = []
    for width, outcome in enumerate(outcomes(learner, x, machine)):
        text = f"{top1(outcome, y):.4f}"
        if isinstance(learner, SlimLearner) and learner.coding.entropy and outcome.symbols is not None:
            prior = learner.prior(width)
            bits = [float(prior.symbol_bits(s.to(machine.device)).sum()) for s in outcome.symbols.split(1000)]
            text += f"@{sum(bits) / 8 / len(x):.1f}B"
        parts.append(text)
    return " ".join(parts)
