"""The odds of a space group and a number of formula units, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from csp.library.library import Library
from csp.target import Target
from generators.random_symmetric.space_group_prior import SMOOTHING, library_prior, model_weight
from generators.random_symmetric.wyckoff_combinations import WyckoffCombinations


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.open()


def test_frequencies_are_counts_with_some_of_all_groups(library):
    target = Target.parse("NaCl", max_atoms=16)
    space = WyckoffCombinations(target)
    p = library_prior(library, target, space.z, space.weight > 0)
    assert p.sum() == pytest.approx(1.0)
    assert (p[space.weight == 0] == 0).all()
    assert (p[space.weight > 0] > 0).all()
    rows = library.rows((1, 1))
    z = library.n_primitive(rows) // 2
    own, other = ((library.space_group[rows] == 225) & (z == 1)).sum(), (z <= 8).sum()
    assert own < p[225, 0] * (other + SMOOTHING) < own + SMOOTHING
    # nothing of the ratio: the frequencies of all groups, and small cells first
    rare = Target.parse("Na7Cl9", max_atoms=32)
    space = WyckoffCombinations(rare)
    p = library_prior(library, rare, space.z, space.weight > 0)
    overall = np.bincount(library.space_group, minlength=231) + 1.0
    assert p[1, 0] / p[1, 1] == pytest.approx(2.0)
    assert p[1, 0] / p[2, 0] == pytest.approx(overall[1] / overall[2])


def test_the_model_is_heard_for_small_formula_units_and_small_libraries():
    sizes = np.array([1, 20, 100])
    share = model_weight(sizes, 10**9)
    np.testing.assert_allclose(share, [1.0, 0.5, 1 / 126], atol=1e-3)
    assert (model_weight(sizes, 0) == 1.0).all()
    assert 0.5 < model_weight(20, 3000) == pytest.approx(0.75)
