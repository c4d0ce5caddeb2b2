"""`csp properties`, `csp train property` and `csp models recommend`, with the models that ship."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure

import csp as engine
from surrogates.properties import library
from tests.program import csp

SALTS = {
    "LiF": 4.03, "LiCl": 5.13, "NaF": 4.62, "NaCl": 5.64, "KCl": 6.29, "KBr": 6.60,
    "MgO": 4.21, "CaO": 4.81, "SrO": 5.16, "BaO": 5.54, "MgS": 5.20, "CaS": 5.69,
}  # fmt: skip


def salt(name: str) -> Structure:
    from pymatgen.core import Composition

    elements = [str(element) for element in Composition(name)]
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(SALTS[name]), elements, [[0, 0, 0], [0.5, 0.5, 0.5]]
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Salts and a table of their cubic cells; models of one's own lie in a folder of the test."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    rows = ["structure,value,unit"]
    for name, length in SALTS.items():
        salt(name).to(filename=str(tmp_path / f"{name}.cif"))
        rows.append(f"{name}.cif,{length},Å")
    (tmp_path / "mine.csv").write_text("\n".join(rows))
    return tmp_path


def test_properties_of_files_as_json_and_in_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(folder / "MgO.cif"), str(folder / "NaCl.cif")]
    table = folder / "found.csv"
    assert (
        csp("properties", *files, "--properties", "bulk_modulus,band_gap", "--out", str(table), "--json") == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert [set(row) for row in found] == [{"name", "bulk_modulus", "band_gap"}] * 2
    hard, soft = (row["bulk_modulus"] for row in found)
    assert hard["value"] > 100.0 > 40.0 > soft["value"]  # 155 and 25 GPa
    assert hard["low"] < hard["value"] < hard["high"]
    assert hard["unit"] == "GPa"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]["bulk_modulus.value"]) == pytest.approx(soft["value"], rel=1e-4)


def test_in_python_it_is_the_same_and_supercells_change_nothing(folder: Path) -> None:
    one = salt("MgO")
    found = engine.predict_properties(one, "bulk_modulus")["bulk_modulus"]
    both = engine.predict_properties([one, one * (2, 1, 1)], ["bulk_modulus"])
    assert both[0]["bulk_modulus"].value == pytest.approx(found.value, rel=1e-3)
    assert both[1]["bulk_modulus"].value == pytest.approx(found.value, rel=1e-3)
    assert str(found).endswith(" GPa")


def test_what_the_atoms_add_is_told_on_demand(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["properties", str(folder / "MgO.cif"), "MgO", "--properties", "bulk_modulus", "--contributions"]
    assert csp(*asked) == 0
    said = capsys.readouterr().out
    assert "of the mean crystal, volume and density" in said
    assert csp(*asked, "--json") == 0
    of_crystal, of_formula = (row["bulk_modulus"] for row in json.loads(capsys.readouterr().out))
    shares = of_crystal["contributions"]
    assert len(shares["atoms"]) == 8
    total = shares["baseline"] + shares["whole"] + sum(shares["atoms"])
    assert total == pytest.approx(of_crystal["value"], rel=1e-3)
    assert "contributions" not in of_formula
    found = engine.predict_properties(salt("MgO"), "bulk_modulus", contributions=True)["bulk_modulus"]
    assert found.contributions is not None
    assert list(found.contributions.atoms) == pytest.approx(shares["atoms"], abs=1e-2)


def test_an_unknown_property_is_said_before_any_work(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert csp("properties", str(folder / "MgO.cif"), "--properties", "bulk_modulu") == 2
    assert "did you mean bulk_modulus?" in capsys.readouterr().err
    out = folder / "run"
    assert csp("predict", "MgO", "--properties", "hardness", "--library", "none", "--out", str(out)) == 2
    assert "no model of the property 'hardness'" in capsys.readouterr().err
    assert not (out / "run.sqlite").exists()


def test_a_property_of_ones_own_is_a_model_like_any_other(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(folder / "mine.csv")]
    assert csp("train", "property", *data, "--property", "cubic_cell", "--from", "bulk_modulus") == 0
    said = capsys.readouterr().out
    assert "From bulk_modulus, crystals, by" in said
    assert "left out by composition" in said
    card = library.read_card("cubic_cell")
    assert card.n == 12
    assert card.parents[0].startswith("bulk_modulus ")
    assert library.seen_compositions("bulk_modulus") < library.seen_compositions("cubic_cell")
    assert csp("properties", str(folder / "KCl.cif"), "--properties", "cubic_cell", "--json") == 0
    found = json.loads(capsys.readouterr().out)[0]["cubic_cell"]
    assert found["value"] == pytest.approx(6.29, abs=0.3)
    assert csp("models", "card", "cubic_cell") == 0
    assert "strategy" in capsys.readouterr().out
    assert (
        csp("train", "property", *data, "--property", "again", "--from", "cubic_cell") == 0
    )  # a source itself


def test_names_of_the_engine_are_not_taken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", str(folder / "mine.csv")]
    assert csp("train", "property", *data, "--property", "band_gap") == 2
    assert "A model of the engine is named 'band_gap'" in capsys.readouterr().err


def test_all_sources_are_ranked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert csp("models", "recommend", "--data", str(folder / "mine.csv")) == 0
    said = capsys.readouterr().out
    for name in ("bulk_modulus", "refractive_index", "together"):
        assert name in said
