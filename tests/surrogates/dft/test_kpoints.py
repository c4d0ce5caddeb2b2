"""Meshes: as fine as asked, closed under the crystal's operations, and no finer than that takes."""

from __future__ import annotations

from math import ceil, pi

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal

from csp.crystallography.operations import operations
from csp.crystals import Crystals
from surrogates.dft.kpoints import mesh

CRYSTALS = {
    "fcc": bulk("MgO", "rocksalt", a=4.25),
    "hexagonal": bulk("ZnO", "wurtzite", a=3.25, c=5.2),
    "tetragonal": crystal(
        ["Ti", "O"], [(0, 0, 0), (0.3, 0.3, 0)], spacegroup=136, cellpar=[4.6, 4.6, 2.96, 90, 90, 90]
    ),
    "body-centred, orthorhombic": crystal(
        ["Ti", "O"],
        [(0.25, 0.25, 0.25), (0.1, 0.2, 0.25)],
        spacegroup=72,
        cellpar=[5.1, 9.0, 5.2, 90, 90, 90],
        primitive_cell=True,
    ),
    "triclinic": Atoms("SiO", [(0, 0, 0), (1.1, 1.3, 1.7)], cell=[3.1, 4.3, 5.7, 80, 95, 105], pbc=True),
}


@pytest.mark.parametrize("name", CRYSTALS)
@pytest.mark.parametrize("spacing", [0.6, 0.25])
def test_a_mesh_is_fine_and_symmetric(name: str, spacing: float) -> None:
    one = Crystals.from_atoms([CRYSTALS[name]])
    n = np.array(mesh(one, spacing))
    lengths = 2 * pi * np.linalg.norm(np.linalg.inv(one.cell[0].numpy()), axis=0)
    assert (lengths / n <= spacing + 1e-9).all()
    points = np.stack(np.meshgrid(*[np.arange(k) for k in n], indexing="ij"), -1).reshape(-1, 3) / n
    for rotation in operations(one).rotation.numpy():
        steps = points @ rotation * n  # k as a row goes to k W
        np.testing.assert_allclose(steps, steps.round(), atol=1e-6)
    assert n.max() == max(ceil(length / spacing - 1e-6) for length in lengths)


def test_only_mixed_axes_are_divided_alike() -> None:
    found = {name: mesh(Crystals.from_atoms([atoms]), 0.25) for name, atoms in CRYSTALS.items()}
    assert found["tetragonal"] == [6, 6, 9]
    assert found["body-centred, orthorhombic"] == [7, 7, 7]
    assert len(set(found["triclinic"])) == 3
