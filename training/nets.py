"""The networks on the server's side: residual stages, the teacher, the tail."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from training.recipe import Stages


class Residual(nn.Module):
    """Two 3×3 convolutions with batch norm and a shortcut: (N,C,H,W) → (N,C',H/stride,W/stride)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(out_channels), nn.BatchNorm2d(out_channels)])
        nn.init.zeros_(self.norms[1].weight)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norms[0](self.first(x)))
        out: Tensor = functional.relu(self.norms[1](self.second(y)) + self.shortcut(x))
        return out


def residual_stages(stages: Stages) -> list[nn.Module]:
    """One module for each (channels, blocks); every stage but the first starts with stride 2."""
    modules: list[nn.Module] = []
    before = stages[0][0]
    for number, (channels, blocks) in enumerate(stages):
        parts: list[nn.Module] = []
        for block in range(blocks):
            parts.append(Residual(before, channels, 2 if number and not block else 1))
            before = channels
        modules.append(nn.Sequential(*parts))
    return modules


def stem(in_channels: int, channels: int) -> nn.Sequential:
    """A 3×3 convolution with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
    )


class Teacher(nn.Module):
    """A full network without a bottleneck: images (N,C,H,W) in 0..1 → logits (N,K)."""

    def __init__(self, in_channels: int, stages: Stages, classes: int) -> None:
        super().__init__()
        self.stem = stem(in_channels, stages[0][0])
        self.stages = nn.ModuleList(residual_stages(stages))
        self.answer = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(stages[-1][0], classes)
        )

    def with_features(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(logits (N,K), each stage's output (N,C,H/2^stage,W/2^stage))."""
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        logits: Tensor = self.answer(x)
        return logits, features

    def forward(self, x: Tensor) -> Tensor:
        return self.with_features(x)[0]


class Tail(nn.Module):
    """The server's part: latent values (N,C_full,H,W), absent channels 0 → logits (N,K)."""

    def __init__(
        self, latent_channels: int, stages: Stages, classes: int, dropout: float, scale: int = 1
    ) -> None:
        super().__init__()
        first, *rest = residual_stages(stages)
        enlarge = [nn.Upsample(scale_factor=scale, mode="nearest")] if scale > 1 else []
        self.entry = nn.Sequential(stem(latent_channels, stages[0][0]), *enlarge, first)
        self.rest = nn.Sequential(
            *rest,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(stages[-1][0], classes),
        )

    def with_features(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """(logits (N,K), the first stage's output (N,C,H,W), which learns to match the teacher's)."""
        features = self.entry(latent)
        logits: Tensor = self.rest(features)
        return logits, features

    def forward(self, latent: Tensor) -> Tensor:
        return self.with_features(latent)[0]


class ResNet8(nn.Module):
    """MLPerf Tiny's image classifier: (N,C,H,W) in 0..1 → logits (N,K); 78 k weights, 12.5 MMAC at 32×32."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            stem(in_channels, 16),
            *residual_stages(((16, 1), (32, 1), (64, 1))),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits
