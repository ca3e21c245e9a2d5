"""What `training.loop` trains: a network with its own loss, and what one step gives it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.nets import Teacher
from training.recipe import Recipe


@dataclass(frozen=True)
class Batch:
    """One step's images, seen by every learner alike.

    ``images`` by source (the plain ones are "clean"), each (N,C,H,W) float32 in 0..255; ``labels`` (N,);
    ``soft`` (N,K) the teacher's probabilities; ``features`` the teacher's, one (N,C,H,W) for each of its
    stages; ``progress`` 0-dim, the share of the training that is over.
    """

    images: dict[str, Tensor]
    labels: Tensor
    soft: Tensor | None
    features: list[Tensor]
    progress: Tensor
    widths: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """What a network makes of images at one width: logits (N,K); symbols (N,places) where it codes any."""

    logits: Tensor
    symbols: Tensor | None = None


@dataclass
class Phase:
    """Which part of a training has come: statistics settle at its end; a staged learner freezes its head."""

    settled: bool = False
    second: bool = False


class Learner(nn.Module):
    """A network that learns. ``source`` names the images it sees; ``rate`` multiplies the recipe's rate."""

    def __init__(self, name: str, recipe: Recipe, source: str = "clean") -> None:
        super().__init__()
        self.name, self.recipe, self.source = name, recipe, source
        self.phase = Phase()

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """The loss of one batch, 0-dim; may move rate priors and prices as it goes."""

    @abstractmethod
    def outcomes(self, images: Tensor) -> list[Outcome]:
        """What each width makes of images (N,C,H,W) in 0..255, without gradients."""

    def refit(self) -> None:
        """Takes coder tables into use that fit what was seen; every so many steps."""

    def groups(self) -> list[list[nn.Parameter]]:
        """Parameters whose learning rates may differ; the first group is the head's."""
        return [list(self.parameters())]

    def rates(self) -> list[float]:
        """What the recipe's learning rate is multiplied by in each group, in this phase."""
        return [1.0] * len(self.groups())

    def enter(self, phase: Phase) -> None:
        """Takes a new phase into use."""
        self.phase = phase


def task_loss(recipe: Recipe, log_p: Tensor, labels: Tensor, goal: Tensor | None) -> Tensor:
    """Cross entropy with the labels, and with the soft answers ``goal`` (N,K) in the recipe's share."""
    answer = functional.nll_loss(log_p, labels)
    if goal is None:
        return answer
    imitation = -(goal * log_p).sum(1).mean()
    return (1 - recipe.distill) * answer + recipe.distill * imitation


class TeacherLearner(Learner):
    """The teacher itself, from labels (smoothed) and images of which half miss a rectangle.

    Where mirroring keeps a label, it answers by what it makes of the image and of its mirror image.
    """

    def __init__(self, recipe: Recipe, classes: int) -> None:
        super().__init__("teacher", recipe)
        self.net = Teacher(recipe.input[2], recipe.teacher, classes)

    def loss(self, batch: Batch) -> Tensor:
        logits = self.net(batch.images["clean"] / 255)
        return functional.cross_entropy(logits.float(), batch.labels, label_smoothing=0.1)

    @torch.no_grad()
    def outcomes(self, images: Tensor) -> list[Outcome]:
        x = images / 255
        views = [x, x.flip(3)] if self.recipe.flip else [x]
        answers = torch.stack([self.net(view).float() for view in views])
        return [Outcome(answers.softmax(2).mean(0).log())]


class PlainLearner(Learner):
    """Any classifier of whole images, from labels and the teacher's answers (to the clean image)."""

    def __init__(self, name: str, recipe: Recipe, net: nn.Module, source: str = "clean") -> None:
        super().__init__(name, recipe, source)
        self.net = net

    def loss(self, batch: Batch) -> Tensor:
        logits = self.net(batch.images[self.source] / 255)
        return task_loss(self.recipe, logits.float().log_softmax(1), batch.labels, batch.soft)

    @torch.no_grad()
    def outcomes(self, images: Tensor) -> list[Outcome]:
        return [Outcome(self.net(images / 255).float())]
