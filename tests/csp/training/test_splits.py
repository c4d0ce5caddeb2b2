"""Names of compositions and the committed folds."""

import math

from csp.training.splits import FOLDS, HELD_OUT, composition_name, fold, hashed


def test_names_are_sorted_and_unpadded() -> None:
    assert composition_name([22, 8, 38, 0], [1, 3, 1, 0]) == "8:3 22:1 38:1"


def test_hashes_are_committed() -> None:
    """Weights remember what they saw by these: a change would blind every leak check."""
    assert hashed("8:3 22:1 38:1") == 9022453184519056519
    assert 0 <= hashed("") < 2**63


def test_folds_are_even_and_fixed() -> None:
    names = [composition_name((a, b), (1, n)) for a in range(1, 100) for b in range(1, a) for n in (1, 2, 3)]
    held = sum(fold(name) == HELD_OUT for name in names)
    expected = len(names) / FOLDS
    assert abs(held - expected) < 5 * math.sqrt(expected)
    assert {fold(name) for name in names} == set(range(FOLDS))
