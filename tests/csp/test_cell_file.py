"""Cells from files of several formats, and what is said of those that have none."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write
from pymatgen.core import Lattice, Structure

from csp.cell_file import read_cell
from csp.errors import InputError, MissingError
from csp.settings import SearchSettings

CELL = [[3.9, 0.0, 0.0], [0.4, 4.1, 0.0], [0.2, 0.3, 5.2]]


@pytest.mark.parametrize("name", ["a.cif", "POSCAR", "a.json", "a.extxyz", "a.xsf"])
def test_formats(tmp_path, name):
    path = tmp_path / name
    if name in ("a.extxyz", "a.xsf"):
        write(path, Atoms("Si", cell=CELL, pbc=True))
    else:
        Structure(Lattice(CELL), ["Si"], [[0, 0, 0]]).to(str(path), fmt="poscar" if name == "POSCAR" else "")
    cell = np.array(read_cell(path))
    np.testing.assert_allclose(cell @ cell.T, np.array(CELL) @ np.array(CELL).T, atol=1e-4)


def test_files_without_a_cell(tmp_path):
    write(tmp_path / "water.xyz", molecule("H2O"))
    (tmp_path / "text.cif").write_text("nothing")
    write(tmp_path / "large.extxyz", Atoms("Si", cell=[300, 5, 5], pbc=True))
    with pytest.raises(MissingError, match=r"no file .*none\.cif"):
        read_cell(tmp_path / "none.cif")
    with pytest.raises(InputError, match="in a plane"):
        read_cell(tmp_path / "water.xyz")
    with pytest.raises(InputError, match="no crystal structure can be read in it, line 1"):
        read_cell(tmp_path / "text.cif")
    (tmp_path / "text.cif").rename(tmp_path / "POSCAR")
    with pytest.raises(InputError, match="that pymatgen or ASE can read"):
        read_cell(tmp_path / "POSCAR")
    with pytest.raises(InputError, match="300 Å"):
        read_cell(tmp_path / "large.extxyz")


CIF = """data_a
_cell_length_a 4.1
_cell_length_b 4.2(3)
_cell_length_c 5.3
_cell_angle_alpha 90
_cell_angle_beta {beta}
"""


def test_cifs_in_whichever_clothes(tmp_path):
    text = CIF.format(beta=101)
    (tmp_path / "UPPER.CIF").write_text(text)
    (tmp_path / "bom.cif").write_text(text, encoding="utf-8-sig")
    (tmp_path / "wide.cif").write_text(text, encoding="utf-16")
    (tmp_path / "name.mcif").write_text(text.replace("_cell_length", "_cell.length"))
    (tmp_path / "small.cif.gz").write_bytes(gzip.compress(text.encode()))
    expected = Lattice.from_parameters(4.1, 4.2, 5.3, 90, 101, 90).matrix
    for path in tmp_path.iterdir():
        np.testing.assert_allclose(read_cell(path), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CIF.format(beta=180), "no cell has edges and angles of 4.1, 4.2, 5.3, 90, 180, 90"),
        (CIF.format(beta="abc"), "not made of numbers"),
        (CIF.format(beta=90) + CIF.format(beta=90).replace("data_a", "data_b"), "it holds 2 crystals"),
        (CIF.format(beta=90) + "_cell_length_a 7", "gives both 4.1 and 7"),
        ("data_a\n_journal_name 'A'", "holds no crystal structure"),
    ],
)
def test_cifs_without_one_cell(tmp_path, text, says):
    (tmp_path / "a.cif").write_text(text)
    with pytest.raises(InputError, match=says):
        read_cell(tmp_path / "a.cif")


def test_settings_pass_the_cell_on(tmp_path):
    path = tmp_path / "si.extxyz"
    write(path, bulk("Si"))
    asked = SearchSettings.read(formula="Ge", cell=path, generators=("space_group",))
    np.testing.assert_allclose(asked.target().cell, bulk("Si").cell.array, atol=1e-6)
    assert SearchSettings.read(formula="Ge").target().cell is None
    with pytest.raises(InputError, match=r"^cell: templates have cells of their own"):
        SearchSettings.read(formula="Ge", cell=path)
