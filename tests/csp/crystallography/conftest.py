"""Known crystals of five lattices."""

from __future__ import annotations

import pytest
import torch
from pymatgen.core import Lattice, Structure

from csp.crystals import Crystals


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
