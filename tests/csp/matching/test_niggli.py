"""Reduced cells against pymatgen's, basis by basis."""

import math

import numpy as np
import pytest
import torch
from ase.build import bulk, make_supercell
from pymatgen.core.structure_matcher import StructureMatcher

from csp.crystals import Crystals
from csp.matching.niggli import cell_parameters, families, niggli, reduced


def lattices(seed: int = 0) -> Crystals:
    """All Bravais types and random cells, skewed, rotated and some left-handed; one atom each."""
    rng = np.random.default_rng(seed)
    atoms = [
        *(bulk("Cu", kind, a=3.7) for kind in ("sc", "fcc", "bcc")),
        bulk("Mg", "hcp", a=3.2, c=5.2)[:1],
        bulk("Bi", "rhombohedral", a=4.7, alpha=57.0),
        bulk("Bi", "rhombohedral", a=4.7, alpha=100.0),
        bulk("In", "bct", a=3.3, c=4.9),
        bulk("Cu", "orthorhombic", a=3.0, b=4.0, c=5.0),
    ]
    cells = [a.cell.array for a in atoms]
    cells += [
        np.diag([3.0, 4.0, 5.0]) @ [[1, 0, 0], [0, 1, 0], [math.cos(math.radians(angle)), 0, 1]]
        for angle in (91.0, 100.0, 118.0)
    ]
    cells += list(rng.normal(size=(30, 3, 3)) * 4)
    skewed: list[np.ndarray] = []
    for cell in [*cells, *cells, *cells]:
        transform = np.eye(3)
        for _ in range(4):
            i, j = rng.choice(3, 2, replace=False)
            transform[i] += rng.integers(-2, 3) * transform[j]
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0] if len(skewed) % 3 else np.eye(3)
        skewed.append(transform @ cell @ rotation)
    skewed = [cell for cell in skewed if abs(np.linalg.det(cell)) > 8]
    return Crystals.from_arrays(skewed, [rng.random((1, 3)) for _ in skewed], [[29]] * len(skewed))


def assert_same_places(crystal: Crystals, frac: np.ndarray) -> None:
    difference = crystal.frac.numpy() - frac
    np.testing.assert_allclose(difference - np.round(difference), 0.0, atol=1e-4)


def test_the_very_basis_that_pymatgen_takes() -> None:
    crystals = lattices()
    mine = niggli(crystals)
    for b, structure in enumerate(crystals.structures()):
        expected = structure.get_reduced_structure()
        np.testing.assert_allclose(mine.cell[b], expected.lattice.matrix, atol=1e-4)
        assert_same_places(mine[b], expected.frac_coords)


def test_primitive_cells_are_pymatgens() -> None:
    """Supercells, exact and shaken; and cells whose atoms only nearly have a smaller period."""
    rng = np.random.default_rng(0)
    prototypes = [
        bulk("ZnS", "zincblende", a=5.4),
        bulk("NaCl", "rocksalt", a=5.6, cubic=True),
        bulk("ZnO", "wurtzite", a=3.2, c=5.2),
    ]
    batch = []
    for k, shake in enumerate((0.0, 0.02, 0.1, 0.3) * 3):
        atoms = make_supercell(prototypes[k % 3], [[2, 0, 0], [0, 1, k % 2], [0, 0, 1]])
        atoms.positions += shake * rng.normal(size=(len(atoms), 3))
        batch.append(atoms)
    crystals = Crystals.from_atoms(batch)
    mine = reduced(crystals)
    assert len(set(mine.n_atoms.tolist())) > 2
    for b, structure in enumerate(crystals.structures()):
        expected = StructureMatcher._get_reduced_structure(structure)
        assert mine[b].numbers.tolist() == list(expected.atomic_numbers)
        np.testing.assert_allclose(mine.cell[b], expected.lattice.matrix, atol=1e-4)
        assert_same_places(mine[b], expected.frac_coords)


def test_cell_parameters_against_ase() -> None:
    atoms = bulk("Bi", "rhombohedral", a=4.7, alpha=57.0)
    lengths, angles = cell_parameters(torch.as_tensor(atoms.cell.array)[None])
    np.testing.assert_allclose(torch.cat([lengths, angles], 1)[0], atoms.cell.cellpar())


def test_families_hold_every_crystal_once() -> None:
    crystals = Crystals.from_arrays(
        [np.eye(3) * 4] * 3,
        [np.arange(9).reshape(3, 3) / 9, np.arange(9).reshape(3, 3) / 9, [[0, 0, 0]]],
        [[8, 22, 8], [22, 8, 8], [8]],
    )
    two, one = families(crystals)
    assert two.index.tolist() == [0, 1]
    assert one.index.tolist() == [2]
    assert two.species == (slice(0, 2), slice(2, 3))
    assert two.place.tolist() == [[0, 2, 1], [1, 2, 0]]
    torch.testing.assert_close(two.frac[1], crystals[1].frac[[1, 2, 0]])


def test_empty() -> None:
    assert len(reduced(Crystals.empty())) == 0


@pytest.mark.parametrize("volume", [1e-2, 1e4])
def test_any_length_unit(volume: float) -> None:
    """Parameters of the reduced cell scale with the crystal."""
    crystals = lattices()[:8]
    scaled = crystals.scaled_to(torch.full((8,), volume))
    factor = (volume / crystals.volumes) ** (1 / 3)
    torch.testing.assert_close(
        niggli(scaled).cell.norm(dim=2).sort().values,
        (niggli(crystals).cell.norm(dim=2) * factor[:, None]).sort().values,
    )
