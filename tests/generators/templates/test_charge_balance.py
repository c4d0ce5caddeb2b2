"""Like charges, by chemistry that everyone knows."""

import numpy as np

from generators.templates.charge_balance import like_charges


def test_like_charges() -> None:
    # LaAlO3, KTaO3, SrTiO3 in the places of a perovskite whose A comes first; the target is CaTiO3 both ways
    target = np.array([[20, 22, 8], [22, 20, 8]])
    entries = np.array([[57, 13, 8], [19, 73, 8], [38, 22, 8], [22, 38, 8], [5, 5, 8]])
    found = like_charges(target, entries, (1, 1, 3))
    assert found.tolist() == [[False, False], [False, False], [True, False], [False, True], [False, False]]


def test_nothing_is_told_apart_where_nothing_balances() -> None:
    assert not like_charges(np.array([[14]]), np.array([[6], [32]]), (1,)).any()
    assert not like_charges(np.array([[29, 79]]), np.array([[11, 17]]), (1, 1)).any()  # CuAu
    assert like_charges(np.array([[19, 35]]), np.array([[11, 17], [12, 8]]), (1, 1)).tolist() == [
        [True],
        [False],
    ]
