"""Sites, bonds and coordination of structures that any textbook has."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, mx2
from ase.spacegroup import crystal

from csp.crystals import Crystals
from csp.report.description import Description, describe, widest_gap
from csp.report.scene import scene

SYMPREC = 0.01


def perovskite(a: float = 3.9) -> Atoms:
    places = [(0.5, 0.5, 0.5), (0, 0, 0), (0.5, 0, 0)]
    return crystal(["Sr", "Ti", "O"], places, spacegroup=221, cellpar=[a, a, a, 90, 90, 90])


def rutile() -> Atoms:
    places = [(0, 0, 0), (0.3053, 0.3053, 0)]
    return crystal(["Ti", "O"], places, spacegroup=136, cellpar=[4.594, 4.594, 2.959, 90, 90, 90])


def molybdenite(c: float) -> Atoms:
    """Two layers of MoS2 in a cell of height c, Å."""
    layer = mx2("MoS2", kind="2H", a=3.16, thickness=3.17, vacuum=5.0)
    second = layer.copy()
    second.positions[:, :2] = -second.positions[:, :2]
    middle = layer.positions[0, 2]
    layer.positions[:, 2] += c / 4 - middle
    second.positions[:, 2] += 3 * c / 4 - middle
    both = layer + second
    both.set_cell([*layer.cell[:2], [0, 0, c]])
    both.pbc = True
    return both


def of(atoms: Atoms) -> Description:
    return describe(Crystals.from_atoms([atoms]), SYMPREC)


def told(described: Description) -> dict[str, tuple[str, int, int | None]]:
    """Of each element the Wyckoff position, the coordination number and the charge of its one site."""
    return {s.element: (f"{s.multiplicity}{s.letter}", s.coordination, s.charge) for s in described.sites}


def test_the_perovskite() -> None:
    """Ti in an octahedron at a/2, Sr among twelve at a/√2, whatever cell it comes in."""
    for atoms in (perovskite(), perovskite().repeat((2, 1, 1))):
        found = of(atoms)
        positions = told(found)
        assert found.space_group == 221
        assert found.parameters == pytest.approx((3.9, 3.9, 3.9, 90, 90, 90))
        assert {element: what[1:] for element, what in positions.items()} == {
            "Sr": (12, 2), "Ti": (6, 4), "O": (2, -2)
        }  # fmt: skip
        assert positions["O"][0] in ("3c", "3d")  # by the choice of origin
        bonds = {bond.element: bond for bond in found.shortest_bonds}
        assert (bonds["Ti–O"].count, bonds["Sr–O"].count) == (6, 12)
        assert (bonds["Ti–O"].shortest, bonds["Ti–O"].longest) == pytest.approx((3.9 / 2, 3.9 / 2))
        assert bonds["Sr–O"].shortest == pytest.approx(3.9 / math.sqrt(2))


def test_rock_salt_zinc_blende_and_diamond() -> None:
    assert told(of(bulk("MgO", "rocksalt", a=4.21))) == {"Mg": ("4a", 6, 2), "O": ("4b", 6, -2)}
    blende = of(bulk("ZnS", "zincblende", a=5.41))
    assert {s.element: (s.multiplicity, s.coordination) for s in blende.sites} == {"Zn": (4, 4), "S": (4, 4)}
    assert blende.shortest_bonds[0].shortest == pytest.approx(5.41 * math.sqrt(3) / 4)
    diamond = of(bulk("C", "diamond", a=3.567))
    assert [(s.multiplicity, s.coordination) for s in diamond.sites] == [(8, 4)]
    assert len(diamond.bonds) == 16  # 8 atoms, 4 bonds each, each bond once


def test_rutile_has_two_lengths_in_its_octahedron() -> None:
    found = of(rutile())
    assert told(found) == {"Ti": ("2a", 6, 4), "O": ("4f", 3, -2)}
    titanium = found.sites[0]
    apical = 0.3053 * 4.594 * math.sqrt(2)
    equatorial = math.hypot((0.5 - 0.3053) * 4.594 * math.sqrt(2), 2.959 / 2)
    assert sorted((s.count, round(s.shortest, 4)) for s in titanium.shells) == sorted(
        [(2, round(apical, 4)), (4, round(equatorial, 4))]
    )


def test_every_bond_is_as_long_as_it_is_told_and_each_atom_has_those_of_its_site() -> None:
    for atoms in (perovskite(), rutile(), molybdenite(12.3)):
        found = of(atoms)
        ((cell, frac, _),) = found.crystal.arrays()
        ends = np.zeros(len(frac), dtype=int)
        for bond in found.bonds:
            vector = (frac[bond.j] + bond.image - frac[bond.i]) @ cell
            assert np.linalg.norm(vector) == pytest.approx(bond.length, abs=1e-9)
            ends[[bond.i, bond.j]] += 1
        for k, site in enumerate(found.sites):
            assert len({ends[n] for n, orbit in enumerate(found.orbit) if orbit == k}) == 1
            assert found.orbit.count(k) == site.multiplicity


def test_the_gap_between_layers_and_none_in_what_has_no_layers() -> None:
    wide, close = molybdenite(20.0), molybdenite(12.3)
    assert widest_gap(Crystals.from_atoms([wide])) == pytest.approx(20.0 / 2 - 3.17, abs=1e-6)
    assert widest_gap(Crystals.from_atoms([close])) == pytest.approx(12.3 / 2 - 3.17, abs=1e-6)
    turned = wide.copy()
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    sheared = Atoms(turned.numbers, turned.positions, cell=turned.cell[[0, 1, 2]] + [0, 0, 0], pbc=True)
    sheared.set_cell([turned.cell[0], turned.cell[1], turned.cell[2] + turned.cell[0]])
    assert widest_gap(Crystals.from_atoms([sheared])) == pytest.approx(20.0 / 2 - 3.17, abs=1e-6)
    assert widest_gap(Crystals.from_atoms([perovskite()])) == pytest.approx(3.9 / 2)


def test_charges_that_do_not_balance_are_not_told() -> None:
    assert {site.charge for site in of(bulk("Cu")).sites} == {None}
    assert {site.charge for site in of(bulk("NiAl", "cesiumchloride", a=2.89)).sites} == {None}


def test_many_sites_are_told_without_their_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("csp.report.description.MOST_SITES", 1)
    found = of(rutile())
    assert not found.analysed
    assert [(site.shells, site.charge) for site in found.sites] == [((), None)] * 2
    assert found.bonds == ()


def test_what_cannot_be_analysed_is_described_as_it_is() -> None:
    on_one_place = Crystals.from_arrays([np.eye(3) * 4], [[[0, 0, 0], [0, 0, 1e-9]]], [[31, 31]])
    found = describe(on_one_place, SYMPREC)
    assert (found.space_group, found.moved, len(found.sites)) == (1, None, 2)


def test_a_scene_has_closed_polyhedra_around_the_cations() -> None:
    """Euler: as many corners and faces as edges and two more; MoS2 has prisms of 6 corners, Ti octahedra."""
    for atoms, n in ((perovskite(), 1), (rutile(), 2), (molybdenite(12.3), 2)):
        found = of(atoms)
        drawn = scene(found)
        ((cell, _, _),) = found.crystal.arrays()
        assert len(drawn["polyhedra"]) == n
        for centre, corners, triangles in drawn["polyhedra"]:
            edges = {tuple(sorted(pair)) for a, b, c in triangles for pair in ((a, b), (b, c), (c, a))}
            assert len(corners) == 6
            assert len({k for triangle in triangles for k in triangle}) - len(edges) + len(triangles) == 2
            around = np.array([drawn["atoms"][j][1:] for j, *_ in corners]) + [image for _, *image in corners]
            lengths = np.linalg.norm((around - drawn["atoms"][centre][1:]) @ cell, axis=1)
            assert lengths.max() < 2.6


def test_a_scene_of_a_metal_is_balls_in_a_cell() -> None:
    drawn = scene(of(bulk("Cu")))
    assert (len(drawn["atoms"]), drawn["bonds"], drawn["polyhedra"]) == (4, [], [])
    assert drawn["elements"][0][:2] == ["Cu", "#c88033"]  # as in Jmol
