"""The files of a prediction, read back by the programs that people will read them with."""

import csv
import io
import json
import re
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from rich.console import Console

from csp.crystallography.symmetry import space_groups
from csp.crystals import Crystals
from csp.errors import ContractError
from csp.protocols import Label
from csp.report.files import write_report
from csp.report.page import energy_volume_svg, render_page
from csp.report.record import RunRecord, versions
from csp.report.terminal import ranking_table
from csp.search.prediction import Prediction, Result, Unranked, cif_path
from csp.target import Target

SYMPREC = 0.05
SCHEMA_KEYS = re.findall(
    r"\w+",
    """rank id file n_atoms spacegroup spacegroup_number energy_ev_per_atom enthalpy_ev_per_atom
    sigma_ev_per_atom density volume_per_atom status generator template_id wyckoff n_duplicates
    above_lowest_ev_per_atom""",
)
FILES = {"ranked.csv", "ranked.json", "report.html", "run.json", "structures", "structures.extxyz"}


def gaas() -> Crystals:
    """Zincblende, wurtzite and rocksalt, the second a little out of symmetry, and one with no symmetry."""
    rng = np.random.default_rng(0)
    phases = [
        bulk("GaAs", "zincblende", a=5.75),
        bulk("GaAs", "wurtzite", a=4.05, c=6.68),
        bulk("GaAs", "rocksalt", a=5.30),
        bulk("GaAs", "zincblende", a=5.75, cubic=True),
    ]
    phases[1].positions += rng.normal(scale=0.004, size=(4, 3))
    phases[3].positions += rng.normal(scale=0.2, size=(8, 3))
    return Crystals.from_atoms(phases)


def prediction(*, pressure: float = 0.0, sigma: float | None = None) -> Prediction:
    crystals = gaas()
    ids, numbers = crystals.ids(), space_groups(crystals, SYMPREC)
    volumes = (crystals.volumes / crystals.n_atoms).tolist()
    results = [
        Result(
            rank=k + 1,
            id=ids[k],
            file=cif_path(k + 1),
            n_atoms=int(crystals.n_atoms[k]),
            spacegroup=("F-43m", "P6_3mc", "Fm-3m", "P1")[k],
            spacegroup_number=numbers[k],
            energy_ev_per_atom=-4.1 + k / 30,
            enthalpy_ev_per_atom=-4.1 + k / 30 + 0.0062 * pressure * volumes[k],
            sigma_ev_per_atom=sigma,
            density=5.1 + k / 7,
            volume_per_atom=volumes[k],
            status="converged" if k else "max_steps",
            generator=("template", "random")[k % 2],
            template_id="" if k % 2 else f"mp-{k}",
            wyckoff="Ga:a As:c",
            n_duplicates=k,
            above_lowest_ev_per_atom=k / 30 + 0.0062 * pressure * (volumes[k] - min(volumes)),
            lowered_ev_per_atom=0.0123 if k == 2 else None,
        )
        for k in range(4)
    ]
    return Prediction(
        Target.parse("GaAs", pressure=pressure),
        Label("PBE", "MP2020", "CHGNet-0.3.0:93b1"),
        results,
        crystals,
        {
            "proposed": 900,
            "built": 800,
            "plausible": 500,
            "unique": 90,
            "relaxed": 9,
            "converged": 7,
            "ranked": 4,
        },
        [Unranked("ab", "exploded", "template"), Unranked("cd", "exploded", "template")],
        ["Energies within 5 meV/atom are <not> told apart."],
    )


