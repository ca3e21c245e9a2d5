"""What sharing costs: a finished model learns on beside each of its widths alone (the slimming tax).

Every width's slice of the model becomes a head and tail of its own. Model and slices then see the same views
of the same images for as many epochs, at the same byte targets and prices to begin with; what the slices gain
over the model is what its widths pay for sharing weights. A slice starts from what the widths learned
together, so it is a harder rival than a head trained alone from nothing with as many images.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import Tensor

from models.records import Record
from training.data import Data
from training.frontier import Rivalry
from training.loop import Machine, Plan, Trainer, train
from training.nets import Teacher
from training.recipe import Rivals
from training.slim_learner import SlimLearner, figures

NO_RIVALS = Rivals(jpeg=(), webp=(), bottleneck=(), ensemble=())
_OF_A_WIDTH = (
    re.compile(r"(head\.layers\.\d+\.(?:gain|bias)\.)0()"),
    re.compile(r"(head\.layers\.\d+\.(?:mean|var))0()"),
    re.compile(r"(priors\.)0(\..*)"),
)
"""Names, in a model of one width, of what a model of several has for each: before and after the number."""


def alone(model: SlimLearner, width: int, classes: int) -> SlimLearner:
    """One width of a model as a model of its own, which gives the same answers but for rounding.

    Weights are rounded to int8 in steps of their row's largest, so a narrow row may round otherwise once the
    weights that only wider widths use are gone.
    """
    recipe = model.recipe
    own = SlimLearner(f"independent-{recipe.widths[width]:g}", recipe.only(width), classes)
    whole = model.state_dict()
    own.load_state_dict({name: _slice(whole, name, width, like) for name, like in own.state_dict().items()})
    return own


def _slice(whole: dict[str, Tensor], name: str, width: int, like: Tensor) -> Tensor:
    if name == "log_beta":
        return whole[name][width : width + 1].clone()
    for pattern in _OF_A_WIDTH:
        found = pattern.fullmatch(name)
        if found:
            return whole[f"{found[1]}{width}{found[2]}"].clone()
    part = whole[name]
    for dimension, size in enumerate(like.shape):
        part = part.narrow(dimension, 0, size)
    return part.clone()


def tax_records(
    model: SlimLearner,
    teacher: Teacher,
    data: Data,
    plan: Plan,
    machine: Machine,
    seen: int,
    jobs: int,
    checkpoint: Path | None = None,
) -> list[Record]:
    """Trains model and slices side by side; what becomes of each test image, at every width of both.

    ``seen``: how many images the model saw before; it and the slices count them as theirs.
    """
    slices = [alone(model, width, len(data.classes)) for width in range(len(model.recipe.widths))]
    split = data.split
    trainer = Trainer([model, *slices], {"clean": split.train_x}, split.train_y, teacher, plan, machine)
    shown = partial(figures, x=split.valid_x, y=split.valid_y, machine=machine)
    epochs = train(trainer, checkpoint, shown)
    total = seen + epochs * (len(split.train_x) // plan.batch) * plan.batch
    rivalry = Rivalry(model.recipe, NO_RIVALS, data, plan.seed, machine, jobs)
    labels = {"slimmable": "ours, learning on", "independent": "independent head, from ours"}
    return [
        replace(
            row,
            row=f"{row.kind}-further-{row.setting}",
            label=f"{labels[row.kind]} {row.setting}",
            epochs=epochs,
            images_seen=total,
            command=f"slimwire train --recipe {model.recipe.name} --seed {plan.seed} --tax {epochs}",
        )
        for learner in (model, *slices)
        for row in rivalry.rows(learner)
    ]
