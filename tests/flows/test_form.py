"""The form says what the settings say, and refuses what they refuse."""

import re

import jsonschema
import pytest
from prefect.utilities.callables import parameter_schema

from csp.errors import InputError
from csp.settings import AUTO_LIBRARY, DEFAULT_GENERATORS, GENERATOR_NAMES, SearchSettings
from flows.form import DEFAULTS, FIRST, Advanced, settings_of
from flows.many import predict_many
from flows.predict import predict

SCHEMA = parameter_schema(predict.fn).model_dump()
FORM, REST = SCHEMA["properties"], SCHEMA["definitions"]["Advanced"]["properties"]


def allows(**parameters: object) -> bool:
    try:
        jsonschema.validate(parameters, SCHEMA)
    except jsonschema.ValidationError:
        return False
    return True


def test_every_setting_is_in_the_form_once_and_says_what_it_is() -> None:
    assert {**{name: FORM[name] for name in FIRST}, **REST}.keys() == SearchSettings.model_fields.keys()
    assert not set(FIRST) & set(REST)
    for name, field in SearchSettings.model_fields.items():
        shown = FORM.get(name) or REST[name]
        assert (shown["title"], shown["description"]) == (field.title, field.description)


def test_the_first_fields_come_first() -> None:
    by_position = sorted(FORM, key=lambda name: FORM[name]["position"])
    assert by_position == [*FIRST, "advanced", "device", "runner", "folder"]
    assert SCHEMA["required"] == ["formula"]
    assert all(FORM[name]["title"][0].isupper() for name in FORM)


def test_choices_ranges_and_defaults_are_those_of_the_settings() -> None:
    assert FORM["generators"]["items"]["enum"] == list(GENERATOR_NAMES)
    assert (FORM["candidates"]["minimum"], FORM["candidates"]["maximum"]) == (1, 1_000_000)
    assert (REST["pressure"]["minimum"], REST["pressure"]["maximum"]) == (-50, 1000)
    for name, field in SearchSettings.model_fields.items():
        if name not in FIRST:
            assert getattr(DEFAULTS, name) == field.default
    assert settings_of("GaAs", 500, DEFAULT_GENERATORS, "none", AUTO_LIBRARY, DEFAULTS)[
        0
    ] == SearchSettings.read(formula="GaAs")


HYDRATES = ["CaSO4.2H2O", "CaSO4 · ½H2O", "CaSO₄ × 2 H₂O", "CoCl2 x 6H2O", "1.5Na2O·Al2O3", "½Na2O*SiO2"]


@pytest.mark.parametrize(
    "formula", ["SrTiO3", "Ba(FeAs)2", " Na Cl ", "[Ba(FeAs)2]3", "Li0.5CoO2", *HYDRATES]
)
def test_formulas_are_let_through(formula: str) -> None:
    assert allows(formula=formula)


@pytest.mark.parametrize("formula", ["", "gaas", "Ga-As", "12", "NaCl!", "Na" + "x" * 200, "(2)", "Ga\nAs;"])
def test_what_is_no_formula_is_refused_by_the_form(formula: str) -> None:
    assert not allows(formula=formula)


@pytest.mark.parametrize(
    "wrong",
    [
        {"candidates": 0},
        {"candidates": 2.5},
        {"generators": []},
        {"generators": ["magic"]},
        {"device": "tpu"},
        {"runner": "spark"},
        {"advanced": {"pressure": 1e6}},
        {"advanced": {"space_groups": [231]}},
        {"advanced": {"relaxd": 3}},
    ],
)
def test_what_is_out_of_range_is_refused_by_the_form(wrong: dict) -> None:
    assert allows(formula="GaAs")
    assert not allows(formula="GaAs", **wrong)


def test_a_long_wrong_formula_is_refused_at_once() -> None:
    """The pattern has one way to read each character, so it cannot take for ever."""
    pattern = FORM["formula"]["pattern"]
    assert re.search(pattern, "1" * 5000 + "x") is None
    assert re.search(pattern, "A" * 5000 + "!") is None


@pytest.mark.parametrize("formula", ["Xx2O3", "Ba(FeAs2", "H200O"])
def test_what_no_pattern_knows_is_said_in_one_sentence(formula: str) -> None:
    assert allows(formula=formula)
    with pytest.raises(InputError, match=r"^[^\n]*\.$"):
        settings_of(formula, 500, GENERATOR_NAMES, "none", None, DEFAULTS)


def test_many_formulas_share_the_form() -> None:
    schema = parameter_schema(predict_many.fn).model_dump()
    assert {name: schema["properties"][name]["title"] for name in ("formulas", "table")} == {
        "formulas": "Formulas",
        "table": "CSV file",
    }
    assert schema["definitions"]["Advanced"]["properties"].keys() == Advanced.model_fields.keys()
    assert "required" not in schema or not schema["required"]