RECORD = RunRecord(
    settings={"formula": "GaAs", "seed": 3, "generators": ["template", "random"], "z": None},
    versions=versions(),
    checkpoints={"chgnet": "PBE/MP2020/CHGNet-0.3.0:93b1"},
    library={"name": "aflow", "fingerprint": "0f1e", "entries": 288},
    timings={"relax": 12.5},
    citations=("B. Deng et al., Nat. Mach. Intell. 5, 1031 (2023).",),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    write_report(prediction(), out, RECORD, symprec=SYMPREC)
    return out


def test_the_folder_holds_the_files_and_no_leftovers(folder: Path) -> None:
    assert {p.name for p in folder.iterdir()} == FILES
    assert sorted(p.name for p in (folder / "structures").iterdir()) == [f"00{k}.cif" for k in range(1, 5)]


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
        for key, value in result.as_dict().items():
            assert row[key] == (pytest.approx(value, abs=6e-7) if isinstance(value, float) else value), key
        assert (folder / row["file"]).is_file()


def test_the_csv_says_the_same_as_the_json(folder: Path) -> None:
    with (folder / "ranked.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    results = json.loads((folder / "ranked.json").read_text())["results"]
    assert [list(row) for row in rows] == [list(row) for row in results]
    for row, result in zip(rows, results, strict=True):
        assert row == {key: "" if value is None else str(value) for key, value in result.items()}


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
    assert sorted(p.name for p in (tmp_path / "structures").iterdir()) == ["001.cif", "002.cif"]


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


# -- the page -----------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Collects text and attributes, and fails on tags that do not nest."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[list[str]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.cells[-1][-1] += data


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    text = render_page(prediction(), RECORD)
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object"}
    links = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href")]
    assert links
    assert all(value and value.startswith(("structures/", "#")) for value in links)
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []


def test_nothing_that_others_named_is_markup_in_the_page() -> None:
    hostile = """</title></script><x-evil onload="a">'"<b>"""

    class Elements(HTMLParser):
        found: tuple[str, ...] = ()

        def handle_starttag(self, tag: str, attributes: object) -> None:
            self.found = (*self.found, tag)

    def elements(mark: str) -> tuple[str, ...]:
        found = prediction()
        named = [replace(r, template_id=mark, generator=mark, wyckoff=mark, id=mark) for r in found.results]
        label = replace(found.label, checkpoint=mark)
        record = replace(RECORD, settings={"library": mark}, citations=(mark,), library={"name": mark})
        parser = Elements()
        parser.feed(
            render_page(replace(found, results=named, label=label, warnings=[mark], relaxer_why=mark), record)
        )
        return parser.found

    assert elements(hostile) == elements("mark")


def test_the_page_shows_the_ranking_and_the_funnel() -> None:
    expected = prediction()
    text = render_page(expected, RECORD)
    rows = [row for row in Page(text).cells if row[0].isdigit()]
    assert [row[0] for row in rows] == ["1", "2", "3", "4"]
    assert [row[1] for row in rows] == ["F43m (216)", "P63mc (186)", "Fm3m (225)", "P1 (1)"]
    assert [row[2] for row in rows] == ["0.0", "33.3", "66.7", "100.0"]
    assert "P6<sub>3</sub>mc" in text
    assert "<h1>GaAs</h1>" in text
    assert "SrTiO<sub>3</sub>" in render_page(
        Prediction(Target.parse("SrTiO3"), None, [], Crystals.empty(), {}), RECORD
    )
    for count in expected.funnel.values():
        assert f'<span class="count">{count}</span>' in text
    assert "&lt;not&gt; told apart" in text  # warnings are text, not markup


def test_the_page_shows_enthalpies_and_uncertainties_where_there_are_any() -> None:
    header = next(row for row in Page(render_page(prediction(), RECORD)).cells if row[0] == "Rank")
    assert not {"ΔHmeV/atom", "HeV/atom", "σmeV/atom"} & set(header)
    given = prediction(pressure=20.0, sigma=0.031)
    pressed = Page(render_page(given, RECORD)).cells
    header, first = next(row for row in pressed if row[0] == "Rank"), next(r for r in pressed if r[0] == "1")
    found = dict(zip(header, first, strict=True))
    assert found["σmeV/atom"] == "31"
    assert found["ΔHmeV/atom"] == f"{given.results[0].above_lowest:.1f}"
    assert float(found["HeV/atom"]) > float(found["EeV/atom"])


def test_the_figure_has_a_mark_for_each_crystal() -> None:
    expected = prediction()
    svg = ElementTree.fromstring(energy_volume_svg(expected))
    space = "{http://www.w3.org/2000/svg}"
    groups = {g.get("id", ""): g for g in svg.iter(f"{space}g")}
    marks = [len(list(g.iter(f"{space}use"))) for name, g in groups.items() if name.startswith("Path")]
    in_legend = len(list(groups["legend_1"].iter(f"{space}use")))
    assert sum(marks) - in_legend == len(expected.results)
    texts = {t.text for t in svg.iter(f"{space}text")}
    assert {"volume (Å³/atom)", "energy above the lowest (meV/atom)", "template", "random"} <= texts


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


def test_energies_above_the_hull_are_shown_where_they_are_asked_for() -> None:
    whole = prediction()
    assert "bove hull" not in render_page(whole, RECORD)
    results = [replace(r, e_above_hull_ev_per_atom=0.0123 + k / 40) for k, r in enumerate(whole.results)]
    with_hull = replace(whole, results=results)
    rows = Page(render_page(with_hull, RECORD)).cells
    header, second = next(row for row in rows if row[0] == "Rank"), next(r for r in rows if r[0] == "2")
    assert dict(zip(header, second, strict=True))["Above hullmeV/atom"] == "37.3"
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(ranking_table(with_hull, top=3))
    text = console.export_text()
    assert "hull" in text
    assert "62.3" in text
