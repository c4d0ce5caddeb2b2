"""The mask of letters against exhaustive enumeration and the partition function."""

from __future__ import annotations

import numpy as np
import pytest

from csp.crystallography.wyckoff import wyckoff_table
from csp.target import Target
from generators.random_symmetric.wyckoff_combinations import SITE_WEIGHT, WyckoffCombinations
from generators.space_group.letters import State, Walks, allowed, begin, possible, step

TABLE = wyckoff_table()


def leaves(state: State) -> int:
    """Complete assignments that can be reached, weighted as the partition function weights them."""
    if not state.left:
        return 1
    bits = allowed(state)
    assert bits, f"dead end at {state}"
    return sum(SITE_WEIGHT * leaves(step(state, k)) for k in range(27) if bits >> k & 1)


@pytest.mark.parametrize(
    ("formula", "group", "z"),
    [
        ("CaCO3", 167, 2),
        ("SrTiO3", 221, 1),
        ("NaCl", 2, 2),
        ("TiO2", 136, 2),
        ("Li2O", 47, 1),
        ("Al2MgO4", 227, 2),
        ("SrTiO3", 99, 2),
        ("C", 166, 4),
        ("Cu2O", 129, 2),
    ],
)
def test_every_assignment_is_drawn_and_no_other(formula, group, z):
    """The partition function is checked against enumeration in test_wyckoff_combinations; here every walk
    that the mask allows ends, and what they end in sums up to it."""
    target = Target.parse(formula, z=z)
    total = WyckoffCombinations(target).weight[group, 0]
    assert total > 0
    assert leaves(begin(group, [c * z for c in target.counts])) == pytest.approx(total)


def test_possible_where_the_partition_function_is_positive():
    target = Target.parse("LiNbO3", max_atoms=30)
    space = WyckoffCombinations(target)
    for group in range(1, 231, 3):
        for k, z in enumerate(space.z.tolist()):
            amounts = [c * z for c in target.counts]
            assert possible(group, amounts) == (space.weight[group, k] > 0), (group, z)
            assert bool(allowed(begin(group, amounts))) == possible(group, amounts)


def test_walks_in_batches():
    walks = Walks(2)
    start = walks.number(begin(225, [4 // 4, 1]))
    assert walks.number(begin(225, [1, 1])) == start
    states = np.array([start, start])
    assert walks.element(states).tolist() == [0, 0]
    assert walks.left(states).tolist() == [1, 1]
    letters = [np.flatnonzero(row).tolist() for row in walks.mask(states)]
    assert letters == [[0, 1], [0, 1]]  # 4a and 4b, one atom each in the primitive cell
    after = walks.after(states, np.array([0, 1]))
    assert [np.flatnonzero(row).tolist() for row in walks.mask(after)] == [[1], [0]]
    done = walks.after(after, np.array([1, 0]))
    assert walks.left(done).tolist() == [0, 0]
    assert not walks.mask(done).any()


def test_a_huge_coefficient_is_quick():
    state = begin(227, [2, 28, 22])
    while state.left:
        bits = allowed(state)
        assert bits
        state = step(state, bits.bit_length() - 1)
