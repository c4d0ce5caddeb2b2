"""A given cell: what groups and axes it allows, and crystals that have it, as spglib sees them."""

from __future__ import annotations

import numpy as np
import pytest
import spglib
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from csp.crystallography.lattice import cell_from_parameters, minkowski_reduced
from csp.crystallography.wyckoff import crystal_systems, wyckoff_table
from csp.errors import InputError
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.target import Target
from generators.random_symmetric.fixed_cell import STRAIN, VOLUME_WINDOW, GivenCell, check_cell
from generators.random_symmetric.generator import RandomGenerator
from generators.random_symmetric.packing import COSINES, OBLIQUE, TIED, primitive_cells
from generators.space_group.generator import SpaceGroupGenerator

# these tests call spglib without choosing between its old and new ways of telling errors
pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")

A = 5.43
CUBIC = ((A, 0.0, 0.0), (0.0, A, 0.0), (0.0, 0.0, A))
FCC = ((0.0, A / 2, A / 2), (A / 2, 0.0, A / 2), (A / 2, A / 2, 0.0))
MONOCLINIC = ((5.0, 0.0, 0.0), (0.0, 6.1, 0.0), (-1.3, 0.0, 7.2))
TURN = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]


TABLE = wyckoff_table()
CENTRING = torch.linalg.det(TABLE.to_primitive).round().long()
ORDER = ((TABLE.first_operation[1:] - TABLE.first_operation[:-1]) // CENTRING).numpy()[1:]  # primitive cells


def turned(cell) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, (np.array(cell) @ TURN).tolist()))


def reduced(cell: np.ndarray) -> np.ndarray:
    return minkowski_reduced(torch.from_numpy(cell)[None])[0][0].numpy()


def contains(lattice: np.ndarray, cell: np.ndarray, strain: float = 1e-5) -> bool:
    """Are there vectors of the lattice with the lengths and angles of the cell? By trying all short ones."""
    wanted = cell @ cell.T
    points = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3), -1).reshape(-1, 3) @ reduced(lattice)
    near = [points[np.isclose((points**2).sum(1), wanted[k, k], rtol=3 * strain)] for k in range(3)]

    def fit(i: int, j: int) -> np.ndarray:
        atol = 3 * strain * np.sqrt(wanted[i, i] * wanted[j, j])
        return np.isclose(near[i] @ near[j].T, wanted[i, j], atol=atol).astype(int)

    return bool((np.einsum("ij,ik,jk->ij", fit(0, 1), fit(0, 2), fit(1, 2)) > 0).any())


def groups(cell) -> set[int]:
    return set(GivenCell.of(cell).group.tolist())


def test_groups_of_lattices():
    assert groups(MONOCLINIC) == set(range(1, 16))
    triclinic = ((4.0, 0.3, 0.1), (0.9, 5.0, 0.2), (1.1, 0.7, 6.0))
    assert groups(triclinic) == {1, 2}
    cubic = groups(CUBIC)
    hexagonal = {g for g in range(143, 195) if CENTRING[g] == 1}
    assert cubic == set(range(1, 231)) - hexagonal
    assert groups(FCC) & set(range(195, 231)) == {196, 202, 203, 209, 210, 216, 219, 225, 226, 227, 228}
    assert 62 not in groups(FCC)
    lengths, cosines = torch.tensor([[3.2, 3.2, 5.1]]).double(), torch.tensor([[0.0, 0.0, -0.5]]).double()
    flat = cell_from_parameters(lengths, cosines)[0].tolist()
    own = groups(tuple(tuple(row) for row in flat))
    assert set(range(143, 195)) <= own
    assert own.isdisjoint(range(75, 143))
    assert own.isdisjoint(range(195, 231))


def test_axes_that_give_other_crystals():
    """Pnma in an orthorhombic cell has six ways, P2_1/c in a monoclinic one three, P222_1 of a cube one."""
    box = ((4.0, 0.0, 0.0), (0.0, 5.0, 0.0), (0.0, 0.0, 6.0))
    found = GivenCell.of(box)
    lattices = found.lattice[found.group == 62]
    assert sorted(map(tuple, lattices[:, :3].round(6).tolist())) == sorted(
        {(a, b, c) for a in (4, 5, 6) for b in (4, 5, 6) for c in (4, 5, 6) if {a, b, c} == {4, 5, 6}}
    )
    mono = GivenCell.of(MONOCLINIC)
    glides = mono.lattice[mono.group == 14][:, 2]
    assert len(np.unique(glides.round(6))) == 3
    assert (np.abs(mono.lattice[mono.group == 14][:, 1] - 6.1) < 1e-9).all()
    cube = GivenCell.of(CUBIC)
    assert (cube.group == 17).sum() == 1


