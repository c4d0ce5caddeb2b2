"""The files of a prediction, read back by the programs that people will read them with."""

import csv
import io
import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from rich.console import Console

from csp.crystallography.symmetry import space_groups
from csp.crystals import Crystals
from csp.errors import ContractError
from csp.report import files
from csp.report.files import known_text, properties_text, variants_text, write_report
from csp.report.record import RunRecord
from csp.report.terminal import ranking_table
from csp.search.prediction import Prediction, Variant
from csp.target import Target
from tests.csp.report.example import RECORD, SYMPREC, gaas, prediction

SCHEMA_KEYS = re.findall(
    r"\w+",
    """rank id file n_atoms spacegroup spacegroup_number energy_ev_per_atom enthalpy_ev_per_atom
    sigma_ev_per_atom density volume_per_atom status generator template_id wyckoff n_duplicates
    above_lowest_ev_per_atom""",
)
FILES = {"ranked.csv", "ranked.json", "report.html", "run.json", "structures", "structures.extxyz"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    write_report(prediction(), out, RECORD, symprec=SYMPREC)
    return out


def test_the_folder_holds_the_files_and_no_leftovers(folder: Path) -> None:
    assert {p.name for p in folder.iterdir()} == FILES
    ends = (".cif", ".extxyz", "_POSCAR.vasp")
    names = {f"00{k}{end}" for k in range(1, 5) for end in ends}
    assert {p.name for p in (folder / "structures").iterdir()} == names


def test_ranked_json_has_the_schema_and_the_values(folder: Path) -> None:
    content = json.loads((folder / "ranked.json").read_text())
    expected = prediction()
    assert (content["schema"], content["formula"]) == (3, "GaAs")
    assert content["label"] == "PBE/MP2020/CHGNet-0.3.0:93b1"
    assert content["funnel"] == expected.funnel
    assert list(content["funnel"]) == list(expected.funnel)
    assert content["unranked"] == {"exploded": 2}
    for row, result in zip(content["results"], expected.results, strict=True):
        assert list(row)[: len(SCHEMA_KEYS)] == SCHEMA_KEYS
        assert row.pop("variants") == []
        for key, value in result.as_dict().items():
            if key in ("variants", "properties"):
                continue
            assert row[key] == (pytest.approx(value, abs=6e-7) if isinstance(value, float) else value), key
        assert (folder / row["file"]).is_file()


def test_the_csv_says_the_same_as_the_json(folder: Path) -> None:
    with (folder / "ranked.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    results = json.loads((folder / "ranked.json").read_text())["results"]
    assert [list(row) for row in rows] == [list(row) for row in results]
    for row, result in zip(rows, results, strict=True):
        plain = {**result, "known_as": known_text(result), "variants": variants_text(result)}
        plain["properties"] = properties_text(result)
        assert row == {key: "" if value is None else str(value) for key, value in plain.items()}


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t", "\r"])
def test_a_spreadsheet_computes_nothing_of_the_csv(begins: str, tmp_path: Path) -> None:
    """What a library calls its entries is written by others (OWASP, CSV injection)."""
    found = prediction()
    name = f'{begins}HYPERLINK("http://evil.example";"x")'
    results = [replace(result, template_id=name) for result in found.results]
    write_report(replace(found, results=results), tmp_path, RECORD, symprec=SYMPREC)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "ranked.csv").read_bytes().decode(), newline="")))
    assert [row["template_id"] for row in rows] == [f"'{name}"] * 4
    assert float(rows[0]["energy_ev_per_atom"]) < 0  # a number stays one
    assert json.loads((tmp_path / "ranked.json").read_text())["results"][0]["template_id"] == name


