"""CIFs of every kind that people have: that crystal, or one sentence why not."""

from __future__ import annotations

import gzip
import warnings
from collections import Counter
from pathlib import Path

import ase.io
import numpy as np
import pytest
import spglib
from ase.build import bulk
from ase.spacegroup import crystal as ase_crystal
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from csp.crystallography.symmetry import space_groups
from csp.crystals import Crystals
from csp.errors import CrystalError, InputError
from csp.library.cif import read_cif, read_cifs
from csp.library.library import Library
from csp.matching.matcher import Matcher
from tests.places import SHARED, needs

STRUCTURES, REPORTS = SHARED / "data" / "mp_structures.parquet", SHARED / "reports" / "cif"
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


# -- coordinates and symbols --------------------------------------------------------------------------


def test_images_in_three_decimals_are_one_atom_in_its_special_place(tmp_path: Path) -> None:
    sites = [("Mg1", "Mg", 0.333, 0.667, 0.063), ("Zn1", "Zn", 0, 0, 0), ("Zn2", "Zn", 0.8305, 0.661, 0.25)]
    found = read(tmp_path, cif((5.221, 5.221, 8.567, 90, 90, 120), hm("P 63/m m c"), sites, "Mg Zn2"))
    assert Counter(found.numbers.tolist()) == {12: 4, 30: 8}
    thirds = found.frac[found.numbers == 12][:, :2].numpy() * 3
    np.testing.assert_allclose(thirds, np.rint(thirds), atol=1e-12)
    assert space_groups(found, 1e-5) == [194]


@pytest.mark.parametrize(
    ("text", "element"),
    [("Fe3+", 26), ("O2-", 8), ("Na+", 11), ("O-2", 8), ("Cl1-", 17), ("D", 1), ("Fe0+", 26), ("Si4", 14)],
)
def test_type_symbols(tmp_path: Path, text: str, element: int) -> None:
    assert read(tmp_path, cif(CUBE, "", [("A1", text, 0, 0, 0)])).numbers.tolist() == [element]


@pytest.mark.parametrize(
    ("site", "formula", "kind"),
    [
        (("O1", "OH"), "H Mg O", "groups of atoms"),
        (("N1", "NH4"), "", "groups of atoms"),
        (("N1", "NH4+"), "", "groups of atoms"),
        (("O1", "H2O"), "", "groups of atoms"),
        (("X1", "X"), "", "no element"),
        (("M", "?"), "", "no element"),
        (("OH", "."), "", "groups of atoms"),
        (("C1", "CO"), "", "groups of atoms"),
        (("C1", "Cval"), "", "no element"),
    ],
)
def test_what_is_no_element(tmp_path: Path, site: tuple, formula: str, kind: str) -> None:
    assert refused(tmp_path, cif(CUBE, "", [(*site, 0, 0, 0)], formula)).kind == kind


def test_capitals_and_labels_where_the_formula_leaves_no_doubt(tmp_path: Path) -> None:
    sites = [("NA1", "NA", 0, 0, 0), ("CL1", "CL", 0.5, 0.5, 0.5)]
    assert read(tmp_path, cif(CUBE, "", sites, "Na Cl")).numbers.tolist() == [11, 17]
    sites = [("CaM2", ".", 0, 0, 0), ("OA1", ".", 0.5, 0.5, 0.5)]
    assert read(tmp_path, cif(CUBE, "", sites, "Ca O")).numbers.tolist() == [20, 8]
    sites = [("CO", ".", 0, 0, 0), ("OB", ".", 0.5, 0.5, 0.5)]
    assert read(tmp_path, cif(CUBE, "", sites, "Co O")).numbers.tolist() == [27, 8]


def test_dots_are_zeros_and_question_marks_unknown(tmp_path: Path) -> None:
    """In ICSD's files a coordinate of zero is a dot."""
    assert read(tmp_path, cif(CUBE, "", [("K1", "K", ".5", ".", ".")])).frac.tolist() == [[0.5, 0.0, 0.0]]
    assert refused(tmp_path, cif(CUBE, "", [("K1", "K", "?", "?", "?")])).kind == "no coordinates"
    assert refused(tmp_path, cif(CUBE, "", [("K1", "K", "1/3", 0, 0)])).kind == "no coordinates"


# -- what is checked ----------------------------------------------------------------------------------

BRUCITE = (3.142, 3.142, 4.766, 90, 90, 120)


