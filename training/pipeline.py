"""From a recipe to a trained model: teacher, its soft answers, the slimmable model; each stage resumes."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from training.data import Split, load_split
from training.loop import Model, train
from training.recipe import Recipe
from training.teacher import TeacherPlan, train_teacher

log = logging.getLogger(__name__)


def fast_bf16() -> bool:
    """Whether this processor multiplies bfloat16 natively; elsewhere training stays in float32."""
    flags = torch.backends.cpu.get_cpu_capability()
    return "AVX512" in flags and torch.cpu._is_avx512_bf16_supported()


def train_recipe(recipe: Recipe, seed: int, work: Path, bf16: bool) -> tuple[Model, Split]:
    """Carries out ``recipe`` with its intermediate files in ``work`` and returns the model and the data it saw."""
    work.mkdir(parents=True, exist_ok=True)
    split = load_split(recipe.data, recipe.validation)
    answers = work / "teacher.npy"
    if answers.exists():
        soft = np.load(answers)
    else:
        plan = replace(TeacherPlan(), epochs=recipe.teacher_epochs)
        soft = train_teacher(split, plan, seed, bf16, work / "teacher.pt")
        np.save(answers, soft)
    return train(recipe, split, soft, seed, bf16, work / "model.pt"), split
