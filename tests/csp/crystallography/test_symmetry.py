"""Symmetry against spglib, brute force and invariances."""

from __future__ import annotations

import numpy as np
import pytest
import spglib
import torch
from pymatgen.core import Lattice, Structure

from csp.crystallography import symmetry
from csp.crystals import Crystals
from csp.library.library import Library

# pymatgen and these tests call spglib without choosing between its old and new ways of telling errors
pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")


def structure(number, lattice, species, sites):
    return Structure.from_spacegroup(number, lattice, species, sites)


@pytest.fixture(scope="module")
def crystals() -> Crystals:
    """Perovskite, primitive calcite, conventional rock salt (with centring), wurtzite and a P1 cell."""
    calcite = structure(
        167, Lattice.hexagonal(4.99, 17.06), ["Ca", "C", "O"], [[0, 0, 0], [0, 0, 0.25], [0.257, 0, 0.25]]
    )
    listed = [
        structure(221, Lattice.cubic(3.9), ["Sr", "Ti", "O"], [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0]]),
        calcite.get_primitive_structure(),
        structure(225, Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3]),
        structure(186, Lattice.hexagonal(3.25, 5.2), ["Zn", "O"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]]),
        Structure(
            Lattice.from_parameters(4, 5, 6, 80, 95, 100),
            ["Li", "F", "F"],
            [[0, 0, 0], [0.3, 0.45, 0.6], [0.7, 0.1, 0.2]],
        ),
    ]
    return Crystals.from_structures(listed)


def perturbed(crystals: Crystals, amount: float) -> Crystals:
    generator = torch.Generator().manual_seed(1)
    strain = torch.eye(3).double() + amount / 10 * torch.randn((len(crystals), 3, 3), generator=generator)
    shift = amount * torch.randn(crystals.frac.shape, generator=generator).double()
    moved = crystals.frac + torch.linalg.solve(crystals.cell[crystals.batch].mT, shift)
    return crystals.with_geometry(crystals.cell @ strain, moved)


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
    assert symmetry.operations(twice).n_operations.tolist() == [1]
    assert symmetry.primitive(twice).n_atoms.tolist() == [2]


def test_operations_against_spglib(crystals):
    found = symmetry.operations(crystals)
    expected = [len(spglib.get_symmetry(c)["rotations"]) for c in crystals.arrays()]
    assert found.n_operations.tolist() == expected == [48, 12, 192, 12, 1]
    image = torch.einsum("pij,pj->pi", found.rotation[found.image_of], crystals.frac[found.source])
    gap = image + found.translation[found.image_of] - crystals.frac[found.target]
    assert (gap - gap.round()).abs().max() < 1e-6
    assert (crystals.numbers[found.source] == crystals.numbers[found.target]).all()
    identity = torch.eye(3).double().expand_as(found.cartesian)
    torch.testing.assert_close(found.cartesian @ found.cartesian.mT, identity)


def test_projection_is_the_mean_over_the_group(crystals):
    """Against a plain loop over spglib's operations."""
    found = symmetry.operations(crystals)
    generator = torch.Generator().manual_seed(2)
    forces = torch.randn(crystals.frac.shape, generator=generator).double()
    stress = torch.randn((len(crystals), 3, 3), generator=generator).double()
    stress = stress + stress.mT
    got_forces, got_stress = found.symmetrize_forces(forces).numpy(), found.symmetrize_stress(stress).numpy()
    offsets = crystals.offsets.tolist()
    for b, (cell, frac, species) in enumerate(crystals.arrays()):
        group = spglib.get_symmetry((cell, frac, species))
        own = forces[offsets[b] : offsets[b + 1]].numpy()
        mean_force, mean_stress = np.zeros_like(own), np.zeros((3, 3))
        for rotation, translation in zip(group["rotations"], group["translations"], strict=True):
            turn = cell.T @ rotation @ np.linalg.inv(cell.T)  # on column vectors
            mean_stress += turn @ stress[b].numpy() @ turn.T / len(group["rotations"])
            for i in range(len(frac)):
                gap = rotation @ frac[i] + translation - frac
                j = np.linalg.norm((gap - np.rint(gap)) @ cell, axis=1).argmin()
                mean_force[j] += turn @ own[i] / len(group["rotations"])
        np.testing.assert_allclose(got_forces[offsets[b] : offsets[b + 1]], mean_force, atol=1e-6)
        np.testing.assert_allclose(got_stress[b], mean_stress, atol=1e-6)
    torch.testing.assert_close(found.symmetrize_forces(torch.from_numpy(got_forces)).numpy(), got_forces)


def test_moving_along_projected_forces_keeps_the_group(crystals):
    found = symmetry.operations(crystals)
    generator = torch.Generator().manual_seed(3)
    push = found.symmetrize_forces(0.1 * torch.randn(crystals.frac.shape, generator=generator).double())
    strain = found.symmetrize_stress(0.05 * torch.randn((len(crystals), 3, 3), generator=generator).double())
    strain = 0.5 * (strain + strain.mT)
    frac = crystals.frac + torch.linalg.solve(crystals.cell[crystals.batch].mT, push)
    moved = crystals.with_geometry(crystals.cell @ (torch.eye(3) + strain), frac)
    before = found.n_operations
    assert (symmetry.operations(moved, 1e-4).n_operations >= before).all()


def test_symmetrize_removes_noise(crystals):
    noisy = perturbed(crystals, 0.003)
    found = symmetry.operations(noisy, 0.05)
    assert found.space_group.tolist() == [221, 167, 225, 186, 1]
    exact = found.symmetrize(noisy)
    assert symmetry.space_groups(exact, 1e-5) == [221, 167, 225, 186, 1]
    shift = exact.positions - noisy.positions
    assert shift.norm(dim=1).max() < 0.05
    strain = torch.linalg.solve(noisy.cell, exact.cell)
    torch.testing.assert_close(strain, strain.mT)  # no rotation
    torch.testing.assert_close(found.symmetrize(exact).frac, exact.frac)


def test_sub_batch_equals_a_batch_of_its_own(crystals):
    found = symmetry.operations(crystals)
    forces = torch.randn(crystals.frac.shape, generator=torch.Generator().manual_seed(4)).double()
    chosen = torch.tensor([3, 0, 4])
    atoms = torch.cat([torch.arange(*crystals.offsets[i : i + 2].tolist()) for i in chosen.tolist()])
    part = found[chosen]
    torch.testing.assert_close(part.symmetrize_forces(forces[atoms]), found.symmetrize_forces(forces)[atoms])
    alone = symmetry.operations(crystals[chosen])
    torch.testing.assert_close(part.source, alone.source)
    torch.testing.assert_close(part.image_of, alone.image_of)
    keep = torch.tensor([False, True, False, False, True])
    assert found[keep].space_group.tolist() == [167, 1]
    assert (
        len(found[torch.zeros(5, dtype=torch.bool)].symmetrize_stress(torch.zeros((0, 3, 3)).double())) == 0
    )
    assert len(symmetry.operations(Crystals.empty())) == 0


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
