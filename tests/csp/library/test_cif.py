"""CIFs of every kind that people have: that crystal, or one sentence why not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import spglib
from ase.build import bulk
from pymatgen.core import Lattice, Structure

from csp.crystallography.symmetry import space_groups
from csp.crystals import Crystals
from csp.errors import CrystalError
from csp.library.cif import read_cif
from csp.matching.matcher import Matcher

EQUAL = Matcher(ltol=0.01, stol=0.01, angle_tol=0.5, scale=False)

A = 5.64
CUBE = (A, A, A, 90, 90, 90)
ROCKSALT = [("Na1", "Na", 0, 0, 0), ("Cl1", "Cl", 0.5, 0.5, 0.5)]
DIAMOND = Crystals.from_atoms([bulk("Si", "diamond", 5.43)])
NACL = Structure.from_spacegroup("Fm-3m", Lattice.cubic(A), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
ZRO2 = (
    Lattice.monoclinic(5.1505, 5.2116, 5.3173, 99.23),
    ["Zr", "O", "O"],
    [[0.2754, 0.0395, 0.2083], [0.07, 0.3317, 0.3447], [0.4496, 0.7569, 0.4792]],
)
BADDELEYITE = Structure.from_spacegroup("P2_1/c", *ZRO2)


def cif(
    cell: tuple[float, ...], said: str, sites: list[tuple], formula: str = "", more: str = "", name: str = "x"
) -> str:
    """A CIF of a cell, what it says of its symmetry, and sites (label, type symbol, x, y, z, occupancy)."""
    lines = [f"data_{name}"]
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines += [f"_cell_{name} {value}" for name, value in zip(names, cell, strict=True)]
    lines += [f"_chemical_formula_sum '{formula}'"] if formula else []
    columns = ["label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy"]
    sites = [(*site, 1)[:6] for site in sites]
    lines += [said, more, "loop_", *(f"_atom_site_{column}" for column in columns)]
    return "\n".join([*lines, *(" ".join(map(str, site)) for site in sites)]) + "\n"


def read(folder: Path, text: str) -> Crystals:
    (folder / "x.cif").write_text(text, encoding="utf-8")
    return read_cif(folder / "x.cif")


def refused(folder: Path, text: str) -> CrystalError:
    with pytest.raises(CrystalError) as caught:
        read(folder, text)
    assert str(caught.value).count(". ") == 0, "one sentence"
    assert str(caught.value) == f"{folder / 'x.cif'} cannot be used: {caught.value.clause}."
    return caught.value


def same(found: Crystals, expected: Structure) -> bool:
    return len(found.numbers) == len(expected) and bool(
        EQUAL.fits(Crystals.from_structures([expected]), found)
    )


def hm(name: str) -> str:
    return f"_symmetry_space_group_name_H-M '{name}'"


# -- symmetry -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        *(hm(name) for name in ("F m -3 m", "F m 3 m", "Fm-3m", "Fm3m", "f m -3 m ")),
        "_space_group_name_H-M_alt 'F m -3 m'",
        "_space_group.name_H-M_alt 'F m -3 m'",
        "_space_group_name_Hall '-F 4 2 3'",
        "_space_group_IT_number 225",
        "_symmetry_Int_Tables_number 225\n" + hm("?"),
        "_symmetry_Int_Tables_number 225\nloop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'",
    ],
)
def test_a_named_group_without_its_operations(tmp_path: Path, said: str) -> None:
    assert same(read(tmp_path, cif(CUBE, said, ROCKSALT)), NACL)


@pytest.mark.parametrize(
    ("name", "x"),
    [
        ("F d -3 m :1", 0), ("F d -3 m S", 0), ("F d 3 m :1", 0),
        ("F d -3 m :2", 0.125), ("F d -3 m Z", 0.125), ("Fd-3mZ", 0.125), ("F d -3 m:2", 0.125),
    ],
)  # fmt: skip
def test_origins(tmp_path: Path, name: str, x: float) -> None:
    silicon = read(tmp_path, cif((5.43, 5.43, 5.43, 90, 90, 90), hm(name), [("Si1", "Si", x, x, x)]))
    assert len(silicon.numbers) == 8
    assert Matcher.DEFAULT.fits(DIAMOND, silicon)


def test_an_origin_that_is_left_open(tmp_path: Path) -> None:
    """At 0, 0, 0 stand 8 atoms of diamond or 16 of another crystal; a number of formula units decides."""
    text = cif((5.43, 5.43, 5.43, 90, 90, 90), hm("F d -3 m"), [("Si1", "Si", 0, 0, 0)], "Si")
    assert refused(tmp_path, text).kind == "open setting"
    spinel = [
        ("Mg1", "Mg", 0.125, 0.125, 0.125),
        ("Al1", "Al", 0.5, 0.5, 0.5),
        ("O1", "O", 0.2624, 0.2624, 0.2624),
    ]
    found = read(tmp_path, cif((8.08, 8.08, 8.08, 90, 90, 90), hm("F d -3 m"), spinel, "Al2 Mg O4"))
    assert (len(found.numbers), space_groups(found)) == (56, [227])


def test_settings_of_a_monoclinic_group(tmp_path: Path) -> None:
    """The same baddeleyite in P 21/n: a' = -a - c, c' = a; both by pymatgen's operations for P 21/c."""
    cell = (5.1505, 5.2116, 5.3173, 90, 99.23, 90)
    sites = [(f"{e}{k}", e, *x) for k, (e, x) in enumerate(zip(*ZRO2[1:], strict=True))]
    assert same(read(tmp_path, cif(cell, hm("P 21/c"), sites, "O2 Zr")), BADDELEYITE)
    matrix = np.array([[-1, 0, -1], [0, 1, 0], [1, 0, 0]])  # new basis vectors in the old ones
    other = Lattice(matrix @ ZRO2[0].matrix)
    moved = [(label, e, *np.linalg.solve(matrix.T, x)) for label, e, *x in sites]
    for name in ("P 21/n", "P 1 21/n 1", "P2_1/n", "P2(1)/n", "P 2~1~/n"):
        assert same(read(tmp_path, cif(other.parameters, hm(name), moved, "O2 Zr")), BADDELEYITE)
    text = cif(other.parameters, "_symmetry_Int_Tables_number 14", moved, "O2 Zr")
    assert refused(tmp_path, text).kind == "open setting"


