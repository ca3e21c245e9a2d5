"""From a recipe to a bundle: teacher, its soft answers, the slimmable model, export; each stage resumes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slimwire.errors import SlimwireError
from training.bundle_writer import Origin, check_target, write_bundle
from training.data import Split, load_split
from training.loop import Model, train
from training.recipe import Recipe
from training.teacher import TeacherPlan, train_teacher


@dataclass(frozen=True)
class Job:
    """One call of `slimwire train`: checkpoints live in ``work``, the bundle goes to ``out``."""

    recipe: Recipe
    seed: int
    work: Path
    out: Path
    epochs: int | None = None
    threads: int = 1
    export_only: bool = False

    @property
    def command(self) -> str:
        """The command line that does this again."""
        changed = f" --epochs {self.epochs}" if self.epochs else ""
        return f"slimwire train --recipe {self.recipe.name} --seed {self.seed}{changed}"


def fast_bf16() -> bool:
    """Whether this processor multiplies bfloat16 natively; elsewhere training stays in float32."""
    return bool(torch.cpu._is_avx512_bf16_supported())


def run_job(job: Job) -> dict[str, Any]:
    """Trains (or only exports) and returns the content of the bundle's ``bundle.json``."""
    check_target(job.out)
    torch.set_num_threads(job.threads)
    recipe = replace(job.recipe, epochs=job.epochs) if job.epochs else job.recipe
    split = load_split(recipe.data, recipe.validation)
    checkpoint = job.work / "model.pt"
    if job.export_only and not checkpoint.exists():
        raise SlimwireError(
            f"there is no checkpoint {checkpoint}", remedy="train first, without --export-only"
        )
    bf16 = fast_bf16()
    if not job.export_only:
        train_stages(recipe, job, split, bf16)
    saved = torch.load(checkpoint, weights_only=True)
    model = Model(recipe, int(split.train_y.max()) + 1)
    model.load_state_dict(saved["model"])
    teacher = torch.load(job.work / "teacher.pt", weights_only=True)
    facts = {
        "epochs": saved["epoch"],
        "planned_epochs": recipe.epochs,
        "teacher_validation_top1": round(teacher["top1"], 5),
        "bfloat16": bf16,
        "torch": torch.__version__,
    }
    now = datetime.now(UTC)
    return write_bundle(
        model, split, Origin(job.command, job.seed, facts), f"{now.year}.{now.month}.{now.day}", job.out
    )


def train_stages(recipe: Recipe, job: Job, split: Split, bf16: bool) -> None:
    """Teacher, then the slimmable model; what is finished in ``job.work`` isn't done again."""
    job.work.mkdir(parents=True, exist_ok=True)
    answers = job.work / "teacher.npy"
    if answers.exists():
        soft = np.load(answers)
    else:
        plan = replace(TeacherPlan(), epochs=recipe.teacher_epochs)
        soft = train_teacher(split, plan, job.seed, bf16, job.work / "teacher.pt")
        np.save(answers, soft)
    train(recipe, split, soft, job.seed, bf16, job.work / "model.pt")
