"""Primitive or not: against cells whose multiplicity is known because they were made so."""

import numpy as np
import torch

from csp.crystallography.primitive import lattice_points
from csp.crystallography.symmetry import primitive
from csp.crystals import Crystals
from csp.library.library import Library


def supercell(crystal: Crystals, matrix: np.ndarray) -> Crystals:
    from pymatgen.core import Structure

    structure: Structure = crystal.structures()[0]
    return Crystals.from_structures([structure.make_supercell(matrix, in_place=False)])


def test_supercells_of_primitive_cells_have_the_determinant_of_their_matrix() -> None:
    library = Library.open()
    prototypes = primitive(library.crystals(np.arange(0, len(library), 12)))
    small = prototypes[prototypes.n_atoms <= 12]
    rng = np.random.default_rng(0)
    cells, expected = [], []
    for b in range(len(small)):
        while not 1 <= (size := round(abs(np.linalg.det(matrix := rng.integers(-2, 3, (3, 3)))))) <= 8:
            pass
        cells.append(supercell(small[b], matrix))
        expected.append(size)
    assert len(set(expected)) > 3
    assert lattice_points(small).tolist() == [1] * len(small)
    assert lattice_points(Crystals.cat(cells)).tolist() == expected


def test_a_displaced_atom_or_another_element_breaks_the_translation() -> None:
    doubled = Crystals.from_arrays(
        [np.diag([8.0, 4.0, 4.0])],
        [[[0, 0, 0], [0.5, 0, 0], [0.25, 0.5, 0.5], [0.75, 0.5, 0.5]]],
        [[55, 55, 17, 17]],
    )
    moved = doubled.with_geometry(doubled.cell, doubled.frac + torch.tensor([[0.02, 0, 0], *[[0, 0, 0]] * 3]))
    other = Crystals(doubled.cell, doubled.frac, torch.tensor([55, 37, 17, 17]), doubled.offsets)
    assert lattice_points(Crystals.cat([doubled, moved, other])).tolist() == [2, 1, 1]


def test_nothing_and_one_atom() -> None:
    assert lattice_points(Crystals.empty()).shape == (0,)
    assert lattice_points(Crystals.from_arrays([np.eye(3)], [[[0, 0, 0]]], [[84]])).tolist() == [1]
