"""Operations against spglib's, and projections against plain loops over them."""

from __future__ import annotations

import numpy as np
import pytest
import spglib
import torch

from csp.crystallography import symmetry
from csp.crystallography.operations import operations
from csp.crystals import Crystals
from tests.csp.crystallography.conftest import perturbed

# these tests call spglib without choosing between its old and new ways of telling errors
pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")


def test_a_crystal_that_cannot_be_analysed_keeps_nothing_but_itself():
    twice = Crystals.from_arrays([np.eye(3) * 4], [[[0, 0, 0], [0, 0, 0]]], [[3, 3]])
    assert operations(twice).n_operations.tolist() == [1]


def test_operations_against_spglib(crystals):
    found = operations(crystals)
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
    found = operations(crystals)
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
    found = operations(crystals)
    generator = torch.Generator().manual_seed(3)
    push = found.symmetrize_forces(0.1 * torch.randn(crystals.frac.shape, generator=generator).double())
    strain = found.symmetrize_stress(0.05 * torch.randn((len(crystals), 3, 3), generator=generator).double())
    strain = 0.5 * (strain + strain.mT)
    frac = crystals.frac + torch.linalg.solve(crystals.cell[crystals.batch].mT, push)
    moved = crystals.with_geometry(crystals.cell @ (torch.eye(3) + strain), frac)
    before = found.n_operations
    assert (operations(moved, 1e-4).n_operations >= before).all()


def test_symmetrize_removes_noise(crystals):
    noisy = perturbed(crystals, 0.003)
    found = operations(noisy, 0.05)
    assert found.space_group.tolist() == [221, 167, 225, 186, 1]
    exact = found.symmetrize(noisy)
    assert symmetry.space_groups(exact, 1e-5) == [221, 167, 225, 186, 1]
    shift = exact.positions - noisy.positions
    assert shift.norm(dim=1).max() < 0.05
    strain = torch.linalg.solve(noisy.cell, exact.cell)
    torch.testing.assert_close(strain, strain.mT)  # no rotation
    torch.testing.assert_close(found.symmetrize(exact).frac, exact.frac)


def test_sub_batch_equals_a_batch_of_its_own(crystals):
    found = operations(crystals)
    forces = torch.randn(crystals.frac.shape, generator=torch.Generator().manual_seed(4)).double()
    chosen = torch.tensor([3, 0, 4])
    atoms = torch.cat([torch.arange(*crystals.offsets[i : i + 2].tolist()) for i in chosen.tolist()])
    part = found[chosen]
    torch.testing.assert_close(part.symmetrize_forces(forces[atoms]), found.symmetrize_forces(forces)[atoms])
    alone = operations(crystals[chosen])
    torch.testing.assert_close(part.source, alone.source)
    torch.testing.assert_close(part.image_of, alone.image_of)
    keep = torch.tensor([False, True, False, False, True])
    assert found[keep].space_group.tolist() == [167, 1]
    assert (
        len(found[torch.zeros(5, dtype=torch.bool)].symmetrize_stress(torch.zeros((0, 3, 3)).double())) == 0
    )
    assert len(operations(Crystals.empty())) == 0
