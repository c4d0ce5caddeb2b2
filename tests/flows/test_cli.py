"""The commands of the flows as far as they need no server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from csp.report.files import SCHEMA
from tests.program import csp


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, in which nothing is up."""
    monkeypatch.setenv("CSP_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return tmp_path


def ranked(folder: Path, formula: str) -> Path:
    folder.mkdir(parents=True)
    row = {
        "rank": 1,
        "above_lowest_ev_per_atom": 0.0,
        "spacegroup": "Fm-3m",
        "n_atoms": 2,
        "template_id": "",
        "file": "structures/001.cif",
        "generator": "random",
    }
    written = {"schema": SCHEMA, "formula": formula, "label": "PBE", "results": [row], "funnel": {}}
    (folder / "ranked.json").write_text(json.dumps(written))
    (folder / "ranked.csv").write_text("rank\n1\n")
    return folder


@pytest.mark.parametrize("words", [["status"], ["submit", "NaCl"]])
def test_without_a_server(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert csp(*words) == 3
    assert capsys.readouterr().err.startswith("csp: No server is running; start one with `csp up`")


@pytest.mark.parametrize("words", [["status"], ["submit", "NaCl"], ["results", "NaCl"]], ids=" ".join)
def test_to_look_makes_nothing(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSP_HOME", str(tmp_path / "home"))
    assert csp(*words) == 3
    assert not (tmp_path / "home").exists()


def test_what_is_wrong_is_said_before_a_server_is_looked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert csp("submit", "Ca14MnSb11", "--max-atoms", "20") == 2
    assert "raise --max-atoms" in capsys.readouterr().err


def test_results_by_formula_and_by_folder(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ranked(home / "runs" / "[1] NaCl", "NaCl")
    for named in ("ClNa", str(folder)):
        assert csp("results", named) == 0
        told = capsys.readouterr().out.splitlines()
        assert told[0].split() == ["1", "0.0", "meV/atom", "Fm-3m", "2", "atoms", "random"]
        assert told[1] == f"{folder}/report.html"
    assert csp("results", "MgO") == 3


def test_results_are_exported(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ranked(home / "run", "NaCl")
    assert csp("results", str(folder), "--export", str(home / "best.csv")) == 0
    assert (home / "best.csv").read_text() == "rank\n1\n"
    assert csp("results", str(folder), "--export", str(home / "best.doc")) == 2
    assert "best.doc: results can be written as .extxyz, .db, .csv." in capsys.readouterr().err