def test_a_number_whose_settings_the_composition_tells_apart(tmp_path: Path) -> None:
    sites = [
        ("Ca1", "Ca", 0.99324, 0.03602, 0.25),
        ("Ti1", "Ti", 0, 0.5, 0),
        ("O1", "O", 0.0714, 0.4838, 0.25),
        ("O2", "O", 0.7108, 0.2888, 0.0371),
    ]
    cell = (5.3796, 5.4423, 7.6401, 90, 90, 90)
    by_number = read(tmp_path, cif(cell, "_symmetry_Int_Tables_number 62", sites, "Ca1 O3 Ti1"))
    pnma = Structure.from_spacegroup(  # (x, y, z) of Pbnm is (y, z, x) of Pnma
        "Pnma",
        Lattice.orthorhombic(cell[1], cell[2], cell[0]),
        [e for _, e, *_ in sites],
        [[y, z, x] for _, _, x, y, z in sites],
    )
    for found in (by_number, read(tmp_path, cif(cell, hm("P b n m"), sites))):
        assert same(found, pnma)


@pytest.mark.parametrize(
    "said", [hm("R -3 c H"), hm("R -3 c"), hm("R -3 c :H"), "_space_group_IT_number 167"]
)
def test_rhombohedral_groups_in_hexagonal_axes(tmp_path: Path, said: str) -> None:
    sites = [("Ca1", "Ca", 0, 0, 0), ("C1", "C", 0, 0, 0.25), ("O1", "O", 0.2578, 0, 0.25)]
    found = read(tmp_path, cif((4.99, 4.99, 17.062, 90, 90, 120), said, sites, "C1 Ca1 O3"))
    assert (len(found.numbers), space_groups(found)) == (30, [167])


@pytest.mark.parametrize(
    "said", [hm("R -3 c R"), hm("R -3 c"), hm("R -3 c :R"), "_space_group_IT_number 167"]
)
def test_rhombohedral_groups_in_their_own_axes(tmp_path: Path, said: str) -> None:
    x = 0.2578
    sites = [("Ca1", "Ca", 0, 0, 0), ("C1", "C", 0.25, 0.25, 0.25), ("O1", "O", 0.25 + x, 0.25 - x, 0.25)]
    found = read(tmp_path, cif((6.375, 6.375, 6.375, 46.08, 46.08, 46.08), said, sites, "C1 Ca1 O3"))
    assert (len(found.numbers), space_groups(found)) == (10, [167])


def test_every_setting_by_its_hall_symbol(tmp_path: Path) -> None:
    """Against the operations in spglib's table: the crystals are the same, atom for atom."""
    point = np.array([0.1312, 0.2741, 0.0863])
    for hall in range(1, 531, 7):
        kind, table = spglib.get_spacegroup_type(hall), spglib.get_symmetry_from_database(hall)
        cell = _cell_of(table["rotations"])
        found = read(
            tmp_path, cif(cell.parameters, f'_space_group_name_Hall "{kind.hall_symbol}"', _sites(point))
        )
        atoms = (table["rotations"] @ point + table["translations"]) % 1.0
        off = found.frac.numpy()[:, None] - atoms[None]
        off -= np.rint(off)
        near = (np.abs(off) < 1e-6).all(axis=-1)
        assert (near.sum(0) == 1).all(), kind.hall_symbol
        assert (near.sum(1) == 1).all(), kind.hall_symbol


