"""The expected improvement against sampling and its limits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from csp.systems.acquisition import PRIOR, PRIOR_SIGMA, expected_gain, prior, spread


@pytest.mark.parametrize(
    ("distance", "sigma", "missed", "lowered"),
    [(0.05, 0.1, 0.3, 0.03), (0.0, 0.02, 0.5, 0.03), (0.1, 0.05, 1.0, 0.05), (0.03, 0.0, 0.3, 0.03)],
)
def test_the_closed_form_is_the_mean_of_draws(
    distance: float, sigma: float, missed: float, lowered: float
) -> None:
    rng = np.random.default_rng(0)
    n = 1_000_000
    x = rng.exponential(lowered, n) * (rng.random(n) < missed)
    draws = np.maximum(0.0, -(distance + sigma * rng.normal(size=n) - x))
    error = draws.std() / math.sqrt(n)
    assert expected_gain(distance, sigma, missed, lowered) == pytest.approx(draws.mean(), abs=5 * error)


def test_limits() -> None:
    assert expected_gain(0.0, 0.1, 0.0, 0.03) == pytest.approx(0.1 / math.sqrt(2 * math.pi))
    assert expected_gain(1.0, 0.01, 0.3, 0.03) < 1e-6
    assert expected_gain(0.02, 1e-9, 0.3, 0.03) == pytest.approx(expected_gain(0.02, 0.0, 0.3, 0.03))
    assert math.isfinite(expected_gain(0.05, 5.0, 0.3, 0.001))


def test_more_is_expected_where_less_is_known() -> None:
    nearer = [expected_gain(d, 0.05, 0.3, 0.03) for d in (0.2, 0.1, 0.05, 0.0)]
    assert nearer == sorted(nearer)
    vaguer = [expected_gain(0.1, s, 0.3, 0.03) for s in (0.01, 0.03, 0.1)]
    assert vaguer == sorted(vaguer)
    emptier = [expected_gain(0.02, 0.05, q, 0.03) for q in (0.0, 0.1, 0.5, 1.0)]
    assert emptier == sorted(emptier)


def test_what_was_seen_takes_the_place_of_the_prior() -> None:
    assert prior("balanced", []) == (PRIOR["balanced"], PRIOR_SIGMA)
    mean, sigma = prior("balanced", [0.3] * 300)
    assert mean == pytest.approx(0.3, abs=0.01)
    assert sigma < 0.02
    assert spread(0.1, []) == pytest.approx(0.1)
    assert spread(0.1, [0.02, -0.02] * 200) == pytest.approx(0.02, abs=0.003)
