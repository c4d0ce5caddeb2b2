"""The flow as a plain function, and what people are shown of it."""

import base64
import shutil
from pathlib import Path

import numpy as np
import pytest

from csp.errors import InputError, MissingError
from csp.report.results import RankedRun, export, latest
from csp.search.pace import Pace, duration
from csp.search.search import Search
from csp.search.stages import STAGES, asked_for, time_shares
from csp.settings import SearchSettings
from flows.form import Advanced
from flows.many import read_formulas
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
    run = latest(tmp_path, "NaCl")
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
        latest(tmp_path, "GaAs")
    with pytest.raises(InputError, match="no finished prediction"):
        RankedRun.read(tmp_path / "unfinished")


def test_the_summary_and_the_picture(finished: Path) -> None:
    from csp.report.picture import ranking_png
    from flows.artifacts import files_url, summary, table
    from flows.predict import rank

    settings = SearchSettings.read(formula="NaCl", candidates=12, **CHEAP.model_dump())
    prediction, record = rank.fn(settings, finished, "auto")
    text = summary(prediction, record, files_url(finished))
    best = prediction.results[0]
    for words in ("# NaCl", best.spacegroup, f"| {prediction.funnel['proposed']} |", "report.html"):
        assert words in text
    for warning in prediction.warnings:
        assert f"- {warning}" in text
    assert [row["rank"] for row in table(prediction)] == [r.rank for r in prediction.results]
    image = ranking_png(prediction, symprec=0.1)
    assert image.startswith(b"\x89PNG")
    assert len(base64.b64encode(image)) < 500_000


def test_a_picture_is_linked_to_where_a_page_can_fetch_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.artifacts import image_url

    monkeypatch.setenv("CSP_HOME", str(tmp_path))
    monkeypatch.delenv("CSP_AUTH", raising=False)
    file = tmp_path / "runs" / "NaCl-1" / "ranking.png"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\x89PNG")
    itself = "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
    assert image_url(file) == itself
    monkeypatch.setenv("CSP_FILES_URL", "http://here:4201")
    assert image_url(file) == "http://here:4201/NaCl-1/ranking.png"
    monkeypatch.setenv("CSP_AUTH", "ann:secret")
    assert image_url(file) == itself


def test_a_csv_of_formulas(tmp_path: Path) -> None:
    file = tmp_path / "many.csv"
    file.write_text("\ufeffname,Formula\nsalt,NaCl\n\nwurtzite, ZnS\n", encoding="utf-8")
    assert read_formulas(file) == ["NaCl", "ZnS"]
    file.write_text("NaCl\nZnS\n")
    assert read_formulas(file) == ["NaCl", "ZnS"]
    for content in ("", "formula\n"):
        file.write_text(content)
        with pytest.raises(InputError, match="no formula"):
            read_formulas(file)
    with pytest.raises(InputError, match="There is no file"):
        read_formulas(tmp_path / "none.csv")


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
    everything = settings(labeller="gpaw", hull=True)
    assert [stage.name for stage in asked_for(everything)] == [stage.name for stage in STAGES]
    least = [stage.name for stage in asked_for(settings(relaxer="none", hull=False))]
    assert least == ["propose", "filter", "screen", "pre_relax", "relax", "rattle"]


def test_labelling_takes_its_share_of_the_progress() -> None:
    pace = Pace(time_shares(settings(relaxer="none", labeller="gpaw", hull=False)), DOING)
    assert list(pace.shares) == ["propose", "filter", "screen", "label", "pre_relax", "relax", "rattle"]
    before = sum(pace.shares[name] for name in ("propose", "filter", "screen"))
    assert pace.at("label", 12, 24, now=0.0)[0] == pytest.approx(before + pace.shares["label"] / 2)


def test_what_a_resumed_run_finds_done_is_not_taken_for_speed() -> None:
    pace = Pace({"screen": 40.0, "relax": 50.0, "rattle": 10.0}, DOING)
    pace.at("relax", 90, 100, now=0.0)
    assert "about 7 min left" in pace.at("relax", 91, 100, now=15.0)[1]  # 15.0 s for 0.5 %, 14.5 % left


@pytest.mark.parametrize(
    ("seconds", "words"), [(3, "10 s"), (64, "60 s"), (200, "3 min"), (5000, "83 min"), (7200, "2.0 h")]
)
def test_durations_are_round(seconds: float, words: str) -> None:
    assert duration(seconds) == f"about {words}"
