"""Cells from files of several formats, and what is said of those that have none."""

from __future__ import annotations

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
    with pytest.raises(InputError, match="that pymatgen or ASE can read"):
        read_cell(tmp_path / "text.cif")
    with pytest.raises(InputError, match="300 Å"):
        read_cell(tmp_path / "large.extxyz")


def test_settings_pass_the_cell_on(tmp_path):
    path = tmp_path / "si.extxyz"
    write(path, bulk("Si"))
    asked = SearchSettings.read(formula="Ge", cell=path, generators=("space_group",))
    np.testing.assert_allclose(asked.target().cell, bulk("Si").cell.array, atol=1e-6)
    assert SearchSettings.read(formula="Ge").target().cell is None
    with pytest.raises(InputError, match=r"^cell: templates have cells of their own"):
        SearchSettings.read(formula="Ge", cell=path)
