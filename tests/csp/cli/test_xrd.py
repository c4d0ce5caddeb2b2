"""`csp xrd` and `csp predict --xrd` as a person meets them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from pymatgen.io.cif import CifWriter

from csp.crystals import Crystals
from tests.csp.diffraction.samples import anatase, brookite, calculated, counted, rutile, salt
from tests.program import csp

GRID = np.arange(15.0, 80.0, 0.02)
SMALL = [
    *("--candidates=8", "--screened=6", "--relaxed=3", "--rattled=0"),
    *("--max-steps=3", "--max-atoms=6", "--relaxer=none"),
]


def write(path: Path, crystal: Crystals, *, beside: Crystals | None = None) -> Path:
    y = calculated(crystal, GRID, strain=0.015)
    if beside is not None:
        y = y + 0.6 * calculated(beside, GRID)
    pattern = counted(y, GRID)
    rows = (f"{x:.3f} {n:.0f}" for x, n in zip(pattern.two_theta, pattern.intensity, strict=True))
    path.write_text("\n".join(rows))
    return path


@pytest.fixture(scope="module")
def oxides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("oxides")
    for name, crystal in (("rutile", rutile()), ("anatase", anatase()), ("brookite", brookite())):
        CifWriter(crystal.structures()[0]).write_file(folder / f"{name}.cif")
    return folder


def test_a_folder_of_crystals(oxides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan, out = write(tmp_path / "scan.xy", anatase()), tmp_path / "out"
    assert csp("xrd", str(oxides), str(scan), "--wavelength", "CuKa", "--out", str(out)) == 0
    text = capsys.readouterr().out
    lines = [line for line in text.splitlines() if "TiO2" in line]
    assert len(lines) == 3
    assert "anatase" in lines[0]
    found = json.loads((out / "pattern.json").read_text())
    best = found["results"][0]
    assert best["name"] == "anatase"
    assert best["probability_pattern"] > 0.8
    assert found["probability_of_none"] == pytest.approx(
        1 - sum(row["probability_pattern"] for row in found["results"]), abs=1e-5
    )
    assert best["cell_fitted"] == pytest.approx(
        [1.015 * 3.785, 1.015 * 3.785, 1.015 * 9.514, 90, 90, 90], abs=0.03
    )
    assert best["weight_share"] == 1.0
    ElementTree.parse(out / best["figure"])
    with (out / "pattern.csv").open() as table:
        assert next(csv.DictReader(table))["name"] == "anatase"


def test_impurities_are_files_or_formulas(oxides: Path, tmp_path: Path) -> None:
    scan, out = write(tmp_path / "scan.xy", rutile(), beside=salt()), tmp_path / "out"
    CifWriter(salt().structures()[0]).write_file(tmp_path / "salt.cif")
    told = ["--wavelength", "CuKa", "--out", str(out), "--impurities"]
    assert csp("xrd", str(oxides), str(scan), *told, str(tmp_path / "salt.cif")) == 0
    found = json.loads((out / "pattern.json").read_text())
    assert found["results"][0]["name"] == "rutile"
    assert 0.1 < found["results"][0]["weight_share"] < 0.9
    assert csp("xrd", str(oxides), str(scan), *told, "Pu2B7") == 3
    assert csp("xrd", str(oxides), str(scan), *told, "nothing!") == 2


def test_names_are_text_to_spreadsheets_and_in_figures(oxides: Path, tmp_path: Path) -> None:
    name, crystals, out = r"=1+$\nope$", tmp_path / "crystals", tmp_path / "out"
    crystals.mkdir()
    (crystals / f"{name}.cif").write_bytes((oxides / "rutile.cif").read_bytes())
    scan = write(tmp_path / "scan.xy", rutile())
    assert csp("xrd", str(crystals), str(scan), "--wavelength", "CuKa", "--out", str(out)) == 0
    with (out / "pattern.csv").open() as table:
        assert next(csv.DictReader(table))["name"] == f"'{name}"
    assert name in (out / "001.svg").read_text(encoding="utf-8")


def test_what_is_wrong(oxides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = write(tmp_path / "scan.xy", rutile())
    for arguments, code, words in (
        ((str(oxides),), 2, "Name crystals and, last, a powder pattern"),
        ((str(oxides), str(scan)), 2, "--wavelength CuKa"),
        ((str(oxides), str(tmp_path / "none.xy")), 3, "none.xy"),
        ((str(tmp_path / "none"), str(scan), "--wavelength", "Cu"), 3, "none"),
        ((str(oxides), str(scan), "--wavelength", "Zz"), 2, "no wavelength"),
        ((str(oxides), str(scan), "--wavelength", "Cu", "--range", "80-20"), 2, "no range"),
        ((str(scan), str(scan), "--wavelength", "Cu"), 2, "no crystal structure"),
    ):
        assert csp("xrd", *arguments) == code
        assert words in capsys.readouterr().err
    assert csp("predict", "TiO2", "--xrd", str(tmp_path / "none.xy"), "--out", str(tmp_path / "run")) == 3
    assert csp("predict", "TiO2", "--wavelength", "CuKa", "--out", str(tmp_path / "run")) == 2
    assert "--xrd" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_search_with_a_pattern(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A search that was done is ordered anew with the pattern; the order by energy stays beside it."""
    scan, out = write(tmp_path / "scan.xy", salt()), tmp_path / "run"
    assert csp("predict", "NaCl", *SMALL, "--out", str(out)) == 0
    before = json.loads((out / "ranked.json").read_text())
    assert before["results"][0]["probability_pattern"] is None
    assert not (out / "pattern").exists()
    told = ["--xrd", str(scan), "--wavelength", "CuKa"]
    assert csp("predict", "NaCl", *SMALL, *told, "--out", str(out), "--resume") == 0
    after = json.loads((out / "ranked.json").read_text())
    assert after["order"] == "pattern"
    best = after["results"][0]
    assert best["spacegroup_number"] == 225
    assert best["rank_pattern"] == 1
    assert best["r_wp"] < 0.3
    assert {r["rank_energy"] for r in after["results"]} == {r["rank_energy"] for r in before["results"]}
    assert (out / "pattern" / "001.svg").is_file()
    assert "xrd %" in capsys.readouterr().out
    page = (out / "report.html").read_text()
    assert "scan.xy is most probably of NaCl as cubic Fm3\u0305m (no. 225)" in page
    assert "by pattern and energy: p = " in page
    assert "Ordered by the powder pattern and energy" in page
    assert "Fit of rank 1 to the measured pattern" in page
    assert csp("xrd", str(out), str(scan), "--wavelength", "CuKa", "--out", str(tmp_path / "again")) == 0
    again = json.loads((tmp_path / "again" / "pattern.json").read_text())
    assert again["results"][0]["file"] == best["file"]
