"""Which of several near-equal crystals stands for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import bulk
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from csp.crystallography.symmetry import primitive
from csp.crystals import Crystals
from csp.matching.duplicates import group_duplicates, prefer_smallest_cell, representatives
from csp.matching.fingerprints import unique


def rock_salt(*cells: tuple[int, float]) -> Crystals:
    """NaCl in cells of 2 n atoms, every atom off its place by at most d, Å, for each (n, d)."""
    rng = np.random.default_rng(0)
    atoms = []
    for n, d in cells:
        one = bulk("NaCl", "rocksalt", a=5.64).repeat((n, 1, 1))
        one.positions += d * rng.uniform(-1, 1, one.positions.shape)
        atoms.append(one)
    return Crystals.from_atoms(atoms)


def test_the_smallest_and_most_symmetric_cell_stands_for_what_is_alike_and_as_low() -> None:
    """Three groups: a distorted cell is lowest by less than two relaxations differ; a small cell that is too
    high; and one alone."""
    crystals = rock_salt((4, 0.2), (1, 0.0), (2, 0.2), (4, 0.2), (1, 0.0), (3, 0.0), (1, 0.1))
    group = torch.tensor([0, 0, 0, 3, 3, 5, 0])
    per_atom = torch.tensor([0.0, 0.0006, 0.0003, -1.0, -0.9, 2.0, 0.0001], dtype=torch.float64)
    assert prefer_smallest_cell(group, crystals, per_atom).tolist() == [1, 1, 1, 3, 3, 5, 1]


def test_a_supercell_is_known_for_the_small_cell_that_it_is() -> None:
    """Both are rock salt, whatever cell a relaxation kept: the one in the smaller cell is shown."""
    crystals = rock_salt((2, 0.0), (1, 0.0))
    equal = torch.zeros(2, dtype=torch.float64)
    assert prefer_smallest_cell(torch.tensor([0, 0]), crystals, equal).tolist() == [1, 1]


@pytest.mark.parametrize(("above", "stands"), [(0.0019, 1), (0.0021, 0)])
def test_a_cell_four_times_as_large_has_to_gain_twice_as_much(above: float, stands: int) -> None:
    crystals = rock_salt((4, 0.2), (1, 0.0))
    energy = torch.tensor([0.0, above], dtype=torch.float64)
    assert prefer_smallest_cell(torch.tensor([0, 0]), crystals, energy).tolist() == [stands, stands]


def test_a_cell_twice_as_large_has_to_gain_what_two_relaxations_differ_by() -> None:
    crystals = rock_salt((2, 0.2), (1, 0.0))
    energy = torch.tensor([0.0, 0.0011], dtype=torch.float64)
    assert prefer_smallest_cell(torch.tensor([0, 0]), crystals, energy).tolist() == [0, 0]


def test_of_equal_cells_the_lowest_stands_for_all_and_nothing_for_nothing() -> None:
    group = torch.tensor([1, 1, 1])
    energy = torch.tensor([-1.0, -1.0005, -0.5], dtype=torch.float64)
    crystals = rock_salt((1, 0.0), (1, 0.0), (1, 0.0))
    assert prefer_smallest_cell(group, crystals, energy).tolist() == [1, 1, 1]
    assert prefer_smallest_cell(group[:0], crystals[[]], energy[:0]).tolist() == []


LAYERS = {"A": (0.0, 0.0), "B": (1 / 3, 2 / 3), "C": (2 / 3, 1 / 3)}


def zinc_sulphide(*stackings: str) -> Crystals:
    """Polytypes of ZnS with ideal layers."""
    cells, fracs, numbers = [], [], []
    for layers in stackings:
        n = len(layers)
        cells.append(np.array([[3.82, 0.0, 0.0], [-1.91, 1.91 * 3**0.5, 0.0], [0.0, 0.0, 3.12 * n]]))
        places = [[(*LAYERS[s], k / n), (*LAYERS[s], (k + 0.75) / n)] for k, s in enumerate(layers)]
        fracs.append(np.array(places).reshape(-1, 3))
        numbers.append(np.array([30, 16] * n))
    return Crystals.from_arrays(cells, fracs, numbers)


def test_polytypes_are_one_only_while_nothing_tells_them_apart() -> None:
    """Zinc blende and a 12-layer polytype with one fault have close fingerprints; a meV parts them."""
    crystals = zinc_sulphide("ABC", "ABCABCABCACB")
    same_energy = torch.tensor([0.0, 0.0004], dtype=torch.float64)
    assert group_duplicates(crystals, same_energy).tolist() == [0, 0]
    assert group_duplicates(crystals, 10 * same_energy).tolist() == [0, 1]


def test_layered_and_spinel_like_orders_are_two_crystals_however_equal_their_energies() -> None:
    """LiCoO2: each cation sees the same neighbours at the same distances in both orders of rock salt."""
    a = 4.0  # of rock salt
    hexagonal, cubic = Lattice.hexagonal(a / 2**0.5, 2 * 3**0.5 * a), Lattice.cubic(2 * a)
    quarter = [0.25, 0.25, 0.25]
    layered = Structure.from_spacegroup(
        "R-3m", hexagonal, ["Li", "Co", "O"], [[0, 0, 0], [0, 0, 0.5], [0, 0, 0.25]]
    )
    spinel = Structure.from_spacegroup(
        "Fd-3m:2", cubic, ["Li", "Co", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], quarter]
    )
    crystals = primitive(Crystals.from_structures([layered, spinel]))
    assert crystals.n_atoms.tolist() == [4, 16]
    assert unique(crystals).tolist() == [0, 0]
    energy = torch.tensor([0.0, 0.0004], dtype=torch.float64)
    assert group_duplicates(crystals, energy).tolist() == [0, 1]
    doubles = Crystals.cat([crystals, crystals])
    assert group_duplicates(doubles, energy.repeat(2)).tolist() == [0, 1, 0, 1]


def test_one_structure_is_one_crystal_however_well_it_is_relaxed() -> None:
    """Zinc blende blown up by 1 %, whose energy is 5 meV/atom higher."""
    crystal = zinc_sulphide("ABC")
    crystals = Crystals.cat([crystal.scaled_to(1.01 * crystal.volumes), crystal])
    assert group_duplicates(crystals, torch.tensor([0.005, 0.0], dtype=torch.float64)).tolist() == [1, 1]


def titanates(*shifts: float) -> Crystals:
    """SrTiO3, Ti off the centre of its octahedron by so much, Å, along c."""
    cells = [np.eye(3) * 3.9] * len(shifts)
    fracs = [
        [[0.5, 0.5, 0.5], [0, 0, shift / 3.9], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]] for shift in shifts
    ]
    return Crystals.from_arrays(cells, fracs, [[38, 22, 8, 8, 8]] * len(shifts))


def test_a_ranking_has_no_two_crystals_that_structurematcher_takes_for_one() -> None:
    """Whatever their energies; polytypes, which it tells apart, stay apart."""
    crystals = Crystals.cat([titanates(0.0, 0.15, 0.3), zinc_sulphide("ABC", "AB", "ABAC")])
    energy = torch.tensor([0.0008, 0.03, 0.0, 0.0, 0.002, 0.004], dtype=torch.float64)
    assert len(set(group_duplicates(crystals, energy).tolist())) > 4
    stands = representatives(crystals, energy).tolist()
    assert stands[3:] == [3, 4, 5]
    assert stands[:3] == [0, 0, 0]  # the lowest is distorted; the cubic one is less than 1 meV/atom above it
    structures = crystals.structures()
    groups = StructureMatcher().group_structures([structures[k] for k in sorted(set(stands))])
    assert len(groups) == len(set(stands))


def test_the_lowest_stands_for_a_simpler_one_that_is_higher_by_more_than_a_relaxation_errs() -> None:
    energy = torch.tensor([0.004, 0.0], dtype=torch.float64)
    assert representatives(titanates(0.0, 0.3), energy).tolist() == [1, 1]
    assert representatives(titanates(), energy[:0]).tolist() == []
