"""The commands of the flows as far as they need no server."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from csp.report.files import SCHEMA
from tests.program import csp


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, in which nothing is up."""
    monkeypatch.setenv("CSP_HOME", str(tmp_path))
    for name in ("PREFECT_API_URL", "CSP_URL", "CSP_AUTH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def ranked(folder: Path, formula: str) -> Path:
    folder.mkdir(parents=True)
    row = {
        "rank": 1,
        "id": "1f",
        "file": "structures/001.cif",
        "n_atoms": 2,
        "spacegroup": "Fm-3m",
        "spacegroup_number": 225,
        "energy_ev_per_atom": -3.4,
        "enthalpy_ev_per_atom": -3.4,
        "sigma_ev_per_atom": None,
        "density": 2.1,
        "volume_per_atom": 22.8,
        "status": "converged",
        "generator": "random",
        "template_id": "[old]",
        "wyckoff": "",
        "n_duplicates": 0,
        "above_lowest_ev_per_atom": 0.0,
        "probability": 0.83,
        "of_a_later_version": 1,
    }
    written = {
        "schema": SCHEMA,
        "formula": formula,
        "label": "PBE/none/[b]model[/b]",
        "order": "probability",
        "pressure_gpa": 0.0,
        "results": [row],
        "funnel": {},
    }
    (folder / "ranked.json").write_text(json.dumps(written))
    (folder / "ranked.csv").write_text("rank\n1\n")
    return folder


@pytest.mark.parametrize("words", [["status"], ["submit", "NaCl"], ["cancel", "NaCl"]])
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
    assert csp("submit", "NaCl", "--pressure", "0,5000") == 2
    assert "--pressure: must be at most 1000 (got 5000" in capsys.readouterr().err


def test_results_by_formula_and_by_folder(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ranked(home / "runs" / "[1] NaCl", "NaCl")
    for named in ("ClNa", str(folder)):
        assert csp("results", named) == 0
        told = capsys.readouterr().out
        assert "NaCl · PBE/none/[b]model[/b]" in told
        assert "p %" in told
        assert "ordered by probability" in told
        row = next(line for line in told.splitlines() if "Fm-3m" in line)
        assert re.findall(r"[^\s│]+", row) == ["1", "83", "0.0", "Fm-3m", "225", "2", "22.80", "[old]"]
        assert told.endswith(f"{folder}/report.html\n")
    assert csp("results", "MgO") == 3


def test_results_of_csp_predict_are_found_too(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    ranked(home / "runs" / "NaCl-1", "NaCl")
    (home / "out" / "MgO").mkdir(parents=True)
    (home / "out" / "MgO" / "ranked.json").write_text("{")  # damaged, and of nobody's interest
    later = ranked(home / "out" / "NaCl", "NaCl") / "ranked.json"
    os.utime(later, (2**32, 2**32))
    assert csp("results", "NaCl") == 0
    assert "out/NaCl/report.html" in capsys.readouterr().out
    os.utime(later, (1, 1))
    assert csp("results", "NaCl") == 0
    assert "runs/NaCl-1/report.html" in capsys.readouterr().out


def test_results_are_exported(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ranked(home / "run", "NaCl")
    assert csp("results", str(folder), "--export", str(home / "best.csv")) == 0
    assert (home / "best.csv").read_text() == "rank\n1\n"
    assert csp("results", str(folder), "--export", str(home / "best.doc")) == 2
    assert "best.doc: results can be written as .extxyz, .db, .csv." in capsys.readouterr().err
