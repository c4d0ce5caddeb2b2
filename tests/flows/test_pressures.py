"""A formula at several pressures: its form, and the flow as a plain function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from prefect.utilities.callables import parameter_schema

from csp.errors import InputError
from csp.settings import SearchSettings
from flows.form import FIRST
from flows.pressures import DEFAULTS, PressuresAdvanced, predict_pressures

CHEAP = PressuresAdvanced(
    screened=12, relaxed=4, rattled=0, max_steps=10, max_atoms=4, hull=False, relaxer="none"
)
SCHEMA = parameter_schema(predict_pressures.fn).model_dump()
REST = SCHEMA["definitions"]["PressuresAdvanced"]["properties"]


def test_all_settings_but_the_pressure_are_in_the_form_once() -> None:
    assert {*FIRST, "pressure", *REST} == set(SearchSettings.model_fields)
    assert "pressure" not in REST
    assert sorted(SCHEMA["required"]) == ["formula", "pressures"]
    for name in REST:
        assert getattr(DEFAULTS, name) == SearchSettings.model_fields[name].default


@pytest.mark.parametrize("wrong", [[], [5], [0, "hot"], [0, 1e6], [0, -80], 20, list(range(21))])
def test_what_are_no_pressures_is_refused_by_the_form(wrong: Any) -> None:
    jsonschema.validate({"formula": "NaCl", "pressures": [0, 25.5, 100]}, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"formula": "NaCl", "pressures": wrong}, SCHEMA)


def test_what_is_wrong_is_said_before_anything_is_done(tmp_path: Path) -> None:
    for wrong in ([5, 5.0], [0, 5000]):
        with pytest.raises(InputError, match="pressure"):
            predict_pressures.fn("NaCl", wrong, folder=tmp_path / "run")
    with pytest.raises(InputError, match="no library"):
        predict_pressures.fn("NaCl", [0, 5], library=tmp_path / "missing.parquet", folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_plain_call_needs_no_server_and_twice_changes_nothing(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"candidates": 12, "generators": ("template",), "library": None}
    asked |= {"advanced": CHEAP, "folder": tmp_path}
    told = predict_pressures.fn("NaCl", [20, 0], **asked)
    assert told["pressures_gpa"] == [0, 20]
    assert "GPa" in told["answer"]
    before = (tmp_path / "pressures.json").read_bytes()
    assert json.loads(before)["answer"] == told["answer"]
    for name in ("0GPa", "20GPa"):
        assert (tmp_path / name / "ranked.json").is_file()
    assert predict_pressures.fn("NaCl", [0, 20], **asked) == told
    assert (tmp_path / "pressures.json").read_bytes() == before
