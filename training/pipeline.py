"""From a recipe to a bundle: teacher, matching, answering, refining, trimming, export; each stage resumes.

*Matching*: head and the tail's first stage learn to give the teacher's features, at each width's price of
bytes. *Answering*: the head stays as it is, and the tail learns from labels and the teacher. *Refining*,
where a recipe asks for it: both together, with the answers alone to go by. *Trimming*, likewise: the widest
width alone, to fewer bytes (`training.trim`). Why so: docs/adr/0015-training-in-stages.md.
"""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from models.records import write as write_records
from slimwire.errors import SlimwireError
from training.bundle_writer import Origin, check_target, write_bundle
from training.data import Data
from training.frontier import Rivalry
from training.learner import Learner, TeacherLearner
from training.loop import Machine, Plan, Trainer, outcomes, top1, train
from training.nets import Teacher
from training.recipe import Recipe, Rivals
from training.slim_learner import Coding, SlimLearner, figures
from training.tax import tax_records
from training.trim import TrimLearner

log = logging.getLogger(__name__)

TEACHER_DECAY = 5e-4
TEACHER_SHARE = 0.2
"""Share of a time limit that the teacher gets."""
NAME = "slimmable"
FULL, RECORDS, TAX = "full.json", "records.npz", "tax.npz"


@dataclass(frozen=True)
class Job:
    """One call of `slimwire train`: checkpoints live in ``work``, the bundle goes to ``out``.

    ``command``: the command line that does this again. ``minutes``: how long the training may take, export
    and ``rivals`` not counted. ``rivals``: what to train afterwards for the frontier, None: nothing.
    ``tax``: epochs for which each width then learns on alone, beside the model, 0: not done.
    """

    recipe: Recipe
    seed: int
    work: Path
    out: Path
    command: str
    minutes: float = math.inf
    threads: int = 1
    export_only: bool = False
    rivals: Rivals | None = None
    tax: int = 0


def run_job(job: Job, data: Data) -> dict[str, Any]:
    """Trains (or only exports) and returns the content of the bundle's ``bundle.json``."""
    check_target(job.out)
    torch.set_num_threads(job.threads)
    classes = len(data.classes)
    if not job.export_only:
        stages_of_job = Stages(job, data, Machine.best(job.recipe))
        stages_of_job.run()
        if job.rivals is not None:
            stages_of_job.compare(job.rivals)
        if job.tax:
            stages_of_job.measure_tax(job.tax)
    log_path = job.work / "stages.json"
    stages = json.loads(log_path.read_text()) if log_path.exists() else []
    if not stages or stages[-1]["stage"] == "teacher":
        raise SlimwireError(
            f"there is no finished model in {job.work}", remedy="train first, without --export-only"
        )
    saved = torch.load(job.work / f"{stages[-1]['stage']}.pt", weights_only=True, map_location="cpu")
    model = SlimLearner(NAME, job.recipe, classes)
    model.load_state_dict(saved["models"][NAME])
    model.to(memory_format=torch.contiguous_format)
    facts: dict[str, Any] = {
        "stages": stages,
        "images_seen": images_seen(stages),
        "teacher_validation_top1": stages[0]["validation"],
    }
    full = job.work / FULL
    if full.exists():
        facts["full_model"] = json.loads(full.read_text())
    now = datetime.now(UTC)
    version = f"{now.year}.{now.month}.{now.day}"
    return write_bundle(model, data, Origin(job.command, job.seed, facts), version, job.out)


def images_seen(stages: list[dict[str, Any]]) -> int:
    """How many images the model itself saw in these stages."""
    return sum(stage["images"] for stage in stages if stage["stage"] != "teacher")