def test_cifs_hold_the_symmetrised_conventional_cells(folder: Path) -> None:
    crystals = gaas()
    matcher = StructureMatcher(scale=False, primitive_cell=True)
    for k, (number, n_atoms) in enumerate([(216, 8), (186, 4), (225, 8), (1, 8)]):
        text = (folder / f"structures/00{k + 1}.cif").read_text()
        with warnings.catch_warnings():  # the reader says that it takes 0.33333333 for 1/3
            warnings.filterwarnings("ignore", message=".*rounded to ideal values")
            structure = Structure.from_str(text, fmt="cif")
        assert f"_symmetry_Int_Tables_number   {number}\n" in text
        assert len(structure) == n_atoms
        assert space_groups(Crystals.from_structures([structure]), 1e-4) == [number]
        assert matcher.fit(structure, crystals[k].structures()[0])


def test_the_displacement_of_symmetrising_is_recorded(folder: Path) -> None:
    results = json.loads((folder / "ranked.json").read_text())["results"]
    rms = [row["symmetrise_rms_ang"] for row in results]
    assert rms[0] == pytest.approx(0, abs=1e-6)
    assert 0.001 < rms[1] < 0.02  # rattled by 0.004 Å a coordinate
    assert rms[3] == pytest.approx(0, abs=1e-6)  # no symmetry, nothing to move


def test_extxyz_holds_the_crystals_as_relaxed_in_rank_order(folder: Path) -> None:
    frames = ase.io.read(folder / "structures.extxyz", index=":")
    assert [frame.info["rank"] for frame in frames] == [1, 2, 3, 4]
    for frame, atoms, result in zip(frames, gaas().atoms(), prediction().results, strict=True):
        assert frame.info["id"] == result.id
        assert frame.get_potential_energy() == pytest.approx(result.energy_ev_per_atom * len(atoms), abs=1e-6)
        np.testing.assert_array_equal(frame.numbers, atoms.numbers)
        np.testing.assert_allclose(frame.cell, atoms.cell, atol=1e-7)
        np.testing.assert_allclose(frame.positions, atoms.positions, atol=1e-7)
        assert frame.pbc.all()


def test_run_json_tells_how_to_repeat_the_run(folder: Path) -> None:
    run = json.loads((folder / "run.json").read_text())
    assert (run["seed"], run["settings"]["generators"]) == (3, ["template", "random"])
    assert run["versions"].keys() >= {"python", "torch", "numpy", "pymatgen"}
    assert run["checkpoints"] == RECORD.checkpoints
    assert run["library"]["fingerprint"] == "0f1e"
    assert run["timings"] == {"relax": 12.5}


def test_equal_predictions_give_equal_files_but_for_timings(folder: Path, tmp_path: Path) -> None:
    again = RunRecord(
        RECORD.settings,
        RECORD.versions,
        RECORD.checkpoints,
        RECORD.library,
        timings={"relax": 99.0},
        citations=RECORD.citations,
    )
    write_report(prediction(), tmp_path, again, symprec=SYMPREC)
    for path in sorted(p.relative_to(folder) for p in folder.rglob("*.*")):
        same = (folder / path).read_bytes() == (tmp_path / path).read_bytes()
        assert same == (path.name != "run.json"), path


def test_a_second_report_leaves_no_file_of_the_first(tmp_path: Path) -> None:
    whole = prediction()
    write_report(whole, tmp_path, RECORD, symprec=SYMPREC)
    fewer = Prediction(whole.target, whole.label, whole.results[:2], whole.crystals[:2], whole.funnel)
    write_report(fewer, tmp_path, RECORD, symprec=SYMPREC)
    assert {p.name for p in tmp_path.iterdir()} == FILES
    assert sorted(p.name for p in (tmp_path / "structures").glob("*.cif")) == ["001.cif", "002.cif"]
    assert len(list((tmp_path / "structures").iterdir())) == 6


def test_a_prediction_of_nothing_is_reported(tmp_path: Path) -> None:
    none = Prediction(Target.parse("GaAs"), None, [], Crystals.empty(), {"proposed": 5, "ranked": 0})
    write_report(none, tmp_path, RECORD, symprec=SYMPREC)
    content = json.loads((tmp_path / "ranked.json").read_text())
    assert (content["label"], content["results"]) == (None, [])
    assert "No structure could be ranked" in (tmp_path / "report.html").read_text()
    assert {p.name for p in tmp_path.iterdir()} == FILES


