"""The estimate of what is unseen against published numbers and against searches whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from csp.search.completeness import completeness


def test_chao_as_scikit_bio_has_it() -> None:
    """Numbers of scikit-bio 0.7 (chao1, chao1_ci, goods_coverage), which follows EstimateS."""
    for counts, total, interval, turing in (
        ([0, 1, 1, 4, 2, 5, 2, 4, 1, 2], 9.75, (9.066559447515466, 17.45109178331596), 0.8636363636363636),
        ([1, 1, 1, 4, 5], 8.0, (5.369121767830802, 29.38219792045809), 0.75),
        ([1, 1, 1, 1, 1, 2, 2, 3], 34 / 3, (8.503451367863505, 30.069879675296733), 0.5833333333333333),
        ([1, 5, 6], 3.0, (3.0, 3.0), 11 / 12),
        ([2, 2, 3, 9], 4.0, (4.0, 4.610069879126643), 1.0),
    ):
        found = completeness(counts)
        assert found.seen + found.unseen == pytest.approx(total)
        assert 1 - found.once / found.finds == pytest.approx(turing)
        assert found.seen + found.unseen_low == pytest.approx(interval[0], rel=1e-5)
        if counts != [1, 5, 6]:  # where one was found once, scikit-bio gives no width
            assert found.seen + found.unseen_high == pytest.approx(interval[1], rel=1e-4)


def test_little_evidence_is_no_certainty() -> None:
    assert completeness([]).share == 0
    assert completeness([0, 0]).share == 0
    assert completeness([1]).share == 0  # one crystal, seen once: the next may be another
    assert completeness([2]).share == pytest.approx(2 / 3)
    assert completeness([9]).share == pytest.approx(0.9)
    assert completeness([40, 30]).share == pytest.approx(70 / 71)


def test_what_only_moves_found_below_all_draws_is_unseen_by_them() -> None:
    counts = [5, 4, 6, 3]
    assert completeness([*counts, 0, 0]) == completeness(counts)
    missed = completeness([0, *counts], missed=1)
    assert missed.share == pytest.approx(4 / 5)
    assert missed.interval[0] <= missed.share <= missed.interval[1]


@pytest.mark.parametrize("spread", [0.0, 1.0, 2.0])
def test_simulated_searches(spread: float) -> None:
    """40 low crystals whose odds to be drawn have this logarithmic spread, searched 400 times each.

    Where all are as likely to be drawn, what is told is on average the share of them that is found, and with
    it the probability that the lowest is; and the interval of their number holds it. Where odds differ the
    share of the low finds to come that are known already bounds what is told from above.
    """
    rng = np.random.default_rng(1)
    for n in (20, 60, 200):
        told, true, mass, held, lowest = [], [], [], [], []
        for _ in range(400):
            odds = np.exp(spread * rng.normal(size=40))
            counts = rng.multinomial(n, odds / odds.sum())
            found = completeness(counts.tolist())
            told.append(found.share)
            true.append((counts > 0).mean())
            mass.append(odds[counts > 0].sum() / odds.sum())
            lowest.append(counts[rng.integers(40)] > 0)
            held.append(found.seen + found.unseen_low <= 40 <= found.seen + found.unseen_high)
        assert np.mean(true) == pytest.approx(np.mean(lowest), abs=0.06)
        if spread == 0:
            assert np.mean(told) <= np.mean(true) + 0.02
            assert n == 200 or np.mean(held) > 0.9
        assert np.mean(told) <= np.mean(mass) + 0.02


def test_the_share_grows_with_the_search() -> None:
    rng = np.random.default_rng(2)
    draws = rng.integers(12, size=300)
    shares = [completeness(np.bincount(draws[:n], minlength=12).tolist()).share for n in (10, 40, 100, 300)]
    assert shares == sorted(shares)
    assert shares[-1] > 0.99