class Stages:
    """The stages of a job, one after the other; one that is in ``stages.json`` isn't done again."""

    def __init__(self, job: Job, data: Data, machine: Machine) -> None:
        self.job, self.recipe, self.machine = job, job.recipe, machine
        self.data, self.split, self.classes = data, data.split, len(data.classes)
        self.ends = time.monotonic() + 60 * job.minutes
        self.path = job.work / "stages.json"
        self.done: list[dict[str, Any]] = json.loads(self.path.read_text()) if self.path.exists() else []

    def run(self) -> None:
        """Teacher, the slimmable model in its two stages, refining and trimming where the recipe asks."""
        self.job.work.mkdir(parents=True, exist_ok=True)
        recipe = self.recipe
        teacher = TeacherLearner(recipe, self.classes)
        plan = replace(
            self.plan(recipe.teacher_epochs, recipe.teacher_rate, TEACHER_SHARE),
            weight_decay=TEACHER_DECAY,
            momentum=True,
            erase=recipe.erase,
        )
        self.stage("teacher", teacher, None, plan)
        share = 1.0 if not (recipe.refine_epochs or recipe.trim) else 0.6
        model = SlimLearner(NAME, recipe, self.classes, Coding(staged=True))
        self.stage("staged", model, teacher.net, self.plan(recipe.epochs, recipe.rate, share))
        if recipe.refine_epochs:
            settled = replace(recipe, ramp_from=1.0)
            refined = SlimLearner(NAME, settled, self.classes)
            refined.load_state_dict(model.state_dict())
            plan = self.plan(recipe.refine_epochs, recipe.refine_rate, 0.8 if recipe.trim else 1.0)
            self.stage("refined", refined, teacher.net, self.small(plan))
            model = refined
        if recipe.trim:
            trimmed = TrimLearner(NAME, recipe, self.classes, recipe.trim)
            trimmed.start_from(model)
            plan = replace(self.plan(recipe.trim_epochs, recipe.trim_rate, 1.0), weight_decay=0.0)
            self.stage("trimmed", trimmed, teacher.net, self.small(plan))

    def compare(self, rivals: Rivals) -> None:
        """Trains what the finished model is compared with, for as many epochs; once.

        Leaves ``records.npz`` for `slimwire lab frontier` and ``full.json`` for the model card.
        """
        path, recipe = self.job.work / RECORDS, self.recipe
        if path.exists():
            return
        teacher = TeacherLearner(recipe, self.classes)
        self._load("teacher", teacher)
        teacher.requires_grad_(False)
        epochs = next(stage["epochs"] for stage in self.done if stage["stage"] == "staged")
        plan = replace(self.plan(epochs, recipe.rate, 1.0), seconds=math.inf)
        rivalry = Rivalry(recipe, rivals, self.data, self.job.seed, self.machine, self.job.threads)
        records = rivalry.run(teacher, plan)
        source = {"name": recipe.data, "source": self.data.about.get("source", ""), "split": "test"}
        full, wise = (next(row for row in records if row.kind == kind) for kind in ("full", "teacher"))
        found = {"top1": full.top1, "macs": full.server_macs, "teacher_top1": wise.top1, "epochs": epochs}
        (self.job.work / FULL).write_text(json.dumps(found) + "\n")
        write_records(path, {**source, "n": len(self.data.test_x)}, records)

    def measure_tax(self, epochs: int) -> None:
        """Trains the finished model on, and each of its widths alone beside it; leaves ``tax.npz``, once."""
        path, recipe = self.job.work / TAX, replace(self.recipe, ramp_from=1.0)
        if path.exists():
            return
        if recipe.trim:
            recipe = replace(recipe, targets=(*recipe.targets[:-1], recipe.trim))
        teacher, model = TeacherLearner(recipe, self.classes), SlimLearner(NAME, recipe, self.classes)
        self._load("teacher", teacher)
        self._load(self.done[-1]["stage"], model)
        plan = replace(self.small(self.plan(epochs, recipe.refine_rate / 2, 1.0)), seconds=math.inf)
        records = tax_records(
            model,
            teacher.net.requires_grad_(False),
            self.data,
            plan,
            self.machine,
            images_seen(self.done),
            self.job.threads,
            path.with_suffix(".pt"),
        )
        source = {"name": recipe.data, "source": self.data.about.get("source", ""), "split": "test"}
        write_records(path, {**source, "n": len(self.data.test_x)}, records)

    def _load(self, stage: str, learner: Learner) -> None:
        """The weights that a stage left."""
        saved = torch.load(self.job.work / f"{stage}.pt", weights_only=True, map_location=self.machine.device)
        learner.to(self.machine.device).load_state_dict(saved["models"][learner.name])

    def small(self, plan: Plan) -> Plan:
        """The plan with the batches of the stages in which a finished model learns on."""
        return replace(plan, batch=min(plan.batch, self.recipe.refine_batch))

    def plan(self, epochs: int, rate: float, share: float) -> Plan:
        """The recipe's plan for a stage, with its share of the time that is left."""
        recipe = self.recipe
        sandwich = recipe.sandwich and self.machine.device.type == "cpu"
        return Plan(
            epochs=epochs,
            batch=min(recipe.batch, len(self.split.train_x)),
            rate=rate,
            weight_decay=recipe.weight_decay,
            shift=recipe.shift,
            flip=recipe.flip,
            settle=recipe.settle,
            seed=self.job.seed,
            widths=len(recipe.widths),
            sandwich=sandwich,
            seconds=share * (self.ends - time.monotonic()),
        )

    def stage(self, name: str, learner: Learner, teacher: Teacher | None, plan: Plan) -> None:
        """Trains a learner, or loads what an earlier call trained."""
        checkpoint, split = self.job.work / f"{name}.pt", self.split
        if any(stage["stage"] == name for stage in self.done):
            self._load(name, learner)
            return
        if teacher is not None:
            teacher.requires_grad_(False)
        trainer = Trainer([learner], {"clean": split.train_x}, split.train_y, teacher, plan, self.machine)
        shown = partial(figures, x=split.valid_x, y=split.valid_y, machine=self.machine)
        epochs = train(trainer, checkpoint, shown)
        last = outcomes(learner, split.valid_x, self.machine)[-1]
        self.done.append(
            {
                "stage": name,
                "epochs": epochs,
                "images": epochs * (len(split.train_x) // plan.batch) * plan.batch,
                "validation": round(top1(last, split.valid_y), 5),
                "device": self.machine.device.type,
                "bfloat16": self.machine.bf16,
                "torch": torch.__version__,
            }
        )
        self.path.write_text(json.dumps(self.done, indent=1) + "\n")
