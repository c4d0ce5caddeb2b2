"""`csp phonons` as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write

from tests.program import csp


@pytest.fixture(scope="module")
def salt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("salt") / "NaCl.cif"
    write(path, bulk("NaCl", "rocksalt", a=5.6))
    return path


def test_a_file(salt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ("phonons", str(salt), "--model", "xs", "--length", "5", "--no-follow", "--out", str(out))
    assert csp(*words) == 0
    text = capsys.readouterr().out
    (line,) = [line for line in text.splitlines() if line.startswith("NaCl")]
    assert "Fm-3m" in line
    (row,) = json.loads((out / "phonons" / "phonons.json").read_text())["results"]
    assert row["stability"] in line
    assert row["model"] == "xs"
    assert row["acoustic"] < 0.1
    assert (out / "structures" / "001.cif").is_file()
    assert csp(*words) == 0  # again, from what is stored
    assert json.loads((out / "phonons" / "phonons.json").read_text())["results"] == [row]


def test_what_is_wrong_is_said_in_a_sentence(
    salt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert csp("phonons", str(tmp_path / "none.cif")) != 0
    assert "none.cif" in capsys.readouterr().err
    assert csp("phonons", str(salt), "--length", "1") == 2
    assert "length" in capsys.readouterr().err
