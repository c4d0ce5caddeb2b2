"""Distances against closed forms, brute force and ASE's neighbour list."""

import math

import ase.data
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list as ase_neighbour_list

from csp.crystallography import neighbours as geometry
from csp.crystallography.neighbours import COVALENT_RADII, distance_ratio, heights, neighbour_list, plausible
from csp.crystals import Crystals


def random_crystals(n: int, seed: int = 0) -> Crystals:
    """Skewed cells of 1-6 atoms, some of them much longer than wide, atoms outside the cell."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 7, n)
    cells = [np.diag(rng.uniform(1.8, 9.0, 3)) @ (np.eye(3) + rng.uniform(-0.6, 0.6, (3, 3))) for _ in sizes]
    return Crystals.from_arrays(
        cells, [rng.uniform(-1.5, 1.5, (k, 3)) for k in sizes], [rng.integers(1, 90, k) for k in sizes]
    )


def test_radii_are_those_of_ase() -> None:
    np.testing.assert_array_equal(COVALENT_RADII[1:97].numpy(), ase.data.covalent_radii[1:97])
    assert torch.isnan(COVALENT_RADII[97:]).all()


@pytest.mark.parametrize(
    ("atoms", "shells"),
    [
        (bulk("Cu", "fcc", a=4.0), [(12, 4.0 / math.sqrt(2)), (6, 4.0)]),
        (bulk("Fe", "bcc", a=3.0), [(8, 3.0 * math.sqrt(3) / 2), (6, 3.0)]),
        (bulk("Si", "diamond", a=5.0), [(4, 5.0 * math.sqrt(3) / 4), (12, 5.0 / math.sqrt(2))]),
    ],
)
def test_coordination_shells(atoms: Atoms, shells: list[tuple[int, float]]) -> None:
    pairs = neighbour_list(Crystals.from_atoms([atoms]), 1.05 * shells[-1][1])
    distances = pairs.distance[pairs.i == 0].sort().values
    expected = torch.cat([torch.full((k,), d, dtype=torch.float64) for k, d in shells])
    torch.testing.assert_close(distances, expected)


@pytest.mark.parametrize("cutoff", [2.5, 6.0, 11.0])
def test_same_pairs_as_ase(cutoff: float) -> None:
    crystals = random_crystals(12)
    pairs = neighbour_list(crystals, cutoff)
    for b, atoms in enumerate(crystals.atoms()):
        i, j, shift = ase_neighbour_list("ijS", atoms, cutoff)
        expected = {(x, y, *s) for x, y, s in zip(i.tolist(), j.tolist(), shift.tolist(), strict=True)}
        mine = crystals.batch[pairs.i] == b
        start = int(crystals.offsets[b])
        found = [
            (x - start, y - start, *s)
            for x, y, s in zip(
                pairs.i[mine].tolist(), pairs.j[mine].tolist(), pairs.shift[mine].tolist(), strict=True
            )
        ]
        assert len(found) == len(set(found))
        assert set(found) == expected


def test_vectors_follow_from_indices() -> None:
    crystals = random_crystals(8, seed=1)
    pairs = neighbour_list(crystals, 5.0)
    cell = crystals.cell[crystals.batch[pairs.i]]
    offset = torch.einsum("ei,eij->ej", pairs.shift.double(), cell)
    expected = crystals.positions[pairs.j] + offset - crystals.positions[pairs.i]
    torch.testing.assert_close(pairs.vector, expected)
    torch.testing.assert_close(pairs.distance, expected.norm(dim=1))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    crystals = random_crystals(10, seed=2)
    whole = neighbour_list(crystals, 6.0)
    monkeypatch.setitem(geometry.PAIR_IMAGES_AT_ONCE, "cpu", 500)
    split = neighbour_list(crystals, 6.0)
    for name in ("i", "j", "shift", "vector", "distance"):
        torch.testing.assert_close(getattr(whole, name), getattr(split, name))


def test_empty_batch() -> None:
    pairs = neighbour_list(Crystals.empty(), 5.0)
    assert len(pairs.i) == 0
    assert pairs.shift.shape == (0, 3)
    assert distance_ratio(Crystals.empty()).shape == (0,)


def test_heights_of_a_sheared_cell() -> None:
    cell = torch.tensor([[[4.0, 0, 0], [3.0, 5.0, 0], [0, 0, 6.0]]])
    expected = torch.tensor([[4 * 5 / math.hypot(3, 5), 5.0, 6.0]])
    torch.testing.assert_close(heights(cell), expected)


def test_distance_ratio_by_hand() -> None:
    rocksalt = bulk("NaCl", "rocksalt", a=5.64)
    expected = 2.82 / (1.66 + 1.02)
    assert float(distance_ratio(Crystals.from_atoms([rocksalt]))) == pytest.approx(expected)
    lonely = Crystals.from_atoms([Atoms("He", cell=[20, 20, 20], pbc=True)])
    assert float(distance_ratio(lonely, limit=1.5)) == 1.5


def test_plausible() -> None:
    good = bulk("NaCl", "rocksalt", a=5.64)
    crowded, bloated = good.copy(), good.copy()
    crowded.positions[1] = crowded.positions[0] + [0.5, 0, 0]
    bloated.set_cell(bloated.cell * 1.5, scale_atoms=True)
    flags = plausible(Crystals.from_atoms([good, crowded, bloated]), 5.64**3 / 8)
    assert flags.tolist() == [True, False, False]
