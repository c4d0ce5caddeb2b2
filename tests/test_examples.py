"""The examples run, as scripts and as a notebook, and print what they promise."""

from __future__ import annotations

import json
import os
import runpy
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
PRINTED = {
    "ase_calculator": "eV/atom",
    "own_energy_model": "my-lennard-jones keeps the contract.",
    "own_generator": "stretched-salts keeps the contract.",
    "predict": "GaAs · PBE+U/",
    "relax_under_pressure": "100 GPa  rock salt",
}


def test_there_are_no_others() -> None:
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == sorted(PRINTED)


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_scripts_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert PRINTED[name] in capsys.readouterr().out
    assert os.listdir(tmp_path) == []  # no example leaves files behind


def test_own_parts_are_in_the_rankings(capsys: pytest.CaptureFixture[str]) -> None:
    found = runpy.run_path(str(EXAMPLES / "own_generator.py"))["found"]
    assert found[0].space_group == "Fm-3m"  # rock salt
    assert any("stretched-salts" in one.result.proposed_by for one in found)


@pytest.fixture(scope="module")
def notebook() -> dict[str, Any]:
    return json.loads((EXAMPLES / "first_prediction.ipynb").read_text(encoding="utf-8"))


def test_the_notebook_runs(
    notebook: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    assert len(names["found"]) > 1
    assert names["table"].index[0] == 1
    assert "_symmetry" in capsys.readouterr().out or names["best"].structure.to(fmt="cif")


def test_the_notebook_is_kept_without_outputs(notebook: dict[str, Any]) -> None:
    assert notebook["nbformat"] == 4
    for cell in notebook["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
