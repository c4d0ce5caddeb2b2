"""The form of an exploration says what its settings say; what a server may not run is refused."""

from __future__ import annotations

import pytest
from prefect.utilities.callables import parameter_schema

from csp.errors import InputError
from csp.systems.settings import ExploreSettings
from flows import explore as flow
from flows.explore import DEFAULTS, FIRST

SCHEMA = parameter_schema(flow.explore.fn).model_dump()
FORM, REST = SCHEMA["properties"], SCHEMA["definitions"]["ExploreAdvanced"]["properties"]


def test_every_setting_is_in_the_form_once_and_says_what_it_is() -> None:
    assert {**{name: FORM[name] for name in FIRST}, **REST}.keys() == ExploreSettings.model_fields.keys()
    for name, field in ExploreSettings.model_fields.items():
        shown = FORM.get(name) or REST[name]
        assert (shown["title"], shown["description"]) == (field.title, field.description)
        if name not in FIRST:
            assert getattr(DEFAULTS, name) == field.default
    assert SCHEMA["required"] == ["system"]


def test_who_submits_does_not_choose_the_code_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    advanced = DEFAULTS.model_copy(update={"wish": "math:sqrt max"})
    assert flow._settings("Na-Cl", 5, 1.0, None, advanced).wish == "math:sqrt max"  # a plain call
    monkeypatch.setattr(flow.FlowRunContext, "get", lambda: object())
    modelled = DEFAULTS.model_copy(update={"wish": "bulk_modulus max"})
    assert flow._settings("Na-Cl", 5, 1.0, None, modelled).wish == "bulk_modulus max"
    with pytest.raises(InputError, match="not for runs of a server"):
        flow._settings("Na-Cl", 5, 1.0, None, advanced)
    missing = DEFAULTS.model_copy(update={"wish": "nowhere.to.be.found:f max"})
    with pytest.raises(InputError, match="not for runs of a server"):  # before it is imported
        flow._settings("Na-Cl", 5, 1.0, None, missing)


def test_keys_are_what_prefect_takes() -> None:
    assert flow._key("LiFePO4-with-Na") == "lifepo4-with-na"
