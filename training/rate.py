"""The coder's cost, learned with the head: few tables a width, chosen by a (position, channel) map.

What is trained against is what ships: symbol counts of each latent place are kept as a running average,
clustered into the width's coder tables, and the price of a latent value is what those tables charge,
interpolated between symbols so that it has a gradient. This takes the place of the factorised prior of
Entropic Student (arXiv 2108.11898).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

TOTAL = 4096
"""Sum of a table's frequencies: rANS has 12-bit probabilities."""


def fit_tables(
    counts: npt.NDArray[np.float64], tables: int, rounds: int = 30, start: npt.NDArray[np.int64] | None = None
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    """Clusters places by symbol distribution, minimising the coded size (Kullback–Leibler k-means).

    ``counts`` (n, levels): how often each symbol came at each place; ``start`` (n,): a clustering to go on
    from. Returns frequencies uint16 (tables, levels), each ≥ 1 and summing to 4096, and the map uint8 (n,).
    """
    p = counts / counts.sum(1, keepdims=True).clip(1e-12)
    entropy = -(p * np.log2(p + 1e-12)).sum(1)
    if start is None:
        start = (np.argsort(np.argsort(entropy, kind="stable"), kind="stable") * tables) // len(p)
    index = start
    for _ in range(rounds):
        pooled = np.stack(
            [counts[index == t].sum(0) if (index == t).any() else counts.sum(0) for t in range(tables)]
        )
        q = pooled + 1e-3 * pooled.sum(1, keepdims=True) / pooled.shape[1] + 1e-9
        q /= q.sum(1, keepdims=True)
        closest = (p @ -np.log2(q).T).argmin(1)
        if (closest == index).all():
            break
        index = closest
    pooled = np.stack(
        [counts[index == t].sum(0) if (index == t).any() else counts.sum(0) for t in range(tables)]
    )
    return np.stack([frequencies(row) for row in pooled]), index.astype(np.uint8)


def fit_best_tables(
    counts: npt.NDArray[np.float64], tables: int, restarts: int = 16
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    """`fit_tables` from several starts, of which the cheapest clustering counts: for what ships."""
    rng = np.random.default_rng(0)
    found = [fit_tables(counts, tables)]
    for _ in range(restarts):
        found.append(fit_tables(counts, tables, rounds=60, start=rng.integers(0, tables, len(counts))))
    return min(found, key=lambda fit: coded_bits(counts, *fit))


def coded_bits(
    counts: npt.NDArray[np.float64], freqs: npt.NDArray[np.uint16], index: npt.NDArray[np.uint8]
) -> float:
    """What coder tables charge for symbols that came so often at each place (n, levels), in bits."""
    return float((counts * -np.log2(freqs[index] / TOTAL)).sum())


def frequencies(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
    """Rounds counts (levels,) to frequencies ≥ 1 that sum to 4096, at the least cost in coded bits."""
    share = counts.astype(np.float64) / max(float(counts.sum()), 1e-12)
    freq = np.maximum(1, np.floor(share * (TOTAL - len(counts))) + 1).astype(np.int64)
    while freq.sum() != TOTAL:
        if freq.sum() < TOTAL:
            freq[np.argmax(share * np.log2((freq + 1) / freq))] += 1
        else:
            cost = np.where(freq > 1, share * np.log2(freq / np.maximum(freq - 1, 1)), np.inf)
            freq[np.argmin(cost)] -= 1
    return freq.astype(np.uint16)


class RatePrior(nn.Module):
    """Running symbol counts of one width's latent places, and what its coder tables charge.

    ``places`` latent values of ``levels`` symbols each, ``center`` the symbol of value 0.
    """

    counts: Tensor
    cost: Tensor
    index: Tensor

    def __init__(self, places: int, levels: int, center: int, tables: int) -> None:
        super().__init__()
        self.levels, self.center, self.tables = levels, center, tables
        spread = torch.exp(-(torch.arange(levels) - center).abs().float() / 1.5)
        self.register_buffer("counts", (spread / spread.sum()).repeat(places, 1))
        self.register_buffer("cost", (-(spread / spread.sum()).log2()).repeat(places, 1))
        self.register_buffer("index", torch.zeros(places, dtype=torch.long))
        self.register_buffer("row", torch.arange(places) * levels, persistent=False)

    @torch.no_grad()
    def observe(self, symbols: Tensor, decay: float = 0.99) -> None:
        """Takes the symbols (N, places), int64 in 0..levels−1, of one batch into the running average."""
        flat = (symbols + self.get_buffer("row")).flatten()
        seen = torch.zeros(self.counts.numel(), device=flat.device)
        seen.scatter_add_(0, flat, torch.ones_like(flat, dtype=torch.float32))
        self.counts.mul_(decay).add_(seen.view_as(self.counts), alpha=(1 - decay) / len(symbols))

    @torch.no_grad()
    def refit(self) -> None:
        """Clusters the counts into tables again and takes their price list into use.

        One clustering goes on from the last, one starts by entropy, one at random; the cheapest counts.
        """
        p = self.counts / self.counts.sum(1, keepdim=True).clamp_min(1e-12)
        entropy = -(p * (p + 1e-12).log2()).sum(1)
        fresh = entropy.argsort().argsort() * self.tables // len(p)
        random = torch.randint(self.tables, (len(p),), device=p.device)
        found = [self._cluster(p, start) for start in (self.index, fresh, random)]
        bits = torch.stack([(p * prices[index]).sum() for index, prices in found])
        better = bits.argmin()
        self.index.copy_(torch.stack([index for index, _ in found])[better])
        prices = torch.stack([prices for _, prices in found])[better]
        # an unused symbol stays affordable while the head is learning
        q = 0.998 * torch.exp2(-prices) + 0.002 / self.levels
        self.cost.copy_(-q.log2()[self.index])

    def _cluster(self, p: Tensor, index: Tensor, rounds: int = 8) -> tuple[Tensor, Tensor]:
        """Kullback–Leibler k-means: (map (places,), prices in bits (tables, levels))."""
        prices = p.new_zeros(self.tables, self.levels)
        for _ in range(rounds):
            pooled = p.new_zeros(self.tables, self.levels).index_add_(0, index, p)
            pooled = pooled + 1e-3 * pooled.sum(1, keepdim=True) / self.levels
            empty = pooled.sum(1, keepdim=True) < 1e-6
            q = torch.where(empty, p.mean(0), pooled)
            prices = -(q / q.sum(1, keepdim=True)).log2()
            index = (p @ prices.T).argmin(1)
        return index, prices

    def bits(self, latent: Tensor) -> Tensor:
        """Price in bits of real-valued latents (N, places), with gradients; returns (N,)."""
        noisy = latent + (torch.rand_like(latent) - 0.5) if self.training else latent
        x = noisy + self.center
        below = x.detach().floor().clamp(0, self.levels - 2)
        flat = below.long() + self.get_buffer("row")
        prices = self.cost.flatten()
        low, high = prices[flat], prices[flat + 1]
        out: Tensor = (low + (high - low) * (x - below)).sum(1)
        return out

    @torch.no_grad()
    def symbol_bits(self, symbols: Tensor) -> Tensor:
        """Price in bits of symbols (N, places); returns (N,)."""
        out: Tensor = self.cost.flatten()[symbols + self.get_buffer("row")].sum(1)
        return out
