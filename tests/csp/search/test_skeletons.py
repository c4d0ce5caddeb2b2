"""The bandit over skeletons."""

from __future__ import annotations

import numpy as np
import pytest

from csp.protocols import Skeleton
from csp.search import skeletons as module
from csp.search.skeletons import Skeletons, freedom

ROCK_SALT = Skeleton(225, "Na:a Cl:b")
PYRITE = Skeleton(205, "Fe:a S:c")
QUARTZ = Skeleton(152, "Si:a O:c")


def test_freedom_is_that_of_the_tables() -> None:
    """Rock salt has its volume alone; pyrite u; quartz c/a and one and three coordinates."""
    assert [freedom(one) for one in (ROCK_SALT, PYRITE, QUARTZ)] == [0, 1, 5]
    assert freedom(Skeleton(1, "H:a H:a")) == 5 + 6
    assert freedom(Skeleton(221, "Sr:b Ti:a O:d")) == 0


def test_low_ones_are_favoured_and_none_is_left_out() -> None:
    known = Skeletons()
    groups = [Skeleton(k, "H:a") for k in range(1, 101)]
    known.add((one, -1.0 + 0.01 * k) for k, one in enumerate(groups))
    ranked, odds = known.odds()
    assert ranked == groups
    assert odds.sum() == pytest.approx(1)
    assert (odds > 0).all()
    assert odds[89] / odds[0] > 0.02  # the right one was seen 90th


def test_what_was_tried_and_has_no_freedom_steps_back() -> None:
    known = Skeletons()
    known.add([(ROCK_SALT, -1.0), (QUARTZ, -1.0)] * 6)
    ranked, odds = known.odds()
    p = dict(zip(ranked, odds, strict=True))
    assert p[QUARTZ] > 3 * p[ROCK_SALT]
    assert known.tries[ROCK_SALT] == 6


def test_odds_do_not_depend_on_the_scale_of_energies() -> None:
    one, other = Skeletons(), Skeletons()
    energies = np.random.default_rng(0).normal(size=20)
    one.add((Skeleton(k + 1, "H:a"), e) for k, e in enumerate(energies))
    other.add((Skeleton(k + 1, "H:a"), 40 * e + 7) for k, e in enumerate(energies))
    assert one.odds()[0] == other.odds()[0]
    assert np.array_equal(one.odds()[1], other.odds()[1])


def test_groups_change_by_factors_of_mean_one() -> None:
    known = Skeletons()
    known.add([(ROCK_SALT, -2.0), (PYRITE, -1.0), (QUARTZ, -3.0), (Skeleton(152, "Si:b O:c"), 0.0)])
    weight = known.groups()
    assert list(weight) == [152, 225, 205]
    assert list(weight.values()) == sorted(weight.values(), reverse=True)
    assert np.mean(list(weight.values())) == pytest.approx(1)
    assert Skeletons().groups() == {}
    assert Skeletons().drawn(np.random.default_rng(0), 3) == []


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 7)
    known = Skeletons()
    for k in range(20):
        known.add([(Skeleton(k + 1, "H:a"), float(-k))])
    assert [one.space_group for one in known.ranked()] == list(range(20, 13, -1))
    assert set(known.tries) == set(known.lowest)
