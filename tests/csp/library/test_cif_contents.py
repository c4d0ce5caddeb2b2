"""CIFs: coordinates and symbols, what is checked, files, and what other programs write."""

from __future__ import annotations

import gzip
import warnings
from collections import Counter
from pathlib import Path

import ase.io
import numpy as np
import pytest
import spglib
from ase.spacegroup import crystal as ase_crystal
from pymatgen.core import Structure
from pymatgen.io.cif import CifWriter
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from csp.crystallography.symmetry import space_groups
from csp.crystals import Crystals
from csp.errors import CrystalError, InputError
from csp.library.cif import read_cif, read_cifs
from csp.library.library import Library
from tests.csp.library.test_cif import (
    CUBE,
    NACL,
    ROCKSALT,
    cif,
    hm,
    read,
    refused,
    same,
)
from tests.places import SHARED, needs

STRUCTURES, REPORTS = SHARED / "data" / "mp_structures.parquet", SHARED / "reports" / "cif"

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
        (("T1", "."), "", "no element"),
        (("T1", "."), "O Si", "no element"),
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
