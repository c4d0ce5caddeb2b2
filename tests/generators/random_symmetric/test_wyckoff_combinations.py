"""Exact compositions against brute-force enumeration."""

from __future__ import annotations

import itertools
import time
from collections import Counter

import numpy as np
import pytest
import torch

from csp.crystallography.wyckoff import wyckoff_table
from csp.target import Target
from generators.random_streams import Streams
from generators.random_symmetric.wyckoff_combinations import SITE_WEIGHT, WyckoffCombinations

TABLE = wyckoff_table()


def every_assignment(group: int, counts: tuple[int, ...]) -> set[tuple[tuple[int, int], ...]]:
    """All ways to put the elements on positions of the group, as sorted (element, position)."""
    positions = list(TABLE.positions(group))
    size = {p: int(TABLE.n_atoms[p]) for p in positions}
    fixed = {p for p in positions if not TABLE.free[p].any()}

    def multisets(n: int, start: int):
        if n == 0:
            yield ()
        for k in range(start, len(positions)):
            p = positions[k]
            if size[p] <= n:
                for rest in multisets(n - size[p], k + (p in fixed)):
                    yield (p, *rest)

    found = set()
    for choice in itertools.product(*(list(multisets(n, 0)) for n in counts)):
        used = [p for own in choice for p in own if p in fixed]
        if len(used) == len(set(used)):
            found.add(tuple((e, p) for e, own in enumerate(choice) for p in own))
    return found


@pytest.mark.parametrize(
    ("formula", "group", "z"),
    [
        ("CaCO3", 167, 2),
        ("SrTiO3", 221, 1),
        ("NaCl", 225, 1),
        ("NaCl", 2, 2),
        ("TiO2", 136, 2),
        ("Li2O", 47, 1),
        ("Al2MgO4", 227, 2),
    ],
)
def test_partition_function_and_draws(formula, group, z):
    target = Target.parse(formula, z=z)
    space = WyckoffCombinations(target)
    expected = every_assignment(group, tuple(c * z for c in target.counts))
    assert space.weight[group, 0] == pytest.approx(sum(SITE_WEIGHT ** len(s) for s in expected))
    n = 4000
    drawn = space.draw(np.full(n, group), np.zeros(n, dtype=int), Streams.of(0, "test", torch.arange(n)))
    first = np.searchsorted(drawn.crystal, np.arange(n + 1))
    seen = Counter(
        tuple(zip(drawn.element[a:b].tolist(), drawn.position[a:b].tolist(), strict=True))
        for a, b in itertools.pairwise(first)
    )
    assert set(seen) <= expected
    for assignment in expected:  # five standard deviations of a Poisson count
        mean = n * SITE_WEIGHT ** len(assignment) / space.weight[group, 0]
        assert abs(seen[assignment] - mean) < 5 * mean**0.5 + 5, assignment


def test_what_cannot_be_is_zero():
    space = WyckoffCombinations(Target.parse("CaCO3", z=1))
    assert space.weight[225, 0] == 0  # three oxygens need a multiple of ... no position of 3 atoms
    assert space.weight[221, 0] > 0
    assert space.weight[0].sum() == 0
    only = WyckoffCombinations(Target.parse("CaCO3", z=1, space_groups=frozenset({1, 221})))
    assert np.flatnonzero(only.weight.sum(axis=1)).tolist() == [1, 221]


def test_composition_is_exact_in_all_groups():
    target = Target.parse("La2CuO4", max_atoms=56)
    space = WyckoffCombinations(target)
    group, z_index = np.nonzero(space.weight > 0)
    assert len(np.unique(group)) > 150
    drawn = space.draw(group, z_index, Streams.of(0, "test", torch.arange(len(group))))
    held = np.zeros((len(group), 3), dtype=int)
    np.add.at(held, (drawn.crystal, drawn.element), TABLE.n_atoms.numpy()[drawn.position])
    assert (held == np.array(target.counts) * drawn.z[:, None]).all()
    first, last = TABLE.first.numpy()[group[drawn.crystal]], TABLE.first.numpy()[group[drawn.crystal] + 1]
    assert ((first <= drawn.position) & (drawn.position < last)).all()


@pytest.mark.parametrize("formula", ["Ca14MnSb11", "Si", "LiNaKRbMgCaO3F2"])
def test_large_targets_are_quick(formula):
    began = time.process_time()
    space = WyckoffCombinations(Target.parse(formula, max_atoms=200))
    group, z_index = np.nonzero(space.weight > 0)
    space.draw(group, z_index, Streams.of(0, "test", torch.arange(len(group))))
    assert time.process_time() - began < 20
