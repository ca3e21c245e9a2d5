"""A full network without a bottleneck, whose soft answers the slimmable model learns from."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.blocks import Residual
from training.data import Images, Split, augment, erase

log = logging.getLogger(__name__)


def build_teacher(channels: int, classes: int) -> nn.Module:
    """A small residual network: (N,channels,H,W) in 0..1 → logits (N,classes)."""
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, 1, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        Residual(32, 64, stride=2),
        Residual(64, 64),
        Residual(64, 128, stride=2),
        Residual(128, 128),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(128, classes),
    )


@dataclass(frozen=True)
class TeacherPlan:
    """How the teacher is trained: ``epochs`` of SGD with Nesterov momentum and a one-cycle rate."""

    epochs: int = 12
    batch: int = 128
    rate: float = 0.1
    decay: float = 5e-4
    smoothing: float = 0.1


def to_tensor(x: Images) -> Tensor:
    """(N,H,W,C) uint8 → (N,C,H,W) float32 in 0..1, channels-last in memory."""
    return torch.tensor(x).permute(0, 3, 1, 2).float().div_(255).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def predict(model: nn.Module, x: Images, bf16: bool) -> npt.NDArray[np.float32]:
    """Class probabilities (N,K), averaged over each image and its mirror image."""
    model.eval()
    parts = []
    for start in range(0, len(x), 500):
        batch = to_tensor(x[start : start + 500])
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            both = (model(batch), model(batch.flip(3)))
        parts.append(sum(logits.float().softmax(1) for logits in both) / 2)
    return torch.cat(parts).numpy()


def train_teacher(
    split: Split, plan: TeacherPlan, seed: int, bf16: bool, path: Path
) -> npt.NDArray[np.float32]:
    """Trains (or resumes) the teacher; returns its probabilities on the training images (N,K)."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    classes = int(split.train_y.max()) + 1
    model = build_teacher(split.train_x.shape[-1], classes).to(memory_format=torch.channels_last)
    steps = len(split.train_x) // plan.batch
    optimiser = torch.optim.SGD(
        model.parameters(), plan.rate, momentum=0.9, nesterov=True, weight_decay=plan.decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, plan.rate, total_steps=plan.epochs * steps, pct_start=0.2
    )
    first = 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
        first = saved["epoch"]
    for epoch in range(first, plan.epochs):
        started = time.monotonic()
        model.train()
        order = rng.permutation(len(split.train_x))
        for step in range(steps):
            pick = order[step * plan.batch : (step + 1) * plan.batch]
            x = augment(split.train_x[pick], rng, shift=2, flip=True)
            erase(x, rng, share=0.5, largest=12)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = model(to_tensor(x))
            target = torch.from_numpy(split.train_y[pick])
            loss = functional.cross_entropy(logits.float(), target, label_smoothing=plan.smoothing)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
        top1 = float((predict(model, split.valid_x, bf16).argmax(1) == split.valid_y).mean())
        seconds = time.monotonic() - started
        left = seconds * (plan.epochs - epoch - 1) / 60
        log.info(
            "teacher epoch %d/%d: validation top-1 %.4f, %.0f min left", epoch + 1, plan.epochs, top1, left
        )
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
        torch.save({**state, "schedule": schedule.state_dict(), "epoch": epoch + 1, "top1": top1}, path)
    return predict(model, split.train_x, bf16)
