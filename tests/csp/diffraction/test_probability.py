"""The probabilities in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from csp.diffraction.identify import Comparison
from csp.diffraction.probability import EVIDENCE, PatternProbability, evidence, log_prior


def test_odds() -> None:
    probability = PatternProbability((2.0, 0.0, 0.0), 1.0)
    p = probability(np.array([[1.0, 5, 5], [0.5, 5, 5]]))
    odds = np.exp([2.0, 1.0, 1.0])
    assert p == pytest.approx((odds / odds.sum())[:2])


def test_prior_has_the_mean_one() -> None:
    prior = log_prior(np.array([0.0, 0.03, 0.3]))
    assert np.exp(prior).mean() == pytest.approx(1)
    assert prior[0] - prior[1] == pytest.approx(1)


def test_evidence_of_nothing_is_nothing() -> None:
    assert evidence([Comparison(1.0)]).tolist() == [[0.0, 0.0, 0.0]]
    assert evidence([]).shape == (0, len(EVIDENCE))
    assert PatternProbability.load()(evidence([])).tolist() == []


def test_weights_that_ship_want_a_good_fit() -> None:
    shipped = PatternProbability.load()
    assert min(shipped.weights) >= 0
    good, bad = Comparison(0.3, None, 0.2, 0.1, 0.9, 0.05), Comparison(0.95, None, 0.95, 0.4, 0.1, 0.4)
    assert shipped(evidence([good, bad, bad]))[0] > 0.9
    assert shipped(evidence([bad, bad])).sum() < 0.3