@pytest.mark.parametrize(
    ("sites", "formula", "more", "kind"),
    [
        ([("Mg1", "Mg", 0, 0, 0), ("O1", "O", 1 / 3, 2 / 3, 0.2203)], "H2 Mg1 O2", "", "hydrogens left out"),
        ([("Mg", ".", 0, 0, 0), ("OH", ".", 1 / 3, 2 / 3, 0.2203)], "H2 Mg1 O2", "", "hydrogens left out"),
        ([("Mg1", "Mg", 0, 0, 0), ("O1", "O", 1 / 3, 2 / 3, 0.2203)], "Mg1 O1", "", "other composition"),
        ([("Mg1", "Mg", 0, 0, 0), ("O1", "O", 1 / 3, 2 / 3, 0.2203)], "Mg0.9 O2", "", "other composition"),
        (
            [("Mg1", "Mg", 0, 0, 0), ("O1", "O", 1 / 3, 2 / 3, 0.2203)],
            "Mg O2",
            "_cell_formula_units_Z 2",
            "other Z",
        ),
        (
            [("Mg1", "Mg", 0, 0, 0), ("O1", "O", 1 / 3, 2 / 3, 0.2203)],
            "Mg O2",
            "_exptl_crystal_density_diffrn 4.5",
            "wrong density",
        ),
        ([("Mg1", "Mg", 0, 0, 0), ("O1", "O", 0, 0, 0.1)], "", "", "overlapping atoms"),
        ([("Mg1", "Mg", 0, 0, 0), ("O1", "O", 0, 0, 0)], "", "", "overlapping atoms"),
        ([("Mg1", "Mg", 0, 0, 0, 0.9)], "", "", "partial occupancies"),
        ([("Mg1", "Mg", 0, 0, 0, 0)], "", "", "no atoms"),
    ],
)
def test_what_cannot_be_the_crystal(
    tmp_path: Path, sites: list[tuple], formula: str, more: str, kind: str
) -> None:
    assert refused(tmp_path, cif(BRUCITE, hm("P -3 m 1"), sites, formula, more)).kind == kind


def test_right_numbers_are_no_fault(tmp_path: Path) -> None:
    """Z of the sum formula, or of the reduced one, as pymatgen writes; a density within a tenth."""
    for formula, z in (("Na Cl", 4), ("Na4 Cl4", 1), ("Na4 Cl4", 4)):
        more = f"_cell_formula_units_Z {z}\n_exptl_crystal_density_diffrn 2.2"
        assert same(read(tmp_path, cif(CUBE, hm("F m -3 m"), ROCKSALT, formula, more)), NACL)


# -- files --------------------------------------------------------------------------------------------


def test_every_block_of_a_file(tmp_path: Path) -> None:
    good = cif(CUBE, hm("F m -3 m"), ROCKSALT, name="salt")
    text = (
        "data_global\n_journal_name_full 'A'\n"
        + good
        + cif(CUBE, "", [("X", "X", 0, 0, 0)], name="dummy")
        + cif((5, 5, 5, 90, 90, 90), hm("F m -3 m"), ROCKSALT, name="salt")
    )
    (tmp_path / "all.cif").write_text(text)
    found = read_cifs(tmp_path / "all.cif")
    assert list(found) == ["salt", "dummy", "salt-2"]
    assert [isinstance(one, Crystals) for one in found.values()] == [True, False, True]
    with pytest.raises(CrystalError, match=r"holds 3 crystals \(salt, dummy, salt-2\), not one"):
        read_cif(tmp_path / "all.cif")


