"""The flow as a plain function, and what people are shown of it."""

import base64
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt

from csp.errors import InputError, MissingError
from csp.files import LARGEST
from csp.report.results import RankedRun, export, latest
from csp.search.pace import Pace, duration
from csp.search.search import Search
from csp.search.stages import STAGES, asked_for, time_shares
from csp.settings import SearchSettings
from flows.form import Advanced
from flows.many import read_formulas
from flows.markdown import literal
from flows.predict import predict

CHEAP = Advanced(screened=4, relaxed=2, rattled=0, max_steps=2, max_atoms=4)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "NaCl-1"
    returned = predict.fn("NaCl", candidates=12, advanced=CHEAP, folder=folder)
    assert returned["funnel"]["relaxed"] == 2
    assert [r["rank"] for r in returned["results"]] == list(range(1, len(returned["results"]) + 1))
    return folder


def test_a_plain_call_needs_no_server_and_twice_changes_nothing(finished: Path) -> None:
    before = (finished / "ranked.json").read_bytes()
    predict.fn("NaCl", candidates=12, advanced=CHEAP, folder=finished)
    assert (finished / "ranked.json").read_bytes() == before


def test_what_is_wrong_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no element Xx"):
        predict.fn("Xx2O3", folder=tmp_path / "run")
    with pytest.raises(InputError, match="no library"):
        predict.fn("NaCl", library=tmp_path / "missing.parquet", folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_results_are_found_and_exported(finished: Path, tmp_path: Path) -> None:
    from ase.db import connect
    from ase.io import read

    shutil.copytree(finished, tmp_path / "later")
    (tmp_path / "unfinished").mkdir()
    run = latest("NaCl", tmp_path / "none", tmp_path)
    assert run.folder == tmp_path / "later"
    for name in ("best.extxyz", "best.db", "best.csv"):
        export(run, tmp_path / "out" / name)
        export(run, tmp_path / "out" / name)  # replaces, and does not add
    rows = run.ranked["results"]
    frames = read(tmp_path / "out" / "best.extxyz", index=":")
    assert [len(atoms) for atoms in frames] == [row["n_atoms"] for row in rows]
    with connect(tmp_path / "out" / "best.db") as database:
        stored = list(database.select())
    assert [s.rank for s in stored] == [row["rank"] for row in rows]
    for atoms, s, row in zip(frames, stored, rows, strict=True):
        assert np.allclose(s.toatoms().positions, atoms.positions)
        assert s.energy == pytest.approx(row["energy_ev_per_atom"] * row["n_atoms"], abs=1e-5)
        assert s.spacegroup_number == row["spacegroup_number"]
    assert (tmp_path / "out" / "best.csv").read_text().count("\n") == len(rows) + 1
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["best.csv", "best.db", "best.extxyz"]
    with pytest.raises(InputError, match=r"best\.xls"):
        export(run, tmp_path / "best.xls")
    with pytest.raises(MissingError, match="GaAs"):
        latest("GaAs", tmp_path)
    with pytest.raises(InputError, match="no finished prediction"):
        RankedRun.read(tmp_path / "unfinished")


def test_the_summary_and_the_picture(finished: Path) -> None:
    from csp.report.picture import ranking_png
    from flows.artifacts import summary, table
    from flows.predict import rank

    settings = SearchSettings.read(formula="NaCl", candidates=12, **CHEAP.model_dump())
    prediction, record = rank.fn(settings, finished, "auto")
    text = summary(prediction, record, "/files/NaCl-1")
    best = prediction.results[0]
    for words in (
        "# NaCl",
        best.spacegroup.replace("-", "\\-"),
        f"| {prediction.funnel['proposed']} |",
        "report.html",
    ):
        assert words in text
    for warning in prediction.warnings:
        assert f"- {literal(warning)}" in text
    assert [row["rank"] for row in table(prediction)] == [r.rank for r in prediction.results]
    image = ranking_png(prediction, symprec=0.1)
    assert image.startswith(b"\x89PNG")
    assert len(base64.b64encode(image)) < 500_000


def test_files_are_linked_to_where_they_are_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.artifacts import files_url, image_url

    file = tmp_path / "ranking.png"
    file.write_bytes(b"\x89PNG")
    monkeypatch.delenv("CSP_FILES_URL", raising=False)
    assert files_url("NaCl-1") == ""  # never file://, which no page may open
    assert image_url(file, "") == "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
    monkeypatch.setenv("CSP_FILES_URL", "/files")
    assert image_url(file, files_url("NaCl-1")) == "/files/NaCl-1/ranking.png"


def test_names_are_no_markup_to_people_and_programs(finished: Path) -> None:
    from flows.artifacts import summary, table
    from flows.predict import rank

    settings = SearchSettings.read(formula="NaCl", candidates=12, **CHEAP.model_dump())
    prediction, record = rank.fn(settings, finished, "auto")
    hostile, tags = "<img src=x>[a](javascript:b)|*c*\n# d", []
    for mark in (hostile, "mark"):
        named = [replace(result, template_id=mark) for result in prediction.results]
        marked = replace(prediction, results=named, warnings=[mark])
        page = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(
            summary(marked, replace(record, citations=(mark,)), "")
        )
        tags.append(re.findall(r"</?\w+", page))
        assert "](" not in str(table(marked))
    assert tags[0] == tags[1]


def test_a_csv_of_formulas(tmp_path: Path) -> None:
    file = tmp_path / "many.csv"
    file.write_text("\ufeffname,Formula\nsalt,NaCl\n\nwurtzite, ZnS\n", encoding="utf-8")
    assert read_formulas(file) == ["NaCl", "ZnS"]
    for plain in ("NaCl\nZnS\n", "formula;note\nNaCl;1,5\nZnS;a,b,c\n", "note\tformula\n\tNaCl\n;\tZnS\n"):
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            file.write_text(plain, encoding=encoding)
            assert read_formulas(file) == ["NaCl", "ZnS"]
    for content in ("", "formula\n", "\n;;\n"):
        file.write_text(content)
        with pytest.raises(InputError, match="no formula"):
            read_formulas(file)
    with pytest.raises(InputError, match="There is no file"):
        read_formulas(tmp_path / "none.csv")
    file.write_bytes("Größe;formula\n1;NaCl\n2;ZnS\n".encode("latin-1"))
    assert read_formulas(file) == ["NaCl", "ZnS"]
    file.write_bytes(b"NaCl\n" * (LARGEST // 5 + 1))
    with pytest.raises(InputError, match="more than 64 MB"):
        read_formulas(file)


DOING = {stage.name: stage.doing for stage in STAGES}


def settings(**values: object) -> SearchSettings:
    return SearchSettings.read(formula="NaCl", **{"hull": False, **values})


@pytest.mark.parametrize(
    "asked", [settings(relaxer="none"), settings(), settings(hull=True), settings(labeller="gpaw", hull=True)]
)
def test_progress_goes_up_and_the_time_left_is_right_for_a_steady_search(asked: SearchSettings) -> None:
    """A search that takes 10 s a per cent of its work."""
    parts = time_shares(asked)
    assert sum(parts.values()) == pytest.approx(100)
    pace, passed, percents = Pace(parts, DOING), 0.0, []
    for stage, share in parts.items():
        for done in range(101):
            now = 10 * (passed + share * done / 100)
            percent, text = pace.at(stage, done, 100, now)
            percents.append(percent)
            assert percent == pytest.approx(passed + share * done / 100)
            if 0 < done < 100:
                left = [
                    f"{duration(1000 - now + noise)} left" for noise in (-1e-6, 1e-6)
                ]  # may round either way
                assert text.endswith(tuple(left)), text
        passed += share
    assert percents == sorted(percents)
    assert percents[-1] == pytest.approx(100)


def test_every_stage_is_a_method_and_is_asked_for_by_what_needs_it() -> None:
    for stage in STAGES:
        assert callable(getattr(Search, stage.name))
    everything = settings(labeller="gpaw", hull=True, effort="deep", phonons=1)
    assert [stage.name for stage in asked_for(everything)] == [stage.name for stage in STAGES]
    least = [stage.name for stage in asked_for(settings(relaxer="none", hull=False))]
    assert least == ["propose", "filter", "screen", "pre_relax", "relax", "rattle"]


def test_labelling_takes_its_share_of_the_progress() -> None:
    pace = Pace(time_shares(settings(relaxer="none", labeller="gpaw", hull=False)), DOING)
    names = ["propose", "filter", "screen", "label", "pre_relax", "relax", "rattle", "write"]
    assert list(pace.shares) == names
    before = sum(pace.shares[name] for name in ("propose", "filter", "screen"))
    assert pace.at("label", 12, 24, now=0.0)[0] == pytest.approx(before + pace.shares["label"] / 2)


def test_rounds_take_their_minutes_of_the_progress() -> None:
    shares = [time_shares(settings(effort="deep", minutes=m))["rounds"] for m in (1.0, 10.0, 100.0)]
    assert 30 < shares[0] < 60
    assert shares == sorted(shares)
    assert shares[2] > 95


def test_a_deep_search_goes_on_in_rounds(finished: Path, tmp_path: Path) -> None:
    """From the store of the standard one, which it goes on with."""
    folder = tmp_path / "deeper"
    shutil.copytree(finished, folder)
    deep = CHEAP.model_copy(update={"effort": "deep", "max_rounds": 1, "until": 1.0})
    returned = predict.fn("NaCl", candidates=12, advanced=deep, folder=folder)
    ranked = json.loads((folder / "ranked.json").read_text())
    assert [one["round"] for one in ranked["search"]["rounds"]] == [0, 1]
    assert ranked["search"]["ended"] == "rounds"
    assert returned["funnel"]["proposed"] == ranked["search"]["rounds"][1]["proposed"]
    assert "How the search went on" in (folder / "report.html").read_text()
    before = json.loads((finished / "ranked.json").read_text())
    assert "search" not in before
    lowest = [one["results"][0]["energy_ev_per_atom"] for one in (ranked, before)]
    assert lowest[0] <= lowest[1]


def test_what_a_resumed_run_finds_done_is_not_taken_for_speed() -> None:
    pace = Pace({"screen": 40.0, "relax": 50.0, "rattle": 10.0}, DOING)
    pace.at("relax", 90, 100, now=0.0)
    assert "about 7 min left" in pace.at("relax", 91, 100, now=15.0)[1]  # 15.0 s for 0.5 %, 14.5 % left


@pytest.mark.parametrize(
    ("seconds", "words"), [(3, "10 s"), (64, "60 s"), (200, "3 min"), (5000, "83 min"), (7200, "2.0 h")]
)
def test_durations_are_round(seconds: float, words: str) -> None:
    assert duration(seconds) == f"about {words}"
