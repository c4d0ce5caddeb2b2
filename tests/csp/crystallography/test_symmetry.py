"""Symmetry against spglib, brute force and invariances."""

from __future__ import annotations

import numpy as np
import pytest
import spglib
from ase.build import bulk
from ase.spacegroup import crystal
from pymatgen.analysis.structure_matcher import StructureMatcher

from csp.crystallography import symmetry
from csp.crystals import Crystals
from csp.library.library import Library
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


@pytest.mark.parametrize("symprec", [0.01, 0.1])
def test_the_reported_space_groups_are_nearly_always_those_of_moyo(symprec):
    library = Library.open()
    crystals = library.crystals(np.arange(0, len(library), max(1, len(library) // 400)))
    reported = np.array(symmetry.reported_space_groups(crystals, symprec))
    assert len(crystals) >= 288
    assert (reported > 0).all()
    assert (reported == symmetry.space_groups(crystals, symprec)).mean() >= 0.98


def test_a_space_group_that_is_not_found_is_reported_as_0():
    overlapping = Crystals.from_arrays([4 * np.eye(3)], [[[0, 0, 0], [0, 0, 1e-4]]], [[11, 11]])
    assert symmetry.reported_space_groups(overlapping, 0.1) == [0]
    assert symmetry.reported_space_groups(Crystals.empty(), 0.1) == []


DISTORTED = Crystals.from_arrays(  # SrTiO3 as a search left it: Cc for spglib at 0.1 Å, P1 for moyo
    [[[-5.6054, 0.0007, -0.0069], [-2.802, -4.8314, 0.0043], [2.8081, 1.603, 4.5509]]],
    [
        [
            [0.9599, 0.963, 0.9105], [0.4597, 0.4626, 0.4103], [0.2071, 0.21, 0.6618],
            [0.7045, 0.7132, 0.1615], [0.4956, 0.9728, 0.9117], [0.4439, 0.4947, 0.9017],
            [0.9989, 0.9396, 0.4093], [0.9699, 0.4437, 0.903], [0.4745, 0.9867, 0.4079],
            [0.9457, 0.4605, 0.3991],
        ]
    ],
    [[38] * 2 + [22] * 2 + [8] * 6],
)  # fmt: skip


def test_a_crystal_is_symmetrised_in_the_group_that_is_reported_of_it() -> None:
    (number,) = symmetry.reported_space_groups(DISTORTED, 0.1)
    plain, found = symmetry.symmetrized(DISTORTED, 0.1), symmetry.reported_symmetrized(DISTORTED, 0.1)
    assert plain is not None
    assert found is not None
    assert (number, plain.space_group, found.space_group) == (9, 1, 9)
    assert symmetry.reported_space_groups(Crystals.cat([found.conventional, found.primitive]), 1e-4) == [9, 9]
    assert (len(found.conventional.numbers), len(found.primitive.numbers)) == (20, 10)
    assert 0.001 < found.rms_displacement < 0.1
    given, made = DISTORTED.structures()[0], found.primitive.structures()[0]
    rms, _ = StructureMatcher(scale=False, primitive_cell=False).get_rms_dist(given, made)
    assert rms * (given.volume / len(given)) ** (1 / 3) == pytest.approx(found.rms_displacement, rel=0.3)


def test_symmetrising_by_spglib_and_by_moyo_is_the_same() -> None:
    rng = np.random.default_rng(0)
    cell = [4.594, 4.594, 2.959, 90, 90, 90]
    atoms = crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=cell)
    atoms.positions += rng.normal(scale=0.01, size=atoms.positions.shape)
    given = Crystals.from_atoms([atoms])
    ours, theirs = symmetry.symmetrized(given, 0.1), symmetry._symmetrized_by_spglib(given, 0.1)
    assert ours is not None
    assert theirs.space_group == ours.space_group == 136
    assert theirs.rms_displacement == pytest.approx(ours.rms_displacement, rel=0.1)
    assert float(theirs.conventional.volumes) == pytest.approx(float(ours.conventional.volumes))
    assert sorted(theirs.wyckoff.split()) == sorted(ours.wyckoff.split())


def test_a_group_that_is_hard_to_find_is_told_without_lines_of_spglib(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Atoms that are about as far from symmetric places as the tolerance."""
    atoms = bulk("NaCl", "rocksalt", a=5.6) * (2, 1, 1)
    atoms.positions += np.random.default_rng(322).uniform(-0.16, 0.16, atoms.positions.shape)
    symmetry.reported_space_groups(Crystals.from_atoms([atoms]), 0.2)
    assert capfd.readouterr().err == ""
