"""Kendall's τ against its definition, where the best crystal comes, bootstrap intervals against theory."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from benchmarks.rank_metrics import LOW, interval, ordered


def tau_b(x: np.ndarray, y: np.ndarray) -> float:
    """Kendall, Biometrika 33, 239 (1945), pair by pair."""
    agreeing = ties_x = ties_y = 0
    pairs = list(itertools.combinations(range(len(x)), 2))
    for i, j in pairs:
        agreeing += int(np.sign(x[i] - x[j]) * np.sign(y[i] - y[j]))
        ties_x += x[i] == x[j]
        ties_y += y[i] == y[j]
    return agreeing / math.sqrt((len(pairs) - ties_x) * (len(pairs) - ties_y))


def test_tau_is_kendalls() -> None:
    rng = np.random.default_rng(0)
    teacher = rng.normal(size=40)
    scores = np.round(teacher + rng.normal(size=40), 1)  # with ties
    found = ordered(scores, teacher)
    low = teacher <= teacher.min() + LOW
    assert found.tau == pytest.approx(tau_b(scores, teacher))
    assert found.n_low == low.sum()
    assert found.tau_low is None or found.tau_low == pytest.approx(tau_b(scores[low], teacher[low]))


def test_low_energies_have_an_order_of_their_own() -> None:
    """Right at large, upside down among the lowest six."""
    teacher = np.concatenate([np.linspace(0.0, 0.25, 6), np.linspace(1.0, 3.0, 30)])
    scores = teacher.copy()
    scores[:6] = scores[:6][::-1]
    found = ordered(scores, teacher)
    assert (found.n_low, found.tau_low, found.best_at) == (6, pytest.approx(-1.0), 6)
    assert found.tau > 0.9
    assert ordered(scores[4:], teacher[4:]).tau_low is None  # two crystals have no order worth asking for


def test_ties_are_not_to_a_models_credit() -> None:
    teacher = np.arange(10.0)
    assert ordered(np.zeros(10), teacher) == ordered(np.full(10, 7.0), teacher)
    assert ordered(np.zeros(10), teacher).tau == 0.0
    assert ordered(np.zeros(10), teacher).best_at == 10
    assert ordered(teacher, teacher).best_at == 1


def test_intervals_are_those_of_normal_theory() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 500)
    low, high = interval(values)
    expected = 1.96 * values.std() / math.sqrt(500)
    assert (high - low) / 2 == pytest.approx(expected, rel=0.1)
    assert (high + low) / 2 == pytest.approx(values.mean(), abs=0.2 * expected)


def test_groups_are_drawn_together() -> None:
    """Nine copies of each value say no more than one: the interval stays, and does not shrink by three."""
    values = np.random.default_rng(2).normal(size=200)
    copies, groups = np.repeat(values, 9), np.repeat(np.arange(200).astype(str), 9)
    alone, together = interval(values), interval(copies, groups)
    assert together[1] - together[0] == pytest.approx(alone[1] - alone[0], rel=0.1)
    free = interval(copies)
    assert 3 * (free[1] - free[0]) == pytest.approx(alone[1] - alone[0], rel=0.1)


def test_an_infinite_value_stays_infinite() -> None:
    values = np.array([1.0] * 11 + [math.inf] * 9)
    low, high = interval(values, statistic=np.median)
    assert low == 1.0
    assert high == math.inf
