"""Trains learners side by side: every step all of them see the same views of the same images.

The teacher looks at what they see (a consistent teacher, arXiv 2106.05237). On a GPU a step is recorded once
and replayed; on a CPU it runs as it is written. Every epoch leaves a checkpoint to resume or export from.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from training.augment import Views, erase, pad
from training.data import Images, Labels
from training.learner import Batch, Learner, Outcome, Phase
from training.nets import Teacher
from training.recipe import Recipe

log = logging.getLogger(__name__)

REFIT_EVERY = 50
WARM_STEPS = 3
STREAMS = 8


@dataclass(frozen=True)
class Plan:
    """How long and fast to learn; see `training.recipe.Recipe` for the meaning of each number.

    ``sandwich``: how many widths there are when only the widest, the narrowest and one between run in a step.
    ``seconds``: how long the training may take; after two epochs their number is cut to what fits.
    """

    epochs: int
    batch: int
    rate: float
    weight_decay: float
    shift: int
    flip: bool
    settle: float
    seed: int
    widths: int = 1
    sandwich: bool = False
    momentum: bool = False
    erase: int = 0
    seconds: float = math.inf


@dataclass(frozen=True)
class Machine:
    """What it runs on: a device, and whether bfloat16 is fast there."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    bf16: bool = False

    def autocast(self) -> torch.autocast:
        """bfloat16 for what gains by it. Not cached: a recorded step must cast its weights itself."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16, cache_enabled=False)

    @classmethod
    def best(cls, recipe: Recipe) -> Machine:
        """The GPU if there is one, else the CPU.

        There in float32 for images of width 1: in oneDNN's bfloat16, gradients of strided convolutions over
        them are now and then not a number (torch 2.13).
        """
        if torch.cuda.is_available():
            torch.backends.cudnn.benchmark = True
            return cls(torch.device("cuda"), True)
        return cls(torch.device("cpu"), recipe.input[1] > 1 and bool(torch.cpu._is_avx512_bf16_supported()))


def learning_rate(rate: float, step: int, total: int) -> float:
    """Linear warm-up over the first 2 %, then half a cosine to a hundredth."""
    warm = max(1, total // 50)
    if step < warm:
        return rate * (step + 1) / warm
    return rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm))))


def optimiser_for(learner: Learner, plan: Plan, machine: Machine) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov momentum; only weights of more than one dimension decay."""
    groups: list[dict[str, Any]] = []
    for number, parameters in enumerate(learner.groups()):
        for decays in (True, False):
            chosen = [p for p in parameters if (p.ndim > 1) == decays]
            if chosen:
                decay = plan.weight_decay if decays else 0.0
                groups.append({"params": chosen, "weight_decay": decay, "group": number})
    cuda = machine.device.type == "cuda"
    # A recorded step reads its learning rate from the device.
    for group in groups:
        group["lr"] = torch.tensor(plan.rate, device=machine.device) if cuda else plan.rate
    if plan.momentum:
        return torch.optim.SGD(groups, lr=plan.rate, momentum=0.9, nesterov=True, fused=cuda or None)
    return torch.optim.AdamW(groups, lr=plan.rate, betas=(0.9, 0.99), fused=cuda or None, capturable=cuda)


