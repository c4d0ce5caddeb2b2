"""What several generators proposed belongs to each of them, and turns are shared out by hand."""

from __future__ import annotations

import numpy as np

from csp.crystals import Crystals
from csp.protocols import Provenance
from csp.search.pool import Pool, merge_provenance, order_by_score, round_robin, select_round_robin


def of(generator: str, index: int, score: float = 0.0, *, own: bool = False) -> Provenance:
    return Provenance(generator, index, 0, 1, score=score, own=own)


def pool(*provenance: tuple[Provenance, ...]) -> Pool:
    cells = [np.eye(3) * (3.0 + k) for k in range(len(provenance))]
    crystals = Crystals.from_arrays(cells, [[[0.0, 0.0, 0.0]]] * len(cells), [[29]] * len(cells))
    return Pool([str(k) for k in range(len(cells))], crystals, list(provenance))


def test_the_best_score_of_each_generator_is_kept_and_the_own_comes_first() -> None:
    proposed = [of("a", 0, -1.0), of("b", 0, -2.0), of("b", 1, -1.0), of("a", 1, -5.0), of("b", 2, -1.0)]
    found = merge_provenance([1, 1, 1, 3, 1], [(p,) for p in proposed])
    assert found == {1: (proposed[2], proposed[0]), 3: (proposed[3],)}
    assert list(found) == [1, 3]


def test_an_entry_of_the_target_itself_is_best_whatever_its_score() -> None:
    proposed = [of("a", 0, -1.0), of("a", 1, -9.0, own=True)]
    assert merge_provenance([1, 1], [(p,) for p in proposed]) == {1: (proposed[1],)}
    assert order_by_score(pool(*((p,) for p in proposed))) == {"a": [1, 0]}


def test_those_that_stand_for_others_come_in_their_order() -> None:
    found = merge_provenance([2, 1, 2], [(of("a", 0),), (of("a", 1),), (of("a", 2),)])
    assert list(found) == [1, 2]
    assert found[2] == (of("a", 0),)


def test_a_candidate_of_two_generators_is_in_the_order_of_each() -> None:
    both = (of("a", 7, -3.0), of("b", 0, -0.1))
    members = pool(both, (of("a", 1, -2.0),), (of("b", 5, -9.0),))
    assert order_by_score(members) == {"a": [1, 0], "b": [0, 2]}


def test_energies_and_scores_take_turns() -> None:
    members = pool(
        (of("a", 0, -1.0),), (of("a", 1, -2.0),), (of("a", 2, -3.0), of("b", 0)), (of("b", 1),), (of("b", 2),)
    )
    energies = [3.0, 2.0, 1.0, 0.5, float("nan")]
    # a by energy: 2, 1, 0; a by score: 0, 1, 2; b, which has no scores, by energy: 3, 2
    assert select_round_robin(members, 4, energies) == [2, 0, 3, 1]
    # b by the other energies: 4, 3; a has none of that kind
    assert select_round_robin(members, 4, energies, [float("nan")] * 3 + [2.0, 1.0]) == [2, 0, 3, 4]
    assert round_robin([[2, 1, 0], [0, 1, 2], [3, 2]], 9) == [2, 0, 3, 1]
