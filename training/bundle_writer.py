"""Writes a bundle directory from a trained model, measures it, and writes the figures into it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from models.bundle import FORMAT, Bundle
from models.evaluate import evaluate
from models.head import Head
from models.headfile import HeadFile
from slimwire.errors import SlimwireError
from training.card import model_card
from training.data import Data, Images
from training.export import export_head
from training.export_tail import export_tail
from training.plot import draw_curve
from training.recipe import Recipe
from training.slim_learner import SlimLearner

TABLE_IMAGES = 20000
CALIBRATION_IMAGES = 100
PLOT = "accuracy.png"


@dataclass(frozen=True)
class Origin:
    """How a model came to be, for the card: the command and what it printed about itself."""

    command: str
    seed: int
    facts: dict[str, Any]


def write_bundle(model: SlimLearner, data: Data, origin: Origin, version: str, out: Path) -> dict[str, Any]:
    """Writes head, tail, camera, card and ``bundle.json`` to ``out``; returns the content of ``bundle.json``.

    Figures are measured on the test split, through the integer pipeline, with nothing left to choose.
    """
    recipe, split = model.recipe, data.split
    out.mkdir(parents=True, exist_ok=True)
    model.eval()
    headfile = export_head(model.head, recipe, split.train_x[:TABLE_IMAGES])
    tail = export_tail(model.tail, latents_of(headfile, split.train_x[:CALIBRATION_IMAGES]))
    (out / "head.bin").write_bytes(headfile.emit())
    (out / "tail.tflite").write_bytes(tail)
    camera = _camera(recipe, data, out)
    height, width, _ = headfile.latent_shape(0)
    info: dict[str, Any] = {
        "format": FORMAT,
        "name": recipe.name,
        "version": version,
        "licence": recipe.licence,
        "data": {**data.about, "n": len(data.test_x)},
        "classes": list(data.classes),
        "heap_kib": recipe.heap_kib,
        "input": dict(zip(("height", "width", "channels"), recipe.input, strict=True)),
        "latent": {"height": height, "width": width, "levels": recipe.levels, "center": recipe.center},
        **{part: _named(out / name) for part, name in _FILES.items()},
        "camera": camera,
        "widths": [{"width": width} for width in recipe.widths],
        "training": {"command": origin.command, "seed": origin.seed, **origin.facts},
    }
    # Not measured yet, so no bundle that could be loaded: bundle.json comes with its figures.
    bundle = Bundle(out, info, "", headfile, headfile.emit())
    validation = evaluate(bundle, split.valid_x, split.valid_y)
    test = evaluate(bundle, data.test_x, data.test_y)
    float_tail = _float_tail_top1(model, headfile, split.valid_x, split.valid_y)
    info["widths"] = test["widths"]
    info["model_tag"] = test["model_tag"]
    info["head"].update(test["head"])
    info["training"]["validation"] = [
        {"width": row["width"], "top1": row["top1"], "float_tail_top1": top1, "bytes": row["bytes"]}
        for row, top1 in zip(validation["widths"], float_tail, strict=True)
    ]
    if draw_curve(info, out / PLOT):
        info["plot"] = PLOT
    _write_info(out, info)
    (out / "README.md").write_text(model_card(info, recipe))
    return info


def check_target(out: Path) -> None:
    """Raises SlimwireError when ``out`` holds something else than a bundle."""
    if out.exists() and not (out / "bundle.json").is_file() and (out.is_file() or any(out.iterdir())):
        raise SlimwireError(f"{out} is not empty and holds no bundle", remedy="give --out another directory")


def latents_of(headfile: HeadFile, images: Images) -> npt.NDArray[np.float32]:
    """What the tail gets for ``images`` at every width: (widths · N, H, W, C_full) float32."""
    head = Head(headfile)
    height, width, _ = headfile.latent_shape(0)
    parts = []
    for i in range(len(headfile.widths)):
        latent = np.zeros((len(images), height, width, headfile.layers[-1].out_channels), np.float32)
        values = head.run(images, i).reshape(len(images), *headfile.latent_shape(i))
        latent[..., : values.shape[-1]] = values.astype(np.float32) - headfile.center
        parts.append(latent)
    return np.concatenate(parts)


@torch.no_grad()
def _float_tail_top1(
    model: SlimLearner, headfile: HeadFile, x: Images, y: npt.NDArray[np.int64]
) -> list[float]:
    """Top-1 of the integer head with the tail before quantisation, at each width: shows what int8 costs."""
    right = np.zeros(len(headfile.widths), np.int64)
    for start in range(0, len(x), 500):
        latents = torch.from_numpy(latents_of(headfile, x[start : start + 500])).permute(0, 3, 1, 2)
        answers = functional.softmax(model.tail(latents), 1).argmax(1).numpy().reshape(len(right), -1)
        right += (answers == y[start : start + 500]).sum(1)
    return [round(float(count) / len(x), 5) for count in right]


_FILES = {"head": "head.bin", "tail": "tail.tflite"}


def _camera(recipe: Recipe, data: Data, out: Path) -> dict[str, Any]:
    """bundle.json's ``camera``: a file of test images, or which of them to draw from the data set."""
    count = min(recipe.camera_images, len(data.test_x))
    if recipe.camera_draws:
        return {"data": recipe.data, "split": "test", "n": count, "seed": recipe.camera_seed}
    picked = np.random.default_rng(recipe.camera_seed).choice(len(data.test_x), count, replace=False)
    path = out / "camera.npz"
    np.savez_compressed(path, x=data.test_x[picked], y=data.test_y[picked].astype(np.uint8))
    return _named(path)


def _named(path: Path) -> dict[str, Any]:
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _write_info(out: Path, info: dict[str, Any]) -> None:
    (out / "bundle.json").write_text(json.dumps(info, indent=1, ensure_ascii=False) + "\n")
