"""Densities that integrate to one, and draws that follow them."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from generators.random_streams import Streams
from generators.space_group.mixtures import VON_MISES_DRAWS, GaussianMixture, VonMisesMixture


def uniform(n: int, k: int) -> torch.Tensor:
    return Streams.of(0, "test", torch.arange(n)).uniform(k)


def test_von_mises_is_scipys_and_integrates_to_one():
    torch.manual_seed(0)
    mixture = VonMisesMixture.of(3 * torch.randn(6, 4 * 5, dtype=torch.float64))
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    density = mixture.log_prob(u[:, None]).exp()
    torch.testing.assert_close(density.mean(0), torch.ones(6, dtype=torch.float64), rtol=0, atol=1e-9)
    own = [
        sum(
            math.exp(w) * 2 * math.pi * stats.vonmises.pdf(2 * math.pi * u[::100].numpy(), k, loc=m)
            for w, m, k in zip(
                *(x[0].tolist() for x in (mixture.log_weight, mixture.mean, mixture.kappa)), strict=True
            )
        )
    ]
    torch.testing.assert_close(density[::100, 0], torch.as_tensor(own[0]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_von_mises_draws(temperature):
    n = 20_000
    weight, mean, kappa = (
        torch.tensor([0.6, 0.3, 0.1]).log(),
        torch.tensor([0.1, 3.0, -2.0]),
        torch.tensor([0.05, 8.0, 900.0]),
    )
    mixture = VonMisesMixture(*(x.expand(n, -1) for x in (weight, mean, kappa)))
    drawn = mixture.sample(uniform(n, VON_MISES_DRAWS), temperature).numpy()
    cooled = (weight / temperature).softmax(0).tolist()
    edges = torch.arange(0, 1.01, 0.05).numpy()
    expected = sum(
        w * (stats.vonmises.cdf(2 * math.pi * edges - m, k / temperature))
        for w, m, k in zip(cooled, mean.tolist(), kappa.tolist(), strict=True)
    )
    counts = torch.histc(torch.from_numpy(drawn), 20, 0.0, 1.0).numpy()
    wanted = n * (expected[1:] - expected[:-1])
    assert ((counts - wanted) ** 2 / wanted.clip(1)).sum() < 50  # χ² of 20 bins: 50 once in 10⁴


def test_gaussians_integrate_to_one_and_are_drawn():
    torch.manual_seed(1)
    mixture = GaussianMixture.of(torch.randn(1, 3 * 5, dtype=torch.float64), 2)
    axis = torch.linspace(-12, 12, 1201, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    density = mixture.log_prob(grid, torch.ones(2, dtype=torch.float64)).exp()
    assert float(density.sum()) * 0.02**2 == pytest.approx(1.0, abs=1e-6)
    first = mixture.log_prob(
        torch.stack([axis, 7 + 0 * axis], 1), torch.tensor([1.0, 0.0], dtype=torch.float64)
    )
    assert float(first.exp().sum()) * 0.02 == pytest.approx(1.0, abs=1e-6)  # what is not free does not count
    n = 20_000
    many = GaussianMixture(
        *(x.expand(n, *x.shape[1:]) for x in (mixture.log_weight, mixture.mean, mixture.log_sigma))
    )
    drawn = many.sample(uniform(n, 3))
    weight = mixture.log_weight.exp()[0]
    mean = weight @ mixture.mean[0]
    variance = weight @ (mixture.mean[0] ** 2 + (2 * mixture.log_sigma[0]).exp()) - mean**2
    assert ((drawn.mean(0) - mean).abs() < 5 * (variance / n).sqrt()).all()
    torch.testing.assert_close(drawn.var(0), variance, rtol=0.05, atol=0)
