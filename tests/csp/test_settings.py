"""What is wrong with settings is said in one sentence that names the setting, not an option."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from csp.errors import InputError
from csp.settings import OF_DEEP, QUICK, SearchSettings


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"candidates": 0}, "candidates: must be at least 1 (got 0)."),
        ({"candidates": "x"}, "candidates: must be a whole number (got x)."),
        ({"top": 2.5}, "top: must be a whole number (got 2.5)."),
        ({"space_groups": (0,)}, "space_groups: must be at least 1 (got 0)."),
        ({"space_groups": 5}, "space_groups: must be a list (got 5)."),
        ({"surrogate": Path("a/b")}, "surrogate: must be a text (got a/b)."),
        ({"surrogate": ""}, "surrogate: must be a text that is not empty (got nothing)."),
        ({"generators": []}, "generators: must be a list of at least 1 (got nothing)."),
        ({"pressure": "x"}, "pressure: must be a number (got x)."),
        ({"pressure": 1e4}, "pressure: must be at most 1000 (got 10000.0)."),
        ({"pressure": math.nan}, "pressure: must be a finite number (got nan)."),
        ({"max_force": 0}, "max_force: must be more than 0 (got 0)."),
        ({"order": "x"}, "order: must be 'probability' or 'energy' (got x)."),
        ({"hull": 3}, "hull: must be true or false (got 3)."),
        ({"cell": 5}, "cell: must be a path (got 5)."),
        ({"formula": 5}, "formula: must be a text (got 5)."),
        ({"generators": ["magic"]}, "generators: there is no generator 'magic'; choose from template, "
         "metric_learning, space_group, random."),
        ({"labeller": "gpaw", "surrogate": "none"},
         "labeller: labels are learned by a surrogate; name a `surrogate`."),
        ({"minutes": 5.0}, "minutes: `minutes` is of a deep search; ask for `effort` deep."),
        ({"until": 1.5, "effort": "deep"}, "until: must be at most 1 (got 1.5)."),
        ({"nonsense": 1}, "nonsense: there is no such setting (got 1)."),
    ],
)  # fmt: skip
def test_one_plain_sentence(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        SearchSettings.read(**{"formula": "Si", **wrong})
    assert str(caught.value) == says
    assert caught.value.setting == next(iter(wrong))


def test_a_wrong_formula_is_said_by_who_reads_it() -> None:
    with pytest.raises(InputError, match=r"^'SrTiO3.5y' is not a chemical formula"):
        SearchSettings.read(formula="SrTiO3.5y")


def test_a_quick_search_has_less_of_what_is_not_set_otherwise() -> None:
    quick, standard = (SearchSettings.read(formula="Si", effort=one) for one in ("quick", "standard"))
    assert standard == SearchSettings.read(formula="Si")
    for name in QUICK:
        assert getattr(quick, name) < getattr(standard, name)
    same = set(SearchSettings.model_fields) - set(QUICK) - {"effort"}
    assert all(getattr(quick, name) == getattr(standard, name) for name in same)
    assert SearchSettings.read(formula="Si", effort="quick", relaxed=99).relaxed == 99
    assert SearchSettings.read(**standard.model_copy(update={"effort": "quick"}).model_dump()) == quick
    assert SearchSettings.read(**quick.model_dump()) == quick


def test_a_deep_search_begins_as_a_standard_one() -> None:
    deep = SearchSettings.read(formula="Si", effort="deep", minutes=3, until=0.8)
    standard = SearchSettings.read(formula="Si")
    assert deep.model_dump(exclude=set(OF_DEEP) | {"effort"}) == standard.model_dump(
        exclude=set(OF_DEEP) | {"effort"}
    )