@settings(max_examples=15, deadline=None)
@given(
    st.integers(3, 230),
    st.tuples(*[st.floats(2.5, 30.0)] * 3),
    st.floats(-0.6, 0.6, allow_subnormal=False),
    st.lists(st.integers(-2, 2), min_size=3, max_size=3),
)
def test_any_primitive_cell_of_a_group_allows_it(group, lengths, cosine, shear):
    """However long the axes are, and in whatever basis and orientation the cell is written down."""
    system = int(crystal_systems(np.array([group]))[0])
    length = torch.tensor([lengths]).double()[:, TIED[system]]
    lattice = torch.cat([length, (COSINES[system] + OBLIQUE[system] * cosine)[None]], 1)
    primitive = primitive_cells(torch.tensor([group]), lattice)[0].numpy()
    basis = np.array([[1, 0, 0], [shear[0], 1, 0], [shear[1], shear[2], 1]])
    found = GivenCell.of(turned(basis @ primitive))
    own = (found.group == group) & np.isclose(found.volume, abs(np.linalg.det(primitive)))
    assert own.any()
    if system != 1:
        assert np.isclose(found.lattice[own], lattice.numpy(), rtol=1e-5, atol=1e-5).all(1).any()
    for choice in np.flatnonzero(own):
        again = primitive_cells(torch.tensor([group]), torch.from_numpy(found.lattice[[choice]]))[0].numpy()
        assert contains(again, reduced(primitive), strain=STRAIN)


@pytest.mark.parametrize(
    ("make", "formula", "cell"),
    [
        (RandomGenerator, "Si", FCC),
        (RandomGenerator, "TiO2", MONOCLINIC),
        (SpaceGroupGenerator, "ZnS", CUBIC),
    ],
)
def test_crystals_have_the_cell_and_their_group(make, formula, cell):
    volume = VolumePrior.load()
    target = Target.parse(formula, max_atoms=12, cell=turned(cell))
    check_cell(target, volume)
    proposals = make(Library.open(), volume).propose(target, 40, seed=0)
    assert len(proposals.crystals) > 5
    assert proposals.failed.total() + len(proposals.crystals) == 40
    expected = volume.predict(target.numbers, target.counts)
    for (own, frac, numbers), row in zip(proposals.crystals.arrays(), proposals.provenance, strict=True):
        assert contains(own, np.array(cell))
        z = len(numbers) // target.n_atoms
        assert abs(abs(np.linalg.det(own)) / (z * expected) - 1) <= VOLUME_WINDOW
        found = spglib.get_symmetry_dataset((own, frac, numbers), 1e-3)
        assert len(found.rotations) % ORDER[row.space_group - 1] == 0  # the group or a supergroup
    same = [
        spglib.get_symmetry_dataset(c, 1e-3).number == p.space_group
        for c, p in zip(proposals.crystals.arrays(), proposals.provenance, strict=True)
    ]
    assert np.mean(same) > 0.5 or formula == "Si"  # two atoms often have more


def test_formula_units_that_are_asked_for():
    """Whatever the volume then is; in the primitive cell, as everywhere."""
    volume = VolumePrior.load()
    target = Target.parse("Si", cell=FCC, z=1)
    proposals = RandomGenerator(Library.open(), volume).propose(target, 20, seed=0)
    assert set(proposals.crystals.n_atoms.tolist()) == {1}
    check_cell(target, volume)


def test_a_cell_that_holds_no_whole_number():
    small = ((2.0, 0.0, 0.0), (0.0, 2.0, 0.0), (0.0, 0.0, 2.0))
    target = Target.parse("SrTiO3", cell=small)
    with pytest.raises(InputError, match=r"8 Å³.*formula units of SrTiO3.*`z`"):
        check_cell(target, VolumePrior.load())
    nothing = RandomGenerator(Library.open(), VolumePrior.load()).propose(target, 5, seed=0)
    assert nothing.failed == {"infeasible": 5}
