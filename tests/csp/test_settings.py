"""What is wrong with settings is said in one sentence that names the setting, not an option."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from csp.errors import InputError
from csp.settings import SearchSettings


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