def _sites(point: np.ndarray) -> list[tuple]:
    return [("H1", "H", *point)]


def _cell_of(rotations: np.ndarray) -> Lattice:
    """A large cell with the metric that the rotations keep."""
    metric = np.array([[1.0, 0.11, 0.07], [0.11, 1.21, 0.05], [0.07, 0.05, 1.44]]) * 100**2
    kept = np.mean([r.T @ metric @ r for r in rotations], axis=0)
    return Lattice(np.linalg.cholesky(kept))


LISTED = "loop_\n_symmetry_equiv_pos_as_xyz\n"


def test_all_atoms_listed_beside_the_name_of_the_group(tmp_path: Path) -> None:
    """What some programs write: operations of P 1, and the name of the group that the crystal has."""
    sites = [(f"{site.specie}{k}", site.specie.symbol, *site.frac_coords) for k, site in enumerate(NACL)]
    assert same(read(tmp_path, cif(CUBE, f"{hm('F m -3 m')}\n{LISTED}x,y,z", sites, "Na Cl")), NACL)
    sites[0] = ("Na0", "Na", 0.06, 0.0, 0.0)  # a third of an Å away: no longer that group
    error = refused(tmp_path, cif(CUBE, f"{hm('F m -3 m')}\n{LISTED}x,y,z", sites, "Na Cl"))
    assert "names the space group F m -3 m and lists operations of P1, and its atoms fit neither" in str(
        error
    )


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (f"{hm('P m -3 m')}\n_symmetry_Int_Tables_number 225", "contradiction"),
        (f"{hm('P 1')}\n{LISTED}x,y,z\n-x,-y,-z", "contradiction"),
        (f"{hm('P m -3 m')}\n_space_group_name_Hall '-F 4 2 3'", "contradiction"),
        (hm("P 4 nonsense"), "unknown group"),
        ("_space_group_magn.name_BNS \"F m' -3' m'\"", "unknown group"),
        ("_space_group_ssg_name 'P m -3 m(00g)'", "unknown group"),
        (f"{hm('P m -3 m')}\n_cell_modulation_dimension 1", "modulated"),
        ("_symmetry_Int_Tables_number 231", "unknown group"),
        ("_symmetry_Int_Tables_number many", "unknown group"),
        (hm("P 63/m m c"), "wrong cell"),
        (f"{LISTED}x,y,z\n-y,x-y,z\n-x+y,-x,z", "wrong cell"),
        (f"{LISTED}x,y,z\ny,z,x", "no group"),
        (f"{LISTED}x,y,z\nfoo", "no group"),
        (f"{LISTED}x,y,z\nx,y", "no group"),
        (f"{LISTED}x,y,z\nx,x,z", "no group"),
        (f"{LISTED}x,y,z\n-x,-y,z+1/0", "no group"),
        (f"{LISTED}x,y,z\n-x y,-y,z", "no group"),
    ],
)
def test_symmetry_that_contradicts_itself(tmp_path: Path, said: str, kind: str) -> None:
    assert refused(tmp_path, cif(CUBE, said, ROCKSALT)).kind == kind


def test_operations_in_any_spelling(tmp_path: Path) -> None:
    """Mg at 1/4 has an image by inversion; with three decimals, signs, capitals and fractions before x."""
    for text in (
        "'-x+1/2, -y+.5, -z+0.500'",
        "1/2-X,1/2-Y,1/2-Z",
        "'-x +1/2,-y+1/2 , -z+1/2'",
        "-x+3/2,-y-1/2,-z+0.5",
    ):
        found = read(tmp_path, cif(CUBE, f"{LISTED}x,y,z\n{text}", [("Mg1", "Mg", 0.1, 0.2, 0.3)]))
        np.testing.assert_allclose(found.frac.numpy(), [[0.1, 0.2, 0.3], [0.4, 0.3, 0.2]], atol=1e-9)


def test_a_magnetic_cell(tmp_path: Path) -> None:
    """Doubled along c by an anti-centring: the crystal without its moments."""
    said = (
        "loop_\n_space_group_symop_magn_operation.id\n_space_group_symop_magn_operation.xyz\n1 x,y,z,+1\n"
        "2 -x,-y,-z,+1\nloop_\n_space_group_symop_magn_centering.id\n_space_group_symop_magn_centering.xyz\n"
        "1 x,y,z,+1\n2 x,y,z+1/2,-1"
    )
    found = read(
        tmp_path,
        cif((4.4, 4.4, 8.8, 90, 90, 90), said, [("Mn1", "Mn", 0, 0, 0), ("O1", "O", 0.5, 0.5, 0.25)]),
    )
    assert Counter(found.numbers.tolist()) == {25: 2, 8: 2}
