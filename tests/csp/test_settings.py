"""What is wrong with settings is said in one sentence that names the setting, not an option."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from csp.errors import InputError
from csp.settings import OF_DEEP, QUICK, SearchSettings


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"candidates": 0}, "candidates: input should be greater than or equal to 1 (got 0)."),
        ({"top": 2.5},
         "top: input should be a valid integer, got a number with a fractional part (got 2.5)."),
        ({"space_groups": (0,)}, "space_groups: input should be greater than or equal to 1 (got 0)."),
        ({"surrogate": Path("a/b")}, "surrogate: input should be a valid string (got a/b)."),
        ({"generators": ["magic"]}, "generators: there is no generator 'magic'; choose from template, "
         "metric_learning, space_group, random."),
        ({"labeller": "gpaw", "surrogate": "none"},
         "labeller: labels are learned by a surrogate; name a `surrogate`."),
        ({"minutes": 5.0}, "minutes: `minutes` is of a deep search; ask for `effort` deep."),
        ({"until": 1.5, "effort": "deep"}, "until: input should be less than or equal to 1 (got 1.5)."),
        ({"nonsense": 1}, "nonsense: extra inputs are not permitted (got 1)."),
    ],
)  # fmt: skip
def test_one_plain_sentence(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        SearchSettings.read(formula="Si", **wrong)
    assert str(caught.value) == says
    assert caught.value.setting == next(iter(wrong))


def test_a_wrong_formula_is_said_by_who_reads_it() -> None:
    with pytest.raises(InputError, match=r"^'SrTiO3.5x' is not a chemical formula"):
        SearchSettings.read(formula="SrTiO3.5x")


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
