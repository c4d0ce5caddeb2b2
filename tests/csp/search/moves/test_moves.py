"""Each move against what symmetry, composition or a known pair of crystals says must come of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import bulk

from csp.crystallography.neighbours import neighbour_list
from csp.crystallography.operations import operations
from csp.crystallography.symmetry import space_groups
from csp.crystals import Crystals
from csp.matching.matcher import Matcher
from csp.relaxation.rattle import doubled
from csp.search.moves.distortion import strained_and_rattled
from csp.search.moves.exchange import other_subset, with_elements_exchanged
from csp.search.moves.halving import halved
from csp.search.moves.heredity import child
from csp.search.moves.moving import MOVES, moved
from csp.search.moves.stacking import in_plane_turns, restacked
from csp.search.moves.subgroups import into_doubled_cell, into_subgroup, proper_subgroups
from csp.target import Target
from tests.symmetric_crystals import symmetric_crystals

SOUND = {"volume_per_atom": 16.0, "min_distance": 0.6}


def rock_salt() -> Crystals:
    return Crystals.from_atoms([bulk("NaCl", "rocksalt", a=5.64)])


def perovskite() -> Crystals:
    frac = [[0.5] * 3, [0] * 3, [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    return Crystals.from_arrays([3.9 * np.eye(3)], [frac], [[38, 22, 8, 8, 8]])


def spinel() -> Crystals:
    from ase.spacegroup import crystal

    atoms = crystal(
        ("Mg", "Al", "O"),
        [(1 / 8,) * 3, (1 / 2,) * 3, (0.2624,) * 3],
        spacegroup=227,
        setting=2,
        cellpar=[8.08] * 3 + [90] * 3,
        primitive_cell=True,
    )
    return Crystals.from_atoms([atoms])


def molybdenite() -> Crystals:
    """2H-MoS2: two layers to a period."""
    a = 3.16
    cell = [[a, 0, 0], [-a / 2, a * 3**0.5 / 2, 0], [0, 0, 12.3]]
    one, two = (1 / 3, 2 / 3), (2 / 3, 1 / 3)
    frac = [
        (*one, 0.25), (*two, 0.123), (*two, 0.377), (*two, 0.75), (*one, 0.623), (*one, 0.877),
    ]  # fmt: skip
    return Crystals.from_arrays([cell], [frac], [[42, 16, 16, 42, 16, 16]])


def same_composition(one: Crystals, other: Crystals) -> bool:
    a, b = (torch.bincount(x.numbers, minlength=100) for x in (one, other))
    return bool((a * len(other.numbers) == b * len(one.numbers)).all())


@pytest.mark.parametrize("name", MOVES)
def test_every_move_keeps_the_composition_and_is_repeatable(name: str) -> None:
    for crystal in (spinel(), molybdenite()):
        starts = Crystals.cat([crystal, crystal]) if name == "of two parents" else crystal
        made = [MOVES[name][1](starts, np.random.default_rng(k)) for k in range(6)]
        again = [MOVES[name][1](starts, np.random.default_rng(k)) for k in range(6)]
        for one, other in zip(made, again, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                assert one.ids() == other.ids()
                assert same_composition(one, crystal)
                assert bool(((one.frac >= 0) & (one.frac < 1)).all())


# -- subgroups --------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [10, 62, 136, 148, 167, 194, 205, 221, 227])
def test_generated_operations_are_proper_subgroups(group: int) -> None:
    """Closed under products, and their order divides that of the group (Lagrange)."""
    found = operations(symmetric_crystals()[group - 1])
    rotation, translation = found.rotation.numpy(), found.translation.numpy()
    for members in proper_subgroups(rotation, translation, np.random.default_rng(group)):
        assert len(members) < len(rotation)
        assert len(rotation) % len(members) == 0
        own = {
            (*np.rint(rotation[k]).astype(int).ravel().tolist(), *np.rint(24 * translation[k] % 24 % 24))
            for k in members
        }
        for a in members:
            for b in members:
                w = rotation[a] @ translation[b] + translation[a]
                product = (
                    *np.rint(rotation[a] @ rotation[b]).astype(int).ravel().tolist(),
                    *np.rint(24 * w % 24 % 24),
                )
                assert product in own


@pytest.mark.parametrize("seed", range(8))
def test_into_a_subgroup_drops_some_operations_and_keeps_others(seed: int) -> None:
    crystal = perovskite()
    start = into_subgroup(crystal, np.random.default_rng(seed))
    if start is None:  # what a subgroup newly allows may be nothing
        return
    order = int(operations(start, 1e-4).n_operations[0])
    assert order < 48
    assert 48 % order == 0
    assert space_groups(start, 1e-4)[0] < 221
    moved_by = (start.frac - crystal.frac) - (start.frac - crystal.frac).round()
    assert float((moved_by @ crystal.cell[0]).norm(dim=1).max()) < 0.8


def test_subgroups_of_perovskite_include_those_of_its_phases() -> None:
    """BaTiO3 goes P4mm and R3m at the zone centre; tilts of octahedra need doubled cells."""
    at_centre, at_boundary = set(), set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        for move, groups in ((into_subgroup, at_centre), (into_doubled_cell, at_boundary)):
            start = move(perovskite(), rng)
            if start is not None:
                groups.add((space_groups(start, 1e-4)[0], len(start.numbers)))
    assert {(99, 5), (160, 5)} <= at_centre
    assert all(n == 10 for _, n in at_boundary)
    assert len({group for group, _ in at_boundary} - {group for group, _ in at_centre}) > 5


def test_without_symmetry_there_is_nothing_to_drop() -> None:
    crystal = strained_and_rattled(perovskite(), np.random.default_rng(0))
    assert into_subgroup(crystal, np.random.default_rng(0)) is None


# -- exchange ---------------------------------------------------------------------------------------


def test_exchange_of_spinel_is_inverse_or_nothing_less_symmetric() -> None:
    """Mg on 8a (2 in the primitive cell), Al on 16d (4), O on 32e (8): only Mg+... as O cannot be shared out,
    so nothing but sums that the multiplicities 2, 4, 8 allow: none."""
    assert with_elements_exchanged(spinel(), np.random.default_rng(0)) is None


def test_exchange_of_equal_orbits_swaps_elements() -> None:
    crystal = Crystals.from_atoms([bulk("NaCl", "zincblende", a=5.6)])
    swapped = with_elements_exchanged(crystal, np.random.default_rng(0))
    assert swapped is not None
    assert swapped.numbers.tolist() == crystal.numbers.flip(0).tolist()
    assert space_groups(swapped)[0] == 216


def test_exchange_keeps_operations() -> None:
    """An ordered double perovskite with its cations on other orbits of the same group."""
    crystal = doubled(perovskite(), (1, 1, 1))
    numbers = crystal.numbers.clone()
    titanium = (numbers == 22).nonzero().flatten()
    numbers[titanium[1]] = 41
    ordered = Crystals(crystal.cell, crystal.frac, numbers, crystal.offsets)
    assert space_groups(ordered)[0] == 225
    for seed in range(5):
        made = with_elements_exchanged(ordered, np.random.default_rng(seed))
        if made is not None:
            assert space_groups(made)[0] >= 216


def test_other_subset_is_exact_and_other() -> None:
    rng = np.random.default_rng(0)
    size = np.array([1, 2, 2, 4, 3, 1])
    present = np.array([True, False, True, False, True, False])
    for _ in range(30):
        chosen = other_subset(size, present, rng)
        assert chosen is not None
        assert size[chosen].sum() == 6
        assert (chosen != present).any()
    assert other_subset(np.array([2, 4]), np.array([True, False]), rng) is None


# -- distortion, halves, heredity -------------------------------------------------------------------


def test_strain_keeps_the_volume_and_rattling_is_of_its_size() -> None:
    crystal, shifts = doubled(spinel(), (1, 0, 0)), []
    for seed in range(20):
        start = strained_and_rattled(crystal, np.random.default_rng(seed))
        assert float(start.volumes) == pytest.approx(float(crystal.volumes))
        gap = start.frac - crystal.frac
        shifts.append(((gap - gap.round()) @ start.cell[0]).square().mean().sqrt())
    assert 0.1 < float(torch.stack(shifts).mean()) < 0.5


@pytest.mark.parametrize("q", [(1, 0, 0), (0, 1, 1), (1, 1, 1)])
def test_half_of_a_doubled_crystal_is_the_crystal(q: tuple[int, int, int]) -> None:
    crystal = perovskite()
    both = doubled(crystal, q)
    shaken = both.frac + 0.01 * torch.randn(both.frac.shape, generator=torch.Generator().manual_seed(0))
    half = halved(both.with_geometry(both.cell, shaken), np.random.default_rng(0))
    assert half is not None
    assert len(half.numbers) == 5
    assert float(half.volumes) == pytest.approx(float(crystal.volumes))
    assert bool(Matcher.DEFAULT.fits(crystal, half)[0])


def test_what_has_no_half_is_not_halved() -> None:
    assert halved(perovskite(), np.random.default_rng(0)) is None  # one Sr
    assert halved(spinel(), np.random.default_rng(0)) is None  # no translation nearly holds


def test_a_child_of_one_crystal_and_itself_has_its_cell() -> None:
    crystal = spinel()
    one = child(Crystals.cat([crystal, crystal]), np.random.default_rng(0))
    assert one is not None
    assert float(one.volumes) == pytest.approx(float(crystal.volumes))
    assert sorted(one.numbers.tolist()) == sorted(crystal.numbers.tolist())


def test_a_child_has_a_slab_of_each_parent() -> None:
    """Of elements on distinct planes: parents that are all Na first and all Cl first along each axis."""
    a = Crystals.from_arrays([6 * np.eye(3)], [[[0.25] * 3, [0.75] * 3]], [[11, 17]])
    b = Crystals.from_arrays([6 * np.eye(3)], [np.full((4, 3), 0.1)], [[11, 17, 11, 17]])
    made = child(Crystals.cat([a, b]), np.random.default_rng(3))
    assert made is not None
    assert sorted(made.numbers.tolist()) == [11, 11, 17, 17]
    c = Crystals.from_arrays([6 * np.eye(3)], [np.full((3, 3), 0.1)], [[11, 17, 11]])
    assert child(Crystals.cat([a, c]), np.random.default_rng(0)) is None


# -- layers -----------------------------------------------------------------------------------------


def _bonds(crystal: Crystals) -> np.ndarray:
    pairs = neighbour_list(crystal, 2.7)
    return np.sort(pairs.distance.numpy()) / len(crystal.numbers), len(pairs.distance) / len(crystal.numbers)


def test_restacked_molybdenite_keeps_its_layers_and_finds_3r() -> None:
    crystal, groups = molybdenite(), set()
    for seed in range(80):
        start = restacked(crystal, np.random.default_rng(seed))
        assert start is not None
        n_layers = len(start.numbers) // 3
        assert 1 <= n_layers <= 4
        area = 3.16**2 * 3**0.5 / 2
        assert float(start.volumes) == pytest.approx(n_layers * area * 6.15, rel=1e-6)
        within, across = (neighbour_list(start, r).distance for r in (2.6, 2.9))
        assert len(within) == len(across) == n_layers * 12  # six bonds from Mo, three from each S
        assert within.numpy() == pytest.approx(2.39, abs=0.05)
        groups.add((space_groups(start)[0], n_layers))
    assert (160, 1) in groups  # 3R, which has one layer in its primitive cell
    assert (187, 1) in groups  # one above the other


def test_turns_of_plane_lattices() -> None:
    """Orders of the point groups of the plane lattices: 6mm, 4mm, 2mm, 2."""
    a, b, height = np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), 3**0.5 / 2
    for plane, order in (
        ([a, -0.5 * a + height * b], 12),
        ([a, b], 8),
        ([a, 1.4 * b], 4),
        ([a, 0.3 * a + 1.4 * b], 2),
    ):
        turns = in_plane_turns(np.array(plane))
        assert len(turns) == order
        metric = np.array(plane) @ np.array(plane).T
        np.testing.assert_allclose(turns @ metric @ turns.transpose(0, 2, 1), [metric] * order, atol=0.05)


def test_three_dimensional_crystals_are_not_restacked() -> None:
    assert restacked(rock_salt(), np.random.default_rng(0)) is None


# -- all together -----------------------------------------------------------------------------------


def test_moves_obey_the_target_and_do_not_depend_on_the_shards() -> None:
    cscl = Crystals.from_atoms([bulk("NaCl", "cesiumchloride", a=3.3)])
    parents = Crystals.cat([rock_salt(), cscl])
    target = Target.parse("NaCl", max_atoms=4, space_groups=frozenset(range(16, 231)))
    whole = moved(target, parents, range(24), seed=[0, 1], **SOUND)
    parts = [moved(target, parents, range(k, k + 8), seed=[0, 1], **SOUND) for k in (0, 8, 16)]
    assert whole.crystals.ids() == [i for part in parts for i in part.crystals.ids()]
    assert whole.provenance == [p for part in parts for p in part.provenance]
    assert whole.requested == 24 == len(whole.provenance) + whole.failed.total()
    assert int(whole.crystals.n_atoms.max()) <= 4
    assert min(space_groups(whole.crystals, 1e-3)) >= 16
    for one in range(len(whole.crystals)):
        assert same_composition(whole.crystals[one], rock_salt())
    assert moved(target, parents, range(24), seed=[0, 2], **SOUND).crystals.ids() != whole.crystals.ids()


def test_with_nothing_to_move_all_is_said_to_be_lost() -> None:
    none = moved(Target.parse("NaCl"), Crystals.empty(), range(5), seed=[0, 1], **SOUND)
    assert none.requested == 5
    assert none.failed == {"immovable": 5}
