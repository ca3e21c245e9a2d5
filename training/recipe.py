"""What a training recipe is made of. A recipe is configuration only; `training.loop` carries it out."""

from __future__ import annotations

from dataclasses import dataclass, field

CONV, DEPTHWISE, POINTWISE = 0, 1, 2
"""Operators of the head, numbered as in head.bin."""


@dataclass(frozen=True)
class Layer:
    """One head layer: operator, stride, output channels at each width, ReLU or (the latent) linear."""

    op: int
    stride: int
    channels: tuple[int, ...]
    relu: bool = True


@dataclass(frozen=True)
class Target:
    """The coded bytes a width aims at: their mean, and the most that its frames hold."""

    mean: float
    limit: float


@dataclass(frozen=True)
class Recipe:
    """A data set, the shape of head and tail, byte targets, and how long and fast to learn.

    ``input`` is (height, width, channels) of the uint8 image; ``widths`` name the shares of the full head,
    narrowest first; ``levels`` symbols per latent value, of which ``center`` stands for 0.
    """

    name: str
    data: str
    input: tuple[int, int, int]
    widths: tuple[float, ...]
    layers: tuple[Layer, ...]
    targets: tuple[Target, ...]
    tail_channels: tuple[int, int]
    levels: int = 16
    center: int = 8
    tables: int = 4
    validation: int = 5000
    epochs: int = 38
    batch: int = 128
    rate: float = 2e-3
    weight_decay: float = 0.02
    dropout: float = 0.1
    ramp: float = 0.3
    """Share of the training over which byte targets fall from ``ramp_from`` times to their final value."""
    ramp_from: float = 2.0
    settle: float = 0.12
    """Share of the training, at its end, in which batch-norm statistics stay as they are."""
    distill: float = 0.7
    shift: int = 2
    flip: bool = True
    teacher_epochs: int = 12
    camera_images: int = 512
    camera_seed: int = 2026
    notes: tuple[str, ...] = field(default=())

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the latent."""
        height, width, _ = self.input
        for layer in self.layers:
            height, width = -(-height // layer.stride), -(-width // layer.stride)
        return height, width
