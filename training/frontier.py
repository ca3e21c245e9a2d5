"""Everything the frontier compares, trained side by side on the same views of the same images.

Ours and the recipes of the papers: independent heads, the other encoder, an int8 bottleneck without entropy
coding (BottleFit's form, arXiv 2201.02693), one model for each rate (Entropic Student's form, arXiv
2108.11898), networks for JPEG and WebP images, for whole images, and one that fits on a device. What comes of
each test image is kept as a *record*, from which `slimwire lab frontier` makes its table.

Rivals get what is ours and helps them: the integer head's layers, clustered coder tables for each place, a
teacher that sees clean images, and as many images as our model saw.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.records import KINDS, Record
from training.bundle_writer import TABLE_IMAGES
from training.data import Data, Images
from training.export import symbol_counts
from training.learner import Learner, PlainLearner, TeacherLearner
from training.loop import Machine, Plan, Trainer, outcomes, train
from training.nets import ResNet8, Tail
from training.rate import fit_best_tables
from training.recipe import CONV, DEPTHWISE, POINTWISE, Recipe, Rivals
from training.slim_learner import Coding, SlimLearner, figures
from training.slimmable import same_pad
from training.workers import coded_lengths, through_codec
from wire.rans import Tables

log = logging.getLogger(__name__)

LABELS = {
    "slimmable": "ours before conversion",
    "independent": "independent head",
    "ensemble": "slimmable ensemble",
    "bottleneck": "int8 bottleneck",
    "entropic": "one model per rate",
    "jpeg": "JPEG quality",
    "webp": "WebP quality",
    "raw": "raw input",
    "on-device": "all on the device",
    "full": "full model",
    "teacher": "teacher",
}


class SamePad(nn.Module):
    """What the head puts around the input of a layer with stride 2."""

    def forward(self, x: Tensor) -> Tensor:
        return same_pad(x)


class PlainHead(nn.Module):
    """The head at full width without bottleneck and quantisation: (N,C,H,W) in 0..1 → (N,C',H',W')."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        inputs = recipe.input[2]
        for layer in recipe.layers[:-1]:
            outputs = layer.channels[-1]
            kernel = 1 if layer.op == POINTWISE else 3
            if layer.stride == 2:
                parts.append(SamePad())
            padding = 1 if kernel == 3 and layer.stride == 1 else 0
            groups = inputs if layer.op == DEPTHWISE else 1
            parts.append(nn.Conv2d(inputs, outputs, kernel, layer.stride, padding, 1, groups, bias=False))
            parts += [nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        self.layers = nn.Sequential(*parts)
        self.channels = inputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def full_model(recipe: Recipe, classes: int) -> nn.Module:
    """Head and tail at full width, without bottleneck and quantisation: (N,C,H,W) in 0..1 → logits (N,K)."""
    head = PlainHead(recipe)
    return nn.Sequential(head, Tail(head.channels, recipe.tail, classes, recipe.dropout, recipe.tail_scale))


def ours(recipe: Recipe, rivals: Rivals, classes: int) -> list[Learner]:
    """The slimmable model, each of its widths as an independent head, the ensemble, and the full model."""
    ensemble, staged = replace(recipe, layers=rivals.ensemble, members=rivals.members), Coding(staged=True)
    return [
        SlimLearner("slimmable", recipe, classes, staged),
        SlimLearner("ensemble", ensemble, classes, staged),
        *(
            SlimLearner(f"independent-{w:g}", recipe.only(i), classes, staged)
            for i, w in enumerate(recipe.widths)
        ),
        PlainLearner("full", recipe, full_model(recipe, classes)),
    ]


def others(recipe: Recipe, rivals: Rivals, classes: int) -> list[Learner]:
    """The recipes of others at full width, and networks for whole images."""
    found: list[Learner] = []
    single = recipe.only(len(recipe.widths) - 1)
    for channels in rivals.bottleneck:
        last = replace(single.layers[-1], channels=(channels,))
        narrow = replace(single, layers=(*single.layers[:-1], last), levels=256, center=128)
        coding = Coding(entropy=False, staged=True)
        found.append(SlimLearner(f"bottleneck-{channels}", narrow, classes, coding))
    for target in recipe.targets:
        aimed = replace(single, targets=(target,))
        found.append(SlimLearner(f"entropic-{target.mean:g}", aimed, classes, Coding(staged=True)))
    for codec, quality in rivals.sources:
        name = f"{codec}-{quality}"
        found.append(PlainLearner(name, recipe, full_model(recipe, classes), name))
    found.append(PlainLearner("on-device", recipe, ResNet8(recipe.input[2], classes)))
    return found


def versions(x: Images, rivals: Rivals, jobs: int) -> dict[str, tuple[Images, npt.NDArray[np.int64]]]:
    """Images (N,H,W,C) and their bytes (N,) as each codec and quality gives them; "clean": as they are."""
    found = {"clean": (x, np.full(len(x), x[0].size))}
    for codec, quality in rivals.sources:
        found[f"{codec}-{quality}"] = through_codec(x, codec, quality, jobs)
    return found


class Rivalry:
    """Trains what a recipe is compared with, and records what becomes of each test image.

    ``jobs``: processes for codecs and coder. Memory: every version of the training images.
    """

    def __init__(
        self, recipe: Recipe, rivals: Rivals, data: Data, seed: int, machine: Machine, jobs: int
    ) -> None:
        self.recipe, self.rivals, self.data = recipe, rivals, data
        self.seed, self.machine, self.jobs = seed, machine, jobs
        self.sources = versions(data.split.train_x, rivals, jobs)
        self.tests = versions(data.test_x, rivals, jobs)

    def run(self, teacher: TeacherLearner, plan: Plan) -> list[Record]:
        """Trains all of them side by side and returns their rows, and the teacher's."""
        classes = len(self.data.classes)
        learners = [*ours(self.recipe, self.rivals, classes), *others(self.recipe, self.rivals, classes)]
        sources = {name: x for name, (x, _) in self.sources.items()}
        trainer = Trainer(learners, sources, self.data.split.train_y, teacher.net, plan, self.machine)
        shown = partial(figures, x=self.data.split.valid_x, y=self.data.split.valid_y, machine=self.machine)
        epochs = train(trainer, None, shown, every=max(1, plan.epochs // 5))
        seen = epochs * (len(self.data.split.train_x) // plan.batch) * plan.batch
        rows = [replace(row, epochs=epochs, images_seen=seen) for one in learners for row in self.rows(one)]
        return [*rows, *self.rows(teacher)]

    def rows(self, learner: Learner) -> Iterable[Record]:
        """What becomes of the test images, as the learner's codec gives them, at each of its widths."""
        x, sizes = self.tests[learner.source]
        for width, outcome in enumerate(outcomes(learner, x, self.machine)):
            kind = next(kind for kind in KINDS if learner.name.startswith(kind))
            setting = learner.name[len(kind) :].lstrip("-")
            device_macs, params, name, coded = 0, None, learner.name, sizes
            if isinstance(learner, SlimLearner):
                device_macs = head_macs(learner.recipe, width)
                params = sum(p.numel() for p in learner.head.parameters() if p.ndim > 1)
                if len(learner.recipe.widths) > 1:
                    setting = f"{learner.recipe.widths[width]:g}"
                    name = f"{learner.name}-{setting}"
                latent = torch.zeros(1, learner.recipe.layers[-1].channels[-1], *learner.recipe.grid)
                server_macs = macs(learner.tail, latent)
                coded = self._coded(learner, outcome.symbols, width)
            else:
                assert isinstance(learner, PlainLearner | TeacherLearner)
                image = torch.zeros(1, *np.moveaxis(x[:1], -1, 1).shape[1:])
                server_macs = macs(learner.net, image)
                if kind == "on-device":
                    setting, device_macs, server_macs = "ResNet-8", server_macs, 0
                    coded = np.ones(len(x), np.int64)
                    params = sum(p.numel() for p in learner.parameters() if p.ndim > 1)
            right = outcome.logits.argmax(1).numpy() == self.data.test_y
            log.info("%s: top-1 %.4f at %.1f bytes", name, right.mean(), coded.mean())
            command = f"slimwire train --recipe {self.recipe.name} --seed {self.seed} --rivals"
            record = Record(
                row=name,
                kind=kind,
                label=f"{LABELS[kind]} {setting}".strip(),
                setting=setting,
                device_macs=device_macs,
                server_macs=server_macs,
                params=params,
                flash_bytes=params if kind == "on-device" else None,
                seed=self.seed,
                epochs=None,
                images_seen=None,
                command=command,
                right=right,
                coded=coded,
            )
            yield record
            if kind == "full":
                label = f"{LABELS['raw']} uint8"
                yield replace(record, row="raw", kind="raw", label=label, setting="uint8")

    def _coded(self, learner: SlimLearner, symbols: Tensor | None, width: int) -> npt.NDArray[np.int64]:
        """Bytes the coder writes for the test images, with tables from training images as a bundle's are."""
        assert symbols is not None
        if not learner.coding.entropy:
            return np.full(len(symbols), symbols.shape[1])
        seen = outcomes(learner, self.data.split.train_x[:TABLE_IMAGES], self.machine)[width].symbols
        assert seen is not None
        tables = Tables(
            *fit_best_tables(symbol_counts(seen.numpy(), learner.recipe.levels), learner.recipe.tables)
        )
        return coded_lengths(symbols.numpy().astype(np.uint8), tables, self.jobs)


@torch.no_grad()
def macs(net: nn.Module, x: Tensor) -> int:
    """Multiply-accumulates of convolutions and linear layers for ``x`` (1,…)."""
    found: list[int] = []

    def count(module: nn.Module, _: Any, result: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            found.append(result.numel() * module.weight[0].numel())
        elif isinstance(module, nn.Linear):
            found.append(result.numel() * module.in_features)

    hooks = [module.register_forward_hook(count) for module in net.modules()]
    net.eval()(x.to(next(net.parameters()).device))
    for hook in hooks:
        hook.remove()
    return sum(found)


def head_macs(recipe: Recipe, width: int) -> int:
    """Multiply-accumulates of one image; an ensemble's blocks of zeros are not counted (grouped kernels)."""
    height, columns, inputs = recipe.input
    total = 0
    for number, layer in enumerate(recipe.layers):
        height, columns = -(-height // layer.stride), -(-columns // layer.stride)
        outputs = layer.channels[width]
        taps = 1 if layer.op == POINTWISE else 9
        each = 1 if layer.op == DEPTHWISE else inputs
        if number and layer.relu and layer.op in (CONV, POINTWISE) and recipe.members > 1:
            each //= width + 1
        total += height * columns * taps * each * outputs
        inputs = outputs
    return total
