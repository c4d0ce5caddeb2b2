"""Normalisers against the International Tables, and as groups that act on Wyckoff positions."""

from __future__ import annotations

import numpy as np
import pytest

from csp.crystallography.normalizers import POLAR, normalizer, position
from csp.crystallography.wyckoff import GRID, wyckoff_table

TABLE = wyckoff_table()


@pytest.mark.parametrize(
    ("group", "index"),
    # of the group in its affine normaliser, International Tables A, table 3.5.2.4 and 3.5.2.5
    [
        (2, 8),
        (47, 48),
        (62, 8),
        (136, 4),
        (166, 2),
        (194, 2),
        (216, 8),
        (221, 2),
        (225, 2),
        (227, 2),
        (230, 1),
    ],
)
def test_number_of_cosets(group, index):
    assert len(normalizer(group)) == index


def test_polar_axes():
    assert POLAR[1].all()
    assert POLAR[4].tolist() == [False, True, False]
    assert POLAR[8].tolist() == [True, False, True]
    assert POLAR[33].tolist() == [False, False, True]
    assert not POLAR[[2, 19, 82, 225]].any()


@pytest.mark.parametrize(
    "group", [1, 3, 5, 8, 15, 19, 36, 62, 70, 88, 129, 146, 160, 166, 186, 198, 205, 216, 227]
)
def test_it_keeps_the_group_and_takes_orbits_to_orbits(group):
    own, rng = normalizer(group), np.random.default_rng(group)
    operations = slice(int(TABLE.first_operation[group]), int(TABLE.first_operation[group + 1]))
    rotations = TABLE.operation_rotation[operations].numpy()
    translations = TABLE.operation_translation[operations].numpy()

    def orbit(point: np.ndarray) -> np.ndarray:
        """Sorted distinct atoms of the conventional cell, in 1e-6."""
        images = np.rint((rotations @ point + translations) % 1.0 * 1e6).astype(int) % 1_000_000
        return np.unique(images, axis=0)

    assert (own.rotation[0] == np.eye(3)).all()
    assert not own.translation[0].any()
    for c in rng.choice(len(own), size=min(len(own), 6), replace=False):
        assert sorted(own.letter[c].tolist()) == list(range(own.letter.shape[1]))
        for p, row in enumerate(TABLE.positions(group)):
            u = rng.random(3) * TABLE.free[row].numpy()
            here = position(row)
            there = position(int(TABLE.first[group]) + int(own.letter[c, p]))
            moved = own.rotation[c] @ (here.matrix @ u + here.shift / GRID) + own.translation[c] / GRID
            again = own.linear[c, p] @ u + own.constant[c, p] / GRID
            expected = orbit(moved)
            assert len(expected) == TABLE.multiplicity[row]
            assert (orbit(there.matrix @ again + there.shift / GRID) == expected).all()
            for linear, constant in zip(*own.same[p], strict=True):
                same = linear @ u + constant / GRID
                assert (
                    orbit(here.matrix @ same + here.shift / GRID)
                    == orbit(here.matrix @ u + here.shift / GRID)
                ).all()
