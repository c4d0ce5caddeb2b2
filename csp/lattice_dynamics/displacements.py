"""Supercells of a crystal with one atom displaced in each: what an energy model is asked for its phonons.

Displacements are those that symmetry leaves (phonopy: Togo, J. Phys. Soc. Jpn. 92, 012001 (2023)). Of a
lattice vector that is shorter than the length asked for, the supercell holds an even number, so that the
modes at the boundaries of the zone, along which most crystals distort, are in it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from csp.crystallography.symmetry import reported_symmetrized, symmetrized
from csp.crystals import Crystals

if TYPE_CHECKING:
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

__all__ = ["DISTANCE", "LARGEST", "Displaced", "crystals_of", "displaced", "multiples", "symmetric_start"]

DISTANCE = 0.01  # Å; forces of our potentials are exact to 1e-6 eV/Å, which is 1e-4 eV/Å² of a force constant
EXACT = 1e-3  # Å; of a crystal whose symmetry was kept while it was relaxed
LARGEST = 1000  # atoms in a supercell; what is larger takes a shorter length


@dataclass(frozen=True, slots=True, eq=False)
class Displaced:
    """The supercells of one crystal.

    Attributes:
        phonopy: Knows unit cell, supercell and displacements.
        crystals: The supercell as it is, and after it those with one atom displaced, B in all.
        space_group: Number of the crystal's, 1 where the analysis fails.
    """

    phonopy: Phonopy
    crystals: Crystals
    space_group: int


def symmetric_start(crystal: Crystals, symprec: float) -> Crystals:
    """The crystal made exactly symmetric, in its primitive cell, as its card shows it.

    It is to be relaxed until its forces are far below those that the displacements make.

    Args:
        symprec: Å, within which it is symmetric.
    """
    found = reported_symmetrized(crystal, symprec)
    return crystal if found is None else found.primitive


def multiples(cell: np.ndarray, length: float) -> tuple[int, int, int]:
    """How many times each lattice vector is in the supercell: once where the lattice planes that it joins are
    `length` (Å) apart or more, otherwise the even number of times, at least twice, that comes nearest to it.

    Args:
        cell: [3, 3], Å; rows are the lattice vectors.
    """
    spacings = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    a, b, c = (1 if d >= length else 2 * max(1, round(length / d / 2)) for d in spacings.tolist())
    return a, b, c


def displaced(crystal: Crystals, length: float) -> Displaced | None:
    """The supercells of a crystal that is exactly symmetric; None where they would be larger than 1,000
    atoms.

    Args:
        length: Å, about that of the supercell along each lattice vector of the conventional cell.
    """
    from phonopy import Phonopy

    found = symmetrized(crystal, EXACT)
    unit, number = (crystal, 1) if found is None else (found.conventional, found.space_group)
    (arrays,) = unit.arrays()
    times = multiples(arrays[0], length)
    if len(arrays[2]) * np.prod(times) > LARGEST:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spglib's of its own future, which phonopy has
        phonopy = Phonopy(_atoms(*arrays), np.diag(times), primitive_matrix="auto", symprec=1e-4)
        phonopy.generate_displacements(distance=DISTANCE)
    moved = phonopy.supercells_with_displacements or []
    return Displaced(phonopy, crystals_of([phonopy.supercell, *moved]), number)


def _atoms(cell: np.ndarray, frac: np.ndarray, numbers: np.ndarray) -> PhonopyAtoms:
    from phonopy.structure.atoms import PhonopyAtoms

    return PhonopyAtoms(cell=cell, scaled_positions=frac, numbers=numbers)


def crystals_of(cells: list[PhonopyAtoms]) -> Crystals:
    """Phonopy's cells as crystals, float64."""
    found = Crystals.from_arrays(
        [one.cell for one in cells], [one.scaled_positions for one in cells], [one.numbers for one in cells]
    )
    return found.to(dtype=torch.float64)
