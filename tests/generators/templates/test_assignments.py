"""The ranking of structures against a sum over everything, one by one."""

import itertools

import numpy as np
import pytest

from csp.target import Target
from generators.templates.assignments import MAX_ASSIGNMENTS, Assignments, candidates
from generators.templates.prototypes import Prototypes


def test_assignments() -> None:
    found = Assignments.of(Target.parse("SrTiO3"))
    assert found.complete
    placed = found.elements[found.orders].tolist()
    assert sorted(placed) == [[22, 38, 8], [38, 22, 8]]
    many = Assignments.of(Target.parse("LiBeBCNOFNaMg"))
    assert not many.complete
    assert len(many.orders) == MAX_ASSIGNMENTS
    assert len(Assignments.of(Target.parse("LiBeBCNOFNa")).orders) == 40320


def test_candidates_are_the_sums_over_entries_and_symmetry() -> None:
    random = np.random.default_rng(0)
    assignments = Assignments.of(Target.parse("LiNaKO3"))  # 6 ways
    identity, swap, cycle = [0, 1, 2, 3], [1, 0, 2, 3], [1, 2, 0, 3]
    cyclic = [identity, cycle, [2, 0, 1, 3]]
    symmetry = [np.array([identity]), np.array([identity, swap]), np.array(cyclic)]
    number = np.array([2, 0, 1, 1, 0, 2, 2])
    elements = random.integers(1, 90, (7, 4))
    evidence = random.normal(size=(7, 6))
    prototypes = Prototypes(np.arange(100, 107), elements, number, symmetry)
    found = list(candidates(prototypes, assignments, evidence))

    place = {tuple(order): a for a, order in enumerate(assignments.orders.tolist())}
    expected: dict[frozenset[tuple[int, int]], float] = {}
    for p, group in enumerate(symmetry):
        for order in assignments.orders:
            same = {place[tuple(order[g])] for g in group}
            expected[frozenset((p, a) for a in same)] = sum(
                np.exp(evidence[e, a]) for e in np.flatnonzero(number == p) for a in same
            )
    total = sum(expected.values())
    assert len(found) == len(expected) == 6 + 3 + 2
    assert [c.score for c in found] == pytest.approx(
        sorted(np.log(np.array([*expected.values()]) / total))[::-1]
    )
    assert sum(np.exp(c.score) for c in found) == pytest.approx(1.0)
    for c in found:
        entry = c.row - 100
        assert c.replaced == tuple(elements[entry])
        assert c.n_entries == np.count_nonzero(number == number[entry])
        taken = place[(*np.searchsorted(assignments.elements[:3], c.numbers[:3]).tolist(), 3)]
        # of all that are the same structure the placing that its entry says most for
        (structure,) = (s for s in expected if (int(number[entry]), taken) in s)
        best = max(evidence[e, a] for p, a in structure for e in np.flatnonzero(number == p))
        assert evidence[entry, taken] == best


def test_none() -> None:
    nothing = Prototypes(np.zeros(0, np.int64), np.zeros((0, 2), np.int64), np.zeros(0, np.int64), [])
    assert list(candidates(nothing, Assignments.of(Target.parse("NaCl")), np.zeros((0, 2)))) == []


def test_each_structure_once() -> None:
    """With both places alike there is one structure, whatever the number of entries."""
    symmetry = [np.array(list(itertools.permutations(range(2))))]
    prototypes = Prototypes(
        np.arange(3), np.array([[11, 17], [3, 9], [12, 8]]), np.zeros(3, np.int64), symmetry
    )
    (only,) = candidates(prototypes, Assignments.of(Target.parse("KBr")), np.zeros((3, 2)))
    assert only.score == pytest.approx(0.0)