class Trainer:
    """Learners, their optimisers, and the step that moves them all."""

    def __init__(
        self,
        learners: Sequence[Learner],
        sources: dict[str, Images],
        labels: Labels,
        teacher: Teacher | None,
        plan: Plan,
        machine: Machine,
    ) -> None:
        self.plan, self.machine = plan, machine
        device = machine.device
        self.learners = [learner.to(device).to(memory_format=torch.channels_last) for learner in learners]
        self.optimisers = [optimiser_for(learner, plan, machine) for learner in self.learners]
        self.teacher = None
        if teacher is not None:
            self.teacher = teacher.to(device).to(memory_format=torch.channels_last).eval()
        self.sources = {name: pad(torch.tensor(x, device=device), plan.shift) for name, x in sources.items()}
        self.size = next(iter(sources.values())).shape[1:3]
        self.labels = torch.tensor(labels, device=device)
        self.progress = torch.zeros((), device=device)
        self.losses = torch.zeros(len(self.learners), device=device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: dict[str, Tensor] = {}
        self.targets = torch.zeros(plan.batch, dtype=torch.long, device=device)
        self.warm = 0
        if device.type == "cuda":
            self.streams = [torch.cuda.Stream() for _ in range(min(STREAMS, len(self.learners)))]

    def step(
        self, views: Views, generator: torch.Generator, progress: float, widths: tuple[int, ...]
    ) -> None:
        """One batch: draws it, then moves every learner."""
        inputs = {name: views.of(x, *self.size) for name, x in self.sources.items()}
        if self.plan.erase:
            inputs = {name: erase(x, 0.5, self.plan.erase, generator) for name, x in inputs.items()}
        self.progress.fill_(progress)
        if self.machine.device.type != "cuda":
            self._move(inputs, self.labels[views.pick], widths)
            return
        if not self.inputs:
            self.inputs = {name: torch.empty_like(x) for name, x in inputs.items()}
        for name, x in inputs.items():
            self.inputs[name].copy_(x)
        self.targets.copy_(self.labels[views.pick])
        if self.warm < WARM_STEPS:
            self.warm += 1
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._move(self.inputs, self.targets, widths)
            torch.cuda.current_stream().wait_stream(side)
            return
        if self.graph is None:
            for optimiser in self.optimisers:
                optimiser.zero_grad(set_to_none=True)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._move(self.inputs, self.targets, widths, recorded=True)
        self.graph.replay()

    def enter(self, phase: Phase) -> None:
        """A new phase for every learner; what was recorded is no longer what is to be done."""
        for learner in self.learners:
            learner.enter(phase)
        self.graph, self.warm = None, 0

    def set_rate(self, rate: float) -> None:
        """The learning rate of the next step, in each group by what its learner says of it."""
        for learner, optimiser in zip(self.learners, self.optimisers, strict=True):
            shares = learner.rates()
            for group in optimiser.param_groups:
                value = rate * shares[group["group"]]
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(value)
                else:
                    group["lr"] = value

    def _move(
        self, images: dict[str, Tensor], labels: Tensor, widths: tuple[int, ...], recorded: bool = False
    ) -> None:
        soft, features = None, []
        if self.teacher is not None:
            with torch.no_grad(), self.machine.autocast():
                clean = (images["clean"] / 255).contiguous(memory_format=torch.channels_last)
                logits, features = self.teacher.with_features(clean)
            soft = logits.float().softmax(1)
        batch = Batch(images, labels, soft, features, self.progress, widths)
        for number, (learner, optimiser) in enumerate(zip(self.learners, self.optimisers, strict=True)):
            if not recorded:
                self._learn(number, learner, optimiser, batch)
                continue
            main, side = torch.cuda.current_stream(), self.streams[number % len(self.streams)]
            side.wait_stream(main)
            with torch.cuda.stream(side):
                self._learn(number, learner, optimiser, batch)
        if recorded:
            for side in self.streams:
                torch.cuda.current_stream().wait_stream(side)

    def _learn(self, number: int, learner: Learner, optimiser: torch.optim.Optimizer, batch: Batch) -> None:
        with self.machine.autocast():
            loss = learner.loss(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 5.0, foreach=True)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        self.losses[number] += loss.detach()

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {
            "models": {learner.name: learner.state_dict() for learner in self.learners},
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """The inverse of `state`."""
        for learner, optimiser, state in zip(
            self.learners, self.optimisers, saved["optimisers"], strict=True
        ):
            learner.load_state_dict(saved["models"][learner.name])
            optimiser.load_state_dict(state)


Validate = Callable[[Learner], str]


def train(trainer: Trainer, path: Path | None, describe: Validate, every: int = 1) -> int:
    """Trains for the plan's epochs, from ``path`` on if there is a checkpoint; returns the epochs done.

    ``describe`` says a learner's validation figures for the log, every so many epochs.
    """
    plan, device = trainer.plan, trainer.machine.device
    count = len(trainer.labels)
    steps, first = max(1, count // plan.batch), 0
    if path is not None and path.exists():
        saved = torch.load(path, weights_only=True, map_location=device)
        trainer.restore(saved)
        first = saved["epoch"]
        log.info("going on after epoch %d of %s", first, path)
    begun, phase, epoch = time.monotonic(), Phase(), first
    while epoch < plan.epochs:
        started = time.monotonic()
        now = Phase(epoch >= plan.epochs * (1 - plan.settle), epoch >= plan.epochs // 2)
        if now != phase or epoch == first:
            trainer.enter(now)
            phase = now
        generator = torch.Generator(device).manual_seed(plan.seed * 100_003 + epoch)
        torch.manual_seed(plan.seed * 1000 + epoch)
        chooser = np.random.default_rng((plan.seed, epoch))
        order = torch.randperm(count, device=device, generator=generator)
        for learner in trainer.learners:
            learner.train()
        trainer.losses.zero_()
        for step in range(steps):
            at = epoch * steps + step
            trainer.set_rate(learning_rate(plan.rate, at, plan.epochs * steps))
            pick = order[step * plan.batch : (step + 1) * plan.batch]
            views = Views.draw(pick, plan.shift, plan.flip, generator)
            progress = at / (plan.epochs * steps)
            trainer.step(views, generator, progress, _widths(plan, chooser))
            if at % REFIT_EVERY == 0:
                for learner in trainer.learners:
                    learner.refit()
        losses = (trainer.losses / steps).tolist()
        last = epoch + 1 == plan.epochs
        if last or (epoch + 1) % every == 0:
            seconds = (time.monotonic() - begun) / (epoch + 1 - first)
            for learner, loss in zip(trainer.learners, losses, strict=True):
                learner.eval()
                log.info(
                    "%s, epoch %d/%d: loss %.4f; %s; %.1f s an epoch, %.1f min left",
                    learner.name,
                    epoch + 1,
                    plan.epochs,
                    loss,
                    describe(learner),
                    time.monotonic() - started,
                    seconds * (plan.epochs - epoch - 1) / 60,
                )
        if path is not None and (last or (epoch + 1) % every == 0):
            partial = path.with_suffix(".partial")
            torch.save({**trainer.state(), "epoch": epoch + 1}, partial)
            partial.replace(path)
        epoch += 1
        if epoch == first + 2 and math.isfinite(plan.seconds):
            left = 0.92 * (plan.seconds - (time.monotonic() - begun))
            fitting = epoch + max(1, int(left / (time.monotonic() - started)))
            plan = replace(plan, epochs=min(plan.epochs, fitting))
            log.info("%d epochs fit into %.0f s", plan.epochs, plan.seconds)
    return plan.epochs


def _widths(plan: Plan, chooser: np.random.Generator) -> tuple[int, ...]:
    """The widths of a step, the widest first."""
    last = plan.widths - 1
    if not plan.sandwich or plan.widths <= 3:
        return tuple(range(last, -1, -1))
    return last, 0, int(chooser.integers(1, last))


@torch.no_grad()
def outcomes(learner: Learner, x: Images, machine: Machine) -> list[Outcome]:
    """What each width makes of images (N,H,W,C) uint8, on the CPU."""
    learner.eval()
    parts: list[list[Outcome]] = []
    for start in range(0, len(x), 500):
        images = torch.from_numpy(x[start : start + 500]).to(machine.device).permute(0, 3, 1, 2).float()
        with machine.autocast():
            parts.append(learner.outcomes(images))
    found = []
    for width in range(len(parts[0])):
        symbols = [part[width].symbols for part in parts]
        whole = torch.cat([s for s in symbols if s is not None]).cpu() if symbols[0] is not None else None
        found.append(Outcome(torch.cat([part[width].logits for part in parts]).cpu(), whole))
    return found


def top1(outcome: Outcome, y: npt.NDArray[np.int64]) -> float:
    """The share of right answers."""
    return float((outcome.logits.argmax(1).numpy() == y).mean())
