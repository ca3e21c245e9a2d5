"""Coder tables: valid, no dearer than one table for all, and priced as charged."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch (pip install 'slimwire[train]')")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from training.rate import TOTAL, RatePrior, coded_bits, fit_best_tables, fit_tables, frequencies  # noqa: E402


@given(st.lists(st.integers(0, 100_000), min_size=2, max_size=32))
def test_frequencies_are_valid_for_any_counts(counts):
    freq = frequencies(np.array(counts, float))
    assert freq.sum() == TOTAL
    assert freq.min() >= 1


def test_frequencies_round_at_little_cost():
    counts = np.array([9000.0, 800, 150, 40, 9, 1, 0, 0])
    share = counts / counts.sum()
    entropy = -(share[share > 0] * np.log2(share[share > 0])).sum()
    cost = -(share * np.log2(frequencies(counts) / TOTAL)).sum()
    assert entropy <= cost < 1.005 * entropy


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(4, 60))
def test_several_tables_are_no_dearer_than_one(seed, tables, places):
    rng = np.random.default_rng(seed)
    kinds = rng.dirichlet(np.ones(8) / 2, 3)
    counts = np.stack([rng.multinomial(200, kinds[rng.integers(3)]) for _ in range(places)]).astype(float)
    freqs, index = fit_tables(counts, tables)
    assert freqs.shape == (tables, 8)
    assert index.shape == (places,)
    one, everywhere = fit_tables(counts, 1)
    # a rounding of frequencies to 4096ths may cost a thousandth
    assert coded_bits(counts, freqs, index) <= 1.001 * coded_bits(counts, one, everywhere) + 1


def test_more_starts_are_no_dearer_than_one():
    rng = np.random.default_rng(2)
    kinds = rng.dirichlet(np.ones(8) / 3, 6)
    counts = np.stack([rng.multinomial(300, kinds[rng.integers(6)]) for _ in range(80)]).astype(float)
    best, one = fit_best_tables(counts, 4), fit_tables(counts, 4)
    assert coded_bits(counts, *best) <= coded_bits(counts, *one)
    assert all((a == b).all() for a, b in zip(best, fit_best_tables(counts, 4), strict=True)), (
        "not repeatable"
    )


def test_places_of_a_kind_share_a_table():
    rng = np.random.default_rng(0)
    kinds = np.array([[0.9, 0.05, 0.03, 0.02], [0.1, 0.2, 0.3, 0.4]])
    which = rng.integers(0, 2, 40)
    counts = np.stack([rng.multinomial(500, kinds[kind]) for kind in which]).astype(float)
    _, index = fit_tables(counts, 2)
    assert len({int(index[i]) for i in np.flatnonzero(which == 0)}) == 1
    assert index[which == 0][0] != index[which == 1][0]


@pytest.fixture
def prior():
    torch.manual_seed(0)
    prior = RatePrior(places=10, levels=8, center=4, tables=2)
    symbols = torch.distributions.Binomial(7, torch.tensor([0.5])).sample((400, 10)).squeeze(-1).long()
    for start in range(0, 400, 40):
        prior.observe(symbols[start : start + 40], decay=0.5)
    prior.refit()
    return prior


def test_a_latent_on_the_grid_is_priced_as_its_symbol(prior):
    symbols = torch.randint(0, 8, (20, 10))
    latent = (symbols - 4).float()
    assert torch.allclose(prior.eval().bits(latent), prior.symbol_bits(symbols), atol=1e-4)


def test_the_price_pulls_rare_values_towards_common_ones(prior):
    latent = torch.full((1, 10), 3.0, requires_grad=True)
    prior.eval().bits(latent).sum().backward()
    assert (latent.grad > 0).all()
    latent = torch.full((1, 10), -3.5, requires_grad=True)
    prior.bits(latent).sum().backward()
    assert (latent.grad < 0).all()


def test_prices_follow_what_was_observed(prior):
    ones = torch.full((64, 10), 7)
    before = prior.symbol_bits(ones[:1])
    for _ in range(20):
        prior.observe(ones, decay=0.5)
    prior.refit()
    assert prior.symbol_bits(ones[:1]) < 0.1 < before