def test_a_crystal_that_cannot_be_analysed_is_written_as_relaxed(tmp_path: Path) -> None:
    whole = prediction()
    overlapping = Crystals.from_arrays([np.eye(3) * 4], [[[0, 0, 0], [0, 0, 1e-9]]], [[31, 31]])
    assert space_groups(overlapping, SYMPREC) == [0]
    odd = Prediction(whole.target, whole.label, whole.results[:1], overlapping, whole.funnel)
    write_report(odd, tmp_path, RECORD, symprec=SYMPREC)
    (row,) = json.loads((tmp_path / "ranked.json").read_text())["results"]
    assert row["symmetrise_rms_ang"] is None
    assert "_symmetry_Int_Tables_number   1\n" in (tmp_path / row["file"]).read_text()


def test_each_crystal_has_its_files_with_name_rank_energy_and_origin(folder: Path) -> None:
    given = prediction()
    for k, result in enumerate(given.results):
        cif = (folder / "structures" / f"00{k + 1}.cif").read_text(encoding="ascii")
        head, body = cif.split(f"data_GaAs_rank_{k + 1}\n")
        assert all(line.startswith("# ") for line in head.splitlines())
        assert f"{result.energy_ev_per_atom:.6f} eV/atom (PBE/MP2020/CHGNet-0.3.0:93b1)" in head
        assert "A predicted crystal structure, not a measured one" in head
        assert f"Please cite {RECORD.citations[0]}" in head
        assert "_cell_length_a" in body
        poscar = folder / "structures" / f"00{k + 1}_POSCAR.vasp"
        assert poscar.read_text().startswith(
            f"GaAs rank {k + 1} {result.spacegroup} {result.energy_ev_per_atom:.6f}"
        )
        (relaxed,) = gaas()[k].structures()
        assert StructureMatcher(scale=False).fit(Structure.from_file(poscar), relaxed)
        assert len(ase.io.read(poscar)) == len(relaxed.get_primitive_structure(tolerance=0.1))
        frame = ase.io.read(folder / "structures" / f"00{k + 1}.extxyz")
        assert frame.info["id"] == result.id
        assert frame.get_potential_energy() == pytest.approx(
            result.energy_ev_per_atom * len(relaxed), abs=1e-6
        )


def test_variants_are_written_in_full_and_in_words(tmp_path: Path) -> None:
    whole = prediction()
    lower = Variant("R3m", 160, -0.0004)
    given = replace(whole, results=[replace(whole.results[0], variants=(lower,)), *whole.results[1:]])
    write_report(given, tmp_path, RECORD, symprec=SYMPREC)
    row = json.loads((tmp_path / "ranked.json").read_text())["results"][0]
    assert [Variant(**one) for one in row["variants"]] == [lower]
    with (tmp_path / "ranked.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["variants"] == "R3m -0.4 meV/atom"
    assert "The same within 1 meV/atom: R3m −0.4 meV/atom." in (tmp_path / "report.html").read_text()


def test_a_long_ranking_has_cards_of_the_best_and_rows_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CARDS", 2)
    write_report(prediction(), tmp_path, RECORD, symprec=SYMPREC)
    page = (tmp_path / "report.html").read_text()
    assert page.count('<article class="card"') == 2
    assert page.count('href="#crystal-') >= 2
    assert "Fm3\u0305m" in page


def test_the_terminal_table_shows_the_top() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(ranking_table(prediction(), top=2))
    text = console.export_text()
    assert "F-43m 216" in text
    assert "33.3" in text
    assert "Fm-3m" not in text


def test_a_prediction_keeps_its_own_contract() -> None:
    whole = prediction()
    with pytest.raises(ContractError):
        Prediction(whole.target, whole.label, whole.results[:3], whole.crystals, {})
    with pytest.raises(ContractError):
        Prediction(whole.target, whole.label, whole.results[1:], whole.crystals[1:], {})
    with pytest.raises(ContractError):
        Prediction(whole.target, None, whole.results, whole.crystals, {})
