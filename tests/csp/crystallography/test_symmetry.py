"""Symmetry against spglib, brute force and invariances."""

from __future__ import annotations

import numpy as np
import pytest
import spglib

from csp.crystallography import symmetry
from csp.crystals import Crystals
from tests.csp.crystallography.conftest import perturbed

# pymatgen and these tests call spglib without choosing between its old and new ways of telling errors
pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")


def test_space_groups_and_letters(crystals):
    assert symmetry.space_groups(crystals) == [221, 167, 225, 186, 1]
    for number, (cell, frac, species) in zip([221, 167, 225, 186, 1], crystals.arrays(), strict=True):
        assert spglib.get_symmetry_dataset((cell, frac, species), 0.01).number == number
    assert symmetry.wyckoffs(crystals)[:4] == ["Sr:a Ti:b O:c", "C:a Ca:b O:e", "Na:a Cl:b", "O:b Zn:b"]
    assert [symmetry.space_group_symbol(n) for n in (221, 62, 14)] == ["Pm-3m", "Pnma", "P2_1/c"]


def test_failed_analysis_is_said():
    twice = Crystals.from_arrays([np.eye(3) * 4], [[[0, 0, 0], [0, 0, 0]]], [[3, 3]])
    assert symmetry.space_groups(twice) == [0]
    assert symmetry.wyckoffs(twice) == [""]
    assert symmetry.symmetrized(twice) is None
    assert symmetry.primitive(twice).n_atoms.tolist() == [2]


def test_standard_cells(crystals):
    noisy = perturbed(crystals, 0.003)
    for number, atoms, given in zip(
        [221, 167, 225, 186, 1], [5, 30, 8, 4, 3], noisy[:5].arrays(), strict=True
    ):
        found = symmetry.symmetrized(Crystals.from_arrays([given[0]], [given[1]], [given[2]]), 0.05)
        assert found is not None
        assert found.space_group == number
        assert found.conventional.n_atoms.tolist() == [atoms]
        assert symmetry.space_groups(found.conventional, 1e-5) == [number]
        assert symmetry.space_groups(found.primitive, 1e-5) == [number]
        assert (found.rms_displacement < 1e-6) if number == 1 else (1e-4 < found.rms_displacement < 0.01)
    assert symmetry.primitive(crystals).n_atoms.tolist() == [5, 10, 2, 4, 3]


def test_rms_displacement_by_hand():
    """Two of eight atoms of a cubic cell moved apart: the symmetric place is the one in the middle."""
    cell = np.eye(3) * 4.0
    frac = np.array([[0, 0, 0], [0.5, 0.5, 0.5 + 0.001]])
    found = symmetry.symmetrized(Crystals.from_arrays([cell], [frac], [[55, 17]]), 0.02)
    assert found is not None
    assert found.space_group == 221
    assert found.rms_displacement == pytest.approx(0.002, rel=1e-6)  # each atom 0.002 Å from the mean