def test_names_encodings_and_compression(tmp_path: Path) -> None:
    text = cif(CUBE, hm("F m -3 m"), ROCKSALT, more="_publ_author_name 'Müller, Å.'")
    (tmp_path / "UPPER.CIF").write_text(text)
    (tmp_path / "bom.cif").write_text(text, encoding="utf-8-sig")
    (tmp_path / "latin.cif").write_text(text, encoding="latin-1")
    (tmp_path / "wide.cif").write_text(text, encoding="utf-16")
    (tmp_path / "dos.cif").write_bytes(text.replace("\n", "\r\n").encode() + b"\x1a")
    (tmp_path / "small.cif.gz").write_bytes(gzip.compress(text.encode()))
    names = set()
    for path in tmp_path.iterdir():
        [(name, found)] = read_cifs(path).items()
        assert isinstance(found, Crystals)
        assert same(found, NACL)
        names.add(name)
    assert names == {"UPPER", "bom", "latin", "wide", "dos", "small"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no crystal structure"),
        (b"not a CIF at all", "line 1"),
        (b"data_x\n_cell_length_a 'open\n", "line 2"),
        (bytes(range(256)) * 20, "line 1"),
        (b"data_x\nloop_\n_atom_site_label\n_atom_site_fract_x\nNa 0 0\n", "line 2"),
    ],
)
def test_files_that_are_no_cif(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.cif").write_bytes(content)
    with pytest.raises(CrystalError, match=says):
        read_cif(tmp_path / "a.cif")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.cif.gz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match=r"a\.cif\.gz cannot be read"):
        read_cif(tmp_path / "a.cif.gz")
    (tmp_path / "bomb.cif.gz").write_bytes(gzip.compress(b"#" * (65 * 2**20)))
    with pytest.raises(InputError, match="more than 64 MB"):
        read_cif(tmp_path / "bomb.cif.gz")


REPORTED = {
    "CaCO3_calcite_R-3cH": (167, 30),
    "CaTiO3_Pbnm_number_only": (62, 20),
    "MgZn2_3_decimals": (194, 12),
    "NaCl_HM_old_Fm3m": (225, 8),
    "NaCl_hall_only": (225, 8),
    "NaCl_number_only": (225, 8),
    "Si_HM_Fd-3mS": (227, 8),
    "Si_HM_Fd-3m_colon1": (227, 8),
    "UPPER": (225, 8),
    "ZnS_3_decimals": (186, 4),
    "ZrO2_P21c": (14, 12),
    "ZrO2_P21n": (14, 12),
    "ZrO2_P21n_number_only": "open setting",
    "bom": (225, 8),
    "brucite_label_only_OH": "hydrogens left out",
    "brucite_without_H": "hydrogens left out",
    "dummy_site": "no element",
    "partial": "partial occupancies",
    "NaF": (225, 8),
    "KBr": (225, 8),
    "MgO": (225, 8),
}


@needs(REPORTS)
def test_the_reported_files() -> None:
    found = {name: one for path in sorted(REPORTS.iterdir()) for name, one in read_cifs(path).items()}
    assert {
        name: one.kind if isinstance(one, CrystalError) else (space_groups(one)[0], len(one.numbers))
        for name, one in found.items()
    } == REPORTED


# -- what other programs write ------------------------------------------------------------------------


@needs(STRUCTURES)
@pytest.mark.parametrize("n", [5, pytest.param(300, marks=pytest.mark.slow)])
def test_what_pymatgen_and_ase_write_is_read_back(tmp_path: Path, n: int) -> None:
    """Crystals of all space groups alike, in P 1, and by their asymmetric units in conventional cells."""
    library = Library.open(STRUCTURES)
    rows = library.all_rows()
    rows = rows[library.n_atoms[rows] <= 40]
    groups, random = library.space_group[rows], np.random.default_rng(n)
    for group in random.choice(np.unique(groups), n):
        [given] = library.crystals([random.choice(rows[groups == group])]).structures()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pymatgen and ASE of what spglib deprecates
            written = list(_written(tmp_path, given))
        for path, expected in written:
            assert same(read_cif(path), expected), (path.name, given)


def _written(folder: Path, given: Structure):
    CifWriter(given).write_file(folder / "pymatgen.cif")
    yield folder / "pymatgen.cif", given
    ase.io.write(folder / "ase.cif", given.to_ase_atoms())
    yield folder / "ase.cif", given
    refined = SpacegroupAnalyzer(given, 0.01).get_refined_structure()
    CifWriter(refined, symprec=1e-3, refine_struct=False).write_file(folder / "operations.cif")
    yield folder / "operations.cif", refined
    data = spglib.get_symmetry_dataset(
        (refined.lattice.matrix, refined.frac_coords, refined.atomic_numbers), 1e-3
    )
    first = np.unique(data.equivalent_atoms)
    atoms = ase_crystal(
        [refined[int(k)].specie.symbol for k in first],
        refined.frac_coords[first],
        spacegroup=data.number,
        setting=2 if spglib.get_spacegroup_type(data.hall_number).choice == "2" else 1,
        cell=refined.lattice.matrix,
        symprec=1e-3,
    )
    if len(atoms) == len(refined):  # else its standard cell is not ASE's
        ase.io.write(folder / "ase_group.cif", atoms)
        yield folder / "ase_group.cif", refined
