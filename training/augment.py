"""Label-keeping augmentation on whatever device the images lie: moves, mirrors, erased rectangles."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Views:
    """Which window of which images: the same views can be taken of several versions of a data set.

    ``pick`` (N,) image numbers, ``top`` and ``left`` (N,) offsets into the padded image, ``mirror`` (N,)
    bool.
    """

    pick: Tensor
    top: Tensor
    left: Tensor
    mirror: Tensor

    @classmethod
    def draw(cls, pick: Tensor, shift: int, flip: bool, generator: torch.Generator) -> Views:
        """Random views: moved by up to ``shift`` pixels, and half of them mirrored if ``flip``."""
        n, device = len(pick), pick.device
        top, left = torch.randint(0, 2 * shift + 1, (2, n), device=device, generator=generator)
        mirror = torch.rand(n, device=device, generator=generator) < (0.5 if flip else 0.0)
        return cls(pick, top, left, mirror)

    def of(self, padded: Tensor, height: int, width: int) -> Tensor:
        """These views of padded images (M,H+2s,W+2s,C) uint8: (N,C,H,W) float32 in 0..255."""
        rows = self.top[:, None] + torch.arange(height, device=self.top.device)
        across = torch.arange(width, device=self.top.device).expand(len(self.pick), width)
        across = torch.where(self.mirror[:, None], width - 1 - across, across)
        columns = self.left[:, None] + across
        views = padded[self.pick[:, None, None], rows[:, :, None], columns[:, None, :]]
        return views.permute(0, 3, 1, 2).float()


def pad(images: Tensor, shift: int) -> Tensor:
    """(M,H,W,C) uint8 with a black border of ``shift`` pixels."""
    return torch.nn.functional.pad(images, (0, 0, shift, shift, shift, shift))


def erase(x: Tensor, share: float, largest: int, generator: torch.Generator) -> Tensor:
    """(N,C,H,W) with a random rectangle of sides up to ``largest`` blackened in ``share`` of the images."""
    n, _, height, width = x.shape
    edges = []
    for size in (height, width):
        side = torch.randint(2, min(largest, size) + 1, (n,), device=x.device, generator=generator)
        free = (size - side + 1).float()
        start = (torch.rand(n, device=x.device, generator=generator) * free).long()
        place = torch.arange(size, device=x.device)
        edges.append((place >= start[:, None]) & (place < (start + side)[:, None]))
    touched = torch.rand(n, device=x.device, generator=generator) < share
    gone = edges[0][:, :, None] & edges[1][:, None, :] & touched[:, None, None]
    return x.masked_fill(gone[:, None], 0.0)
