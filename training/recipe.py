"""What a training recipe is made of. A recipe is configuration only; `training.loop` carries it out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

CONV, DEPTHWISE, POINTWISE = 0, 1, 2
"""Operators of the head, numbered as in head.bin."""

Stages = tuple[tuple[int, int], ...]
"""A residual network as (channels, blocks) of each resolution; every stage but the first halves it."""


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
    tail: Stages
    teacher: Stages
    tail_scale: int = 1
    """How many times the tail enlarges the latent's grid before its first stage: 1 or 2."""
    members: int = 1
    """Encoders whose latents are summed (a slimmable ensemble), or 1: widths are slices of one encoder."""
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
    price_gain: float = 0.006
    """How fast a width's price of a byte follows the logarithmic error of its rate, a step of 128 images."""
    settle: float = 0.12
    """Share of the training, at its end, in which batch-norm statistics stay as they are."""
    distill: float = 0.7
    refine_epochs: int = 0
    """Epochs in which head and tail learn together, after the stages."""
    refine_rate: float = 1e-3
    refine_batch: int = 128
    trim: Target | None = None
    """What the widest width is taken to after everything else, by what it alone uses; None: not done."""
    trim_epochs: int = 2
    trim_rate: float = 2e-3
    sandwich: bool = True
    """Widest, narrowest and one width between in every step; otherwise every width."""
    shift: int = 2
    flip: bool = True
    teacher_epochs: int = 12
    teacher_rate: float = 0.1
    erase: int = 12
    """Largest side of the rectangle that half of the teacher's images miss."""
    camera_images: int = 512
    camera_draws: bool = False
    """Whether the bundle names its camera images in the data set, as they may not be passed on."""
    heap_kib: int = 64
    licence: str = "Apache-2.0"
    camera_seed: int = 2026
    limits: str = ""
    """What a reader of the model card should not expect of the model."""
    notes: tuple[str, ...] = field(default=())

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the latent."""
        height, width, _ = self.input
        for layer in self.layers:
            height, width = -(-height // layer.stride), -(-width // layer.stride)
        return height, width

    @property
    def stride(self) -> int:
        """How many pixels of the image one place of the latent stands for, along one side."""
        total = 1
        for layer in self.layers:
            total *= layer.stride
        return total

    def only(self, width: int) -> Recipe:
        """The recipe of an independent head: this width's shape and target, and no other width."""
        layers = tuple(replace(layer, channels=(layer.channels[width],)) for layer in self.layers)
        return replace(self, widths=(1.0,), layers=layers, targets=(self.targets[width],), members=1)


@dataclass(frozen=True)
class Rivals:
    """What a recipe is compared with: codec qualities, channels of the int8 bottleneck, the ensemble."""

    jpeg: tuple[int, ...]
    webp: tuple[int, ...]
    bottleneck: tuple[int, ...]
    ensemble: tuple[Layer, ...]
    members: int = 4

    @property
    def sources(self) -> list[tuple[str, int]]:
        """(codec, quality) of every version of the images."""
        return [("jpeg", q) for q in self.jpeg] + [("webp", q) for q in self.webp]
