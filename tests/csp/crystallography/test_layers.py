"""Layers: against pymatgen's dimensionality, and crystals whose layers are known."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, graphene, mx2
from ase.spacegroup import crystal as in_group
from pymatgen.analysis.dimensionality import get_dimensionality_larsen
from pymatgen.analysis.local_env import CutOffDictNN

from csp.crystallography.layers import BOND, layers
from csp.crystallography.neighbours import COVALENT_RADII
from csp.crystals import Crystals
from csp.relaxation.rattle import doubled


def graphite() -> Crystals:
    a = 2.46
    cell = [[a, 0, 0], [-a / 2, a * 3**0.5 / 2, 0], [0, 0, 6.7]]
    frac = [[0, 0, 0.25], [1 / 3, 2 / 3, 0.25], [0, 0, 0.75], [2 / 3, 1 / 3, 0.75]]
    return Crystals.from_arrays([cell], [frac], [[6] * 4])


def crystals() -> dict[str, Crystals]:
    sheet, mos2 = graphene(vacuum=3.3), mx2("MoS2", vacuum=3)
    for atoms in (sheet, mos2):
        atoms.pbc = True
    selenium = in_group(
        "Se", [(0.2254, 0, 1 / 3)], spacegroup=152, cellpar=[4.366, 4.366, 4.954, 90, 90, 120]
    )
    return {
        "graphite": graphite(),
        "graphene": Crystals.from_atoms([sheet]),
        "MoS2": Crystals.from_atoms([mos2]),
        "doubled along the layers": doubled(graphite(), (1, 0, 0)),
        "doubled across": doubled(graphite(), (0, 0, 1)),
        "doubled askew": doubled(graphite(), (1, 0, 1)),
        "rock salt": Crystals.from_atoms([bulk("NaCl", "rocksalt", a=5.64)]),
        "chains": Crystals.from_atoms([selenium]),
        "diamond": Crystals.from_atoms([bulk("C", "diamond", a=3.57)]),
        "argon": Crystals.from_atoms([bulk("Ar", "fcc", a=5.26)]),
    }


@pytest.mark.parametrize("name", crystals())
def test_layered_where_pymatgen_finds_two_dimensions(name: str) -> None:
    crystal = crystals()[name]
    (structure,) = crystal.structures()
    symbols = sorted({str(element) for element in structure.composition})
    radius = {str(e): float(COVALENT_RADII[e.Z]) for e in structure.composition}
    bonds = CutOffDictNN({(a, b): BOND * (radius[a] + radius[b]) for a in symbols for b in symbols})
    dimensionality = get_dimensionality_larsen(bonds.get_bonded_structure(structure))
    assert (layers(crystal) is not None) == (dimensionality == 2)


@pytest.mark.parametrize("turn", range(4))
def test_layers_of_graphite_in_whatever_cell(turn: int) -> None:
    """Two flat layers 3.35 Å apart; the lattice in their plane is the hexagonal one of 2.46 Å."""
    rng = np.random.default_rng(turn)
    basis = np.array([[1, 0, 0], [1, 1, 0], [rng.integers(-2, 3), rng.integers(-2, 3), 1]])[
        rng.permutation(3)
    ]
    plain = graphite()
    cell = basis @ plain.cell[0].numpy()
    shifted = (plain.frac.numpy() + rng.random(3)) @ np.linalg.inv(basis)
    found = layers(Crystals.from_arrays([cell], [shifted], [[6] * 4]).wrapped())
    assert found is not None
    assert [len(own) for own in found.members] == [2, 2]
    lengths = np.linalg.norm(found.plane, axis=1)
    assert lengths == pytest.approx([2.46, 2.46])
    assert abs(found.plane[0] @ found.plane[1]) == pytest.approx(2.46**2 / 2)
    heights = [where @ found.normal for where in found.positions]
    assert [float(np.ptp(h)) for h in heights] == pytest.approx([0, 0], abs=1e-9)
    assert heights[1].mean() - heights[0].mean() == pytest.approx(3.35)
    assert found.normal @ found.step == pytest.approx(6.7)
    for own in found.positions:
        difference = (own[1] - own[0]) @ np.linalg.pinv(found.plane)
        nearest = np.linalg.norm(
            [(difference - [h, k]) @ found.plane for h in range(-4, 5) for k in range(-4, 5)], axis=1
        ).min()
        assert nearest == pytest.approx(1.42, abs=0.01)
