"""Tables that people bring: what is wrong with them is said, with the line."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write

from csp.errors import InputError
from surrogates.properties.own_data import read_own_data
from tests.surrogates.properties.tiny import crystals

FORMULAS = ("NaCl", "MgO", "SrTiO3", "TiO2", "Na2O", "MgCl2", "HCl", "NaH", "MgH2", "SrO", "SrCl2", "H2O")
METALS = [
    "Li",
    "Na",
    "K",
    "Rb",
    "Cs",
    "Ca",
    "Sr",
    "Ba",
    "V",
    "Nb",
    "Ta",
    "Cr",
    "Mo",
    "W",
    "Fe",
    "Ni",
    "Cu",
    "Ag",
    "Au",
    "Pd",
    "Pt",
    "Rh",
    "Ir",
    "Al",
    "Pb",
    "Be",
    "Mg",
    "Ti",
    "Zr",
    "Hf",
    "Sc",
    "Y",
    "Co",
    "Zn",
]


def table(folder: Path, *, columns: str = "formula,value,unit", **lines: str) -> Path:
    """Twelve good rows, some of them replaced: line5="NaCl,abc,GPa"."""
    rows = [f"{formula},{10 + k},GPa" for k, formula in enumerate(FORMULAS)]
    for name, row in lines.items():
        rows[int(name.removeprefix("line")) - 2] = row
    path = folder / "mine.csv"
    path.write_text("\n".join([columns, *rows]) + "\n")
    return path


def test_a_good_table(tmp_path: Path) -> None:
    data = read_own_data(table(tmp_path))
    assert len(data) == 12
    assert data.unit == "GPa"
    assert data.names[2] == "8:3 22:1 38:1"
    assert len(set(data.groups.tolist())) == 12


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ({"line5": "TiO2,abc,GPa"}, "Line 5 has the value 'abc'"),
        ({"line5": "TiO2,nan,GPa"}, "Line 5 has the value nan, which is not finite"),
        ({"line7": "MgCl2,1,MPa"}, "Line 7 has the unit MPa, the first line GPa"),
        ({"line7": "NaCl,99,GPa"}, "Lines 2 and 7 are the same composition with two values, 10 and 99"),
        ({"line4": "Xx2,99,GPa"}, "Line 4: "),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, lines: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_own_data(table(tmp_path, **lines))


def test_units_must_be_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("formula,value\n" + "\n".join(f"{f},{k}" for k, f in enumerate(FORMULAS)))
    with pytest.raises(InputError, match="does not say the unit"):
        read_own_data(path)
    assert read_own_data(path, unit="eV").unit == "eV"


def test_too_few_and_all_equal(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("formula,value\n" + "\n".join(f"{f},{k}" for k, f in enumerate(FORMULAS[:9])))
    with pytest.raises(InputError, match="has 9 different rows; 10 are needed"):
        read_own_data(path, unit="eV")
    path.write_text("formula,value\n" + "\n".join(f"{f},7" for f in FORMULAS))
    with pytest.raises(InputError, match=r"All values in mine\.csv are 7"):
        read_own_data(path, unit="eV")


def test_elements_that_a_source_does_not_know_are_named(tmp_path: Path) -> None:
    data = read_own_data(table(tmp_path, line6="Au2O3,5,GPa"))
    with pytest.raises(InputError, match="Line 6 has Au, which tiny was not trained on"):
        data.check_elements(frozenset({1, 8, 11, 12, 17, 22, 38}), "tiny")


def test_columns_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs the columns formula or structure, and value; it has 'name'"):
        read_own_data(table(tmp_path, columns="name,number,unit"))


@pytest.mark.parametrize("columns", ['"\n"', '"' + 200_000 * "a", 200_000 * "a,"])
def test_wrong_columns_are_one_sentence(columns: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        read_own_data(table(tmp_path, columns=columns))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1000


def test_structure_files_lie_beside_the_table(tmp_path: Path) -> None:
    for name, one in zip(("salt", "perovskite"), crystals().structures(), strict=True):
        one.to(filename=str(tmp_path / f"{name}.cif"))
    path = tmp_path / "mine.csv"
    path.write_text("structure,value,unit\nsalt.cif,1,GPa\nperovskite.cif,2,GPa\nsalt.cif,3,GPa\n")
    with pytest.raises(InputError, match="Lines 2 and 4 are the same crystal with two values, 1 and 3"):
        read_own_data(path)
    path.write_text("structure,value,unit\nsalt.cif,1,GPa\nlost.cif,2,GPa\n")
    with pytest.raises(InputError, match="Line 3: "):
        read_own_data(path)


def test_many_elements_and_two_crystals_of_one(tmp_path: Path) -> None:
    """Crystals are compared with those of their composition alone; a 10 GB table of all was a crash."""
    metals = {symbol: bulk(symbol) for symbol in METALS} | {"fcc": bulk("Fe", "fcc", a=3.6)}
    rows = ["structure,value,unit"]
    for k, (name, atoms) in enumerate(metals.items()):
        write(tmp_path / f"{name}.cif", atoms)
        rows.append(f"{name}.cif,{k},GPa")
    path = tmp_path / "mine.csv"
    path.write_text("\n".join([*rows, f"Cu.cif,{METALS.index('Cu')},GPa"]))
    data = read_own_data(path)
    assert len(data) == len(metals)
    assert len(set(data.groups.tolist())) == len(METALS)
    assert data.notes == ["1 line repeats another with the same value: left out."]
