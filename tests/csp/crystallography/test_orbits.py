"""Orbits and surroundings: brute force over all operations, and lists of pairs made anew, are the oracles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from csp.crystallography.neighbours import Neighbours, crowding, neighbour_list
from csp.crystallography.operations import SymmetryOperations, operations
from csp.crystallography.orbits import Orbits
from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from tests.symmetric_crystals import symmetric_crystals


@pytest.fixture(scope="module")
def known() -> SymmetryOperations:
    return operations(symmetric_crystals())


@pytest.fixture(scope="module")
def crystals(known: SymmetryOperations) -> Crystals:
    """In all 230 space groups, exactly symmetric."""
    return known.symmetrize(symmetric_crystals())


def some(n: int = 12) -> Tensor:
    return torch.arange(3, 230, 230 // n)


def moved(crystals: Crystals, amount: float, seed: int = 0) -> Crystals:
    """Atoms and cells displaced at random, Å."""
    rng = torch.Generator().manual_seed(seed)
    shift = amount * torch.randn(crystals.frac.shape, generator=rng, dtype=torch.float64)
    strain = 0.1 * amount * torch.randn(len(crystals), 3, 3, generator=rng, dtype=torch.float64)
    frac = crystals.frac + torch.einsum("ai,aij->aj", shift, torch.linalg.inv(crystals.cell)[crystals.batch])
    return crystals.with_geometry(crystals.cell + crystals.cell @ strain, frac)


def listed(pairs: Neighbours) -> set[tuple[int, ...]]:
    return set(map(tuple, torch.cat([pairs.i[:, None], pairs.j[:, None], pairs.shift], 1).tolist()))


def test_orbits_by_brute_force(crystals: Crystals, known: SymmetryOperations) -> None:
    """Two atoms are equivalent if an operation takes one to the other, tried one after the other."""
    orbits = Orbits.of(crystals, known)
    for b in some().tolist():
        own = known[torch.tensor([b])]
        first = int(crystals.offsets[b])
        (_, frac, _), n = crystals[b].arrays()[0], int(crystals.n_atoms[b])
        same = np.zeros((n, n), dtype=bool)
        for rotation, translation in zip(own.rotation.numpy(), own.translation.numpy(), strict=True):
            gap = (frac @ rotation.T + translation)[:, None] - frac
            same |= (np.abs(gap - np.rint(gap)) < 1e-6).all(2)
        site_of = orbits.site_of[first : first + n].numpy()
        assert (same == (site_of[:, None] == site_of)).all()
        assert (orbits.sites.numpy()[site_of] - first == same.argmax(1)).all()
        assert (orbits.multiplicity.numpy()[site_of] == same.sum(1)).all()
        assert int(orbits.n_sites[b]) == len(np.unique(site_of))


def test_the_turn_takes_neighbours_to_neighbours(crystals: Crystals, known: SymmetryOperations) -> None:
    part = crystals[some()]
    orbits = Orbits.of(part, known[some()])
    assert not orbits.trivial
    pairs = neighbour_list(part, 5.0)
    for atom in range(len(part.numbers)):
        site = int(orbits.sites[orbits.site_of[atom]])
        around = pairs.vector[pairs.i == site] @ orbits.turn[atom]
        expected = pairs.vector[pairs.i == atom]
        gap = torch.cdist(around, expected)
        assert gap.shape[0] == gap.shape[1]
        assert gap.amin(1).max() < 1e-6
        nearest = gap.argmin(1)
        kinds = part.numbers[pairs.j[pairs.i == site]]
        assert (kinds == part.numbers[pairs.j[pairs.i == atom]][nearest]).all()


def test_images_under_the_operation_to_the_site(crystals: Crystals, known: SymmetryOperations) -> None:
    part = crystals[some()]
    operation = known[some()]
    orbits = Orbits.of(part, operation)
    pairs = neighbour_list(part, 3.0)
    image = orbits.image(pairs.i, pairs.j)
    of = orbits.to_site[pairs.i]
    place = torch.einsum("eij,ej->ei", operation.rotation[of], part.frac[pairs.j]) + operation.translation[of]
    gap = place - part.frac[image]
    assert (gap - gap.round()).abs().max() < 1e-6
    assert (orbits.image(pairs.i, pairs.i) == orbits.sites[orbits.site_of[pairs.i]]).all()


@pytest.mark.parametrize("symmetric", [True, False])
def test_parts_are_those_of_the_parts(crystals: Crystals, known: SymmetryOperations, symmetric: bool) -> None:
    chosen = torch.tensor([200, 7, 60, 61])
    whole = Orbits.of(crystals, known if symmetric else None)
    expected = Orbits.of(crystals[chosen], known[chosen] if symmetric else None)
    mask = torch.zeros(230, dtype=torch.bool)
    mask[chosen] = True
    for found in (whole[chosen], whole[mask][torch.tensor([3, 0, 1, 2])]):
        for name in ("sites", "site_of", "multiplicity", "n_sites"):
            assert torch.equal(getattr(found, name), getattr(expected, name))
        if symmetric:
            torch.testing.assert_close(found.turn, expected.turn)


def test_projected_at_the_sites_as_over_all_atoms(crystals: Crystals, known: SymmetryOperations) -> None:
    rng = torch.Generator().manual_seed(2)
    forces = torch.randn(crystals.frac.shape, generator=rng, dtype=torch.float64)
    stress = torch.randn(crystals.cell.shape, generator=rng, dtype=torch.float64)
    found = Orbits.of(crystals, known).project(forces, stress)
    torch.testing.assert_close(found[0], known.symmetrize_forces(forces))
    torch.testing.assert_close(found[1], known.symmetrize_stress(stress))
    assert found[0].abs().max() > 0.1


def test_without_operations_every_atom_is_a_site(crystals: Crystals) -> None:
    orbits = Orbits.of(crystals)
    assert orbits.trivial
    assert (orbits.sites == torch.arange(len(crystals.numbers))).all()
    assert len(Orbits.of(Crystals.empty()).sites) == 0


def test_pairs_around_some_atoms(crystals: Crystals) -> None:
    part = crystals[some()]
    centres = torch.arange(0, len(part.numbers), 3)
    whole, found = neighbour_list(part, 4.0), neighbour_list(part, 4.0, centres)
    wanted = torch.isin(whole.i, centres)
    assert torch.equal(found.i, whole.i[wanted])
    assert torch.equal(found.j, whole.j[wanted])
    torch.testing.assert_close(found.vector, whole.vector[wanted])


@pytest.mark.parametrize("symmetric", [True, False])
def test_pairs_kept_with_a_skin(crystals: Crystals, known: SymmetryOperations, symmetric: bool) -> None:
    """Small steps, large ones, and crystals that leave: always the pairs that a new list would have."""
    part, cutoff = crystals[some()], 4.0
    surroundings = Surroundings.of(part, known[some()] if symmetric else None, skin=0.6)
    rng = torch.Generator().manual_seed(1)
    lists = []
    for step, amount in enumerate((0.0, 0.02, 0.02, 0.3, 0.01, 0.01, 0.1, 0.01)):
        # only some move far, so that only some lists are made anew
        far = moved(part, amount, step)
        stays = (torch.rand(len(part), generator=rng) < 0.4) & (amount > 0.05)
        part = part.with_geometry(
            torch.where(stays[:, None, None], part.cell, far.cell),
            torch.where(stays[part.batch][:, None], part.frac, far.frac),
        )
        found = surroundings.neighbours(part, cutoff)
        expected = neighbour_list(part, cutoff, surroundings.orbits.sites)
        assert listed(found) == listed(expected)
        assert torch.equal(found.i, expected.i)
        assert torch.equal(found.j, expected.j)
        assert found.distance.max() < cutoff
        torch.testing.assert_close(found.vector.square().sum(1).sqrt(), found.distance)
        lists.append(surroundings._kept)
        if step == 4:
            keep = torch.arange(len(part)) % 3 > 0
            part, surroundings = part[keep], surroundings[keep]
    assert lists[0] is lists[1] is lists[2]
    assert lists[3] is not lists[2]


def test_kept_pairs_serve_a_shorter_cutoff(crystals: Crystals, known: SymmetryOperations) -> None:
    """As a relaxation asks how crowded atoms are, after each step of it."""
    part = crystals[some()]
    surroundings = Surroundings.of(part, known[some()], skin=0.5)
    for scale in (1.0, 0.98, 0.8, 0.5):
        pressed = part.with_geometry(scale * part.cell, part.frac)
        surroundings.update(pressed, 4.0)
        kept = surroundings._kept
        found = surroundings.neighbours(pressed, 3.0)
        assert surroundings._kept is kept
        assert listed(found) == listed(neighbour_list(pressed, 3.0, surroundings.orbits.sites))
        near = crowding(pressed, neighbours=surroundings.neighbours)
        torch.testing.assert_close(near, crowding(pressed))
    assert near.min() < 0.9


def test_parts_of_surroundings_have_their_pairs(crystals: Crystals, known: SymmetryOperations) -> None:
    part = crystals[some()]
    surroundings = Surroundings.of(part, known[some()], skin=0.5)
    surroundings.update(part, 4.0)
    chosen = torch.tensor([5, 0, 3])
    found = surroundings[chosen]
    kept = found._kept
    assert kept is not None
    pairs = found.neighbours(part[chosen], 4.0)
    assert found._kept is kept
    assert listed(pairs) == listed(neighbour_list(part[chosen], 4.0, found.orbits.sites))
