"""`csp library` and `csp labellers`: thin, but what they say is plain."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write

from tests.program import csp


def test_import_and_info(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "[mine]"
    source.mkdir()
    write(source / "NaCl.cif", bulk("NaCl", "rocksalt", a=5.6))
    words = ("--source", "[our] group", "--licence", "CC BY 4.0")
    assert csp("library", "import", str(source), str(tmp_path / "mine.parquet"), *words) == 0
    assert "1" in capsys.readouterr().out
    assert csp("library", "info", str(tmp_path / "mine.parquet")) == 0
    assert "[our] group" in capsys.readouterr().out
    assert csp("library", "import", str(tmp_path / "[none]"), str(tmp_path / "no.parquet"), *words) == 3
    assert f"{tmp_path}/[none]" in capsys.readouterr().err


def test_a_labeller_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert csp("labellers", "check", "[magic]") == 2
    assert "'[magic]'" in capsys.readouterr().err


def test_what_is_not_there_cannot_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert csp("library", "use", str(tmp_path / "none.parquet")) == 3
    assert "`csp library pull` or `csp library import` makes one." in capsys.readouterr().err
