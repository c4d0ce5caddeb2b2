"""`csp predict --pressure 0,40` as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.program import csp

SMALL = [
    *("--candidates=24", "--screened=24", "--relaxed=8", "--rattled=0", "--max-atoms=4", "--no-hull"),
    *("--generators=template", "--library=none", "--relaxer=none"),
]


@pytest.fixture(scope="module")
def salt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert csp("predict", "NaCl", "--pressure", "40,0", "--out", str(out), *SMALL) == 0
    return out


def test_rock_salt_gives_way_to_the_structure_of_caesium_chloride(salt: Path) -> None:
    """Measured at about 27 GPa; PBE has it near 26."""
    told = json.loads((salt / "pressures.json").read_text())
    assert told["pressures_gpa"] == [0.0, 40.0]
    (transition,) = told["transitions"]
    assert transition["below"].startswith("Fm-3m")
    assert transition["above"].startswith("Pm-3m")
    assert 0 < transition["pressure_gpa"] < 40
    assert transition["volume_change"] > 0
    by_name = {phase["spacegroup"]: phase for phase in told["phases"]}
    assert by_name["Fm-3m"]["above_lowest_ev_per_atom"][0] == 0
    assert by_name["Pm-3m"]["above_lowest_ev_per_atom"][1] == 0


def test_each_pressure_has_its_prediction_and_all_have_a_page(salt: Path) -> None:
    for pressure in ("0GPa", "40GPa"):
        assert (salt / pressure / "ranked.json").is_file()
    page = (salt / "pressures.html").read_text()
    assert 'href="40GPa/report.html"' in page
    assert "<svg" in page
    assert "<script" not in page


def test_it_goes_on_and_relaxes_nothing_again(salt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (salt / "pressures.json").read_bytes()
    assert csp("predict", "NaCl", "--pressure", "0,40", "--out", str(salt), "--resume", *SMALL) == 0
    assert (salt / "pressures.json").read_bytes() == before
    assert "gives way to Pm-3m" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["0,x", "0,,40", "5000", "nan"])
def test_what_is_no_pressure_is_said(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert csp("predict", "NaCl", "--pressure", wrong) == 2
    assert "pressure" in capsys.readouterr().err
