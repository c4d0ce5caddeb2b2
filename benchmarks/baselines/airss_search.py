"""Random cells with minimum separations, relaxed through ASE: `python -m benchmarks.baselines.airss_search
GaAs --relaxer chgnet --out OUT`.

As in ab initio random structure searching (Pickard and Needs, J. Phys.: Condens. Matter 23, 053201 (2011)): a
cell of random shape at about the right volume, and atoms anywhere in it but not too near to each other. There
is no symmetry and nothing is learned from the first results.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry import cellpar_to_cell
from numpy.typing import NDArray

from benchmarks.baselines.by_ase import search
from csp.target import Target

__all__ = ["SEPARATION", "crystals"]

SEPARATION = 0.9  # between atoms, in sums of their covalent radii, at least
FILLED = (0.3, 0.6)  # of the volume by spheres of these radii: GaAs has 0.32, NaCl 0.53
LENGTHS = (0.6, 1.6)  # of the cell's vectors, relative to each other
ANGLES = (60.0, 120.0)  # degrees
FLATTEST = 0.4  # volume of the cell by that of the box with its lengths
POINTS = 200  # that are tried for an atom before the cell is given up
IMAGES = np.array(list(itertools.product((-1, 0, 1), repeat=3)), np.float64)

Floats = NDArray[np.float64]


def crystals(target: Target, seed: int) -> Iterator[Atoms]:
    """Crystals without end; for each the number of formula units is drawn evenly."""
    rng = np.random.default_rng(seed)
    while True:
        units = int(rng.choice(target.formula_units))
        numbers = np.repeat(target.numbers, [units * count for count in target.counts])
        cell = _cell(numbers, rng)
        frac = _places(numbers, cell, rng)
        if frac is not None:
            yield Atoms(numbers, scaled_positions=frac, cell=cell, pbc=True)


def _cell(numbers: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """[3, 3], Å."""
    flatness = 0.0
    while flatness < FLATTEST:
        lengths, angles = rng.uniform(*LENGTHS, 3), rng.uniform(*ANGLES, 3)
        cell = cellpar_to_cell([*lengths, *angles])
        flatness = np.nan_to_num(abs(np.linalg.det(cell)) / np.prod(lengths))
    volume = (4 / 3 * np.pi * covalent_radii[numbers] ** 3).sum() / rng.uniform(*FILLED)
    return cell * (volume / abs(np.linalg.det(cell))) ** (1 / 3)


def _places(numbers: NDArray[np.int64], cell: Floats, rng: np.random.Generator) -> Floats | None:
    """Fractional coordinates [N, 3], one atom after the other in a random order; None: there is no room."""
    radius, frac = covalent_radii[numbers], np.zeros((len(numbers), 3))
    own = np.linalg.norm(IMAGES[IMAGES.any(axis=1)] @ cell, axis=1).min()
    if own < 2 * SEPARATION * radius.max():
        return None
    order, placed = rng.permutation(len(numbers)), np.zeros(0, np.int64)
    for atom in order:
        points = rng.random((POINTS, 3))
        vectors = points[:, None, None] - frac[placed][None, :, None] + IMAGES  # [points, placed, 27, 3]
        distance = np.linalg.norm(vectors @ cell, axis=3).min(axis=2)
        free = (distance >= SEPARATION * (radius[atom] + radius[placed])).all(axis=1)
        if not free.any():
            return None
        frac[atom] = points[free.argmax()]
        placed = np.append(placed, atom)
    return frac


if __name__ == "__main__":
    search(crystals)
