"""Phases by wish: the order, and what is no wish."""

from __future__ import annotations

import math
from typing import Any

import pytest

from csp.errors import InputError
from csp.systems.wish import Wish
from tests.csp.systems.phases import phase

PHASES = [phase("NaCl", -4.0), phase("Na", -1.0), phase("Cl", -2.0), phase("KCl", -3.0)]


def heaviness(structure: Any) -> tuple[float, float]:
    """Of the mean atom, and a σ."""
    return float(structure.composition.weight / len(structure)), 0.5


def fails_on_chlorine(structure: Any) -> float:
    """NaN for sodium."""
    if "Cl" in structure.composition:
        raise ValueError("no chlorine here.")
    return math.nan


def test_maximum_minimum_and_range() -> None:
    name = f"{__name__}:heaviness"
    most = Wish.parse(f"{name} max").order(PHASES)
    assert [one.phase.formula for one in most] == ["KCl", "Cl", "NaCl", "Na"]
    assert most[0].sigma == 0.5
    least = Wish.parse(f"{name} min").order(PHASES)
    assert [one.phase.formula for one in least] == ["Na", "NaCl", "Cl", "KCl"]
    wish = Wish.parse(f"{name} 29..36")  # NaCl 29.2, Cl 35.5; Na is 6, KCl 1.3 away
    ordered = wish.order(PHASES)
    assert {one.phase.formula for one in ordered[:2]} == {"NaCl", "Cl"}
    assert [one.phase.formula for one in ordered[2:]] == ["KCl", "Na"]
    assert [wish.fulfils(one) for one in ordered] == [True, True, False, False]


def test_density_is_mass_by_volume() -> None:
    (first, *_) = Wish.parse("density max").order([PHASES[0]])
    assert first.value == pytest.approx((22.98977 + 35.453) * 1.66053907 / (6 * 3 * 3), rel=1e-4)


def test_what_a_function_cannot_say_comes_last_with_the_reason() -> None:
    ordered = Wish.parse(f"{__name__}:fails_on_chlorine max").order(PHASES)
    assert all(one.value is None for one in ordered)
    reasons = {one.phase.formula: one.why_not for one in ordered}
    assert reasons["NaCl"] == "no chlorine here"
    assert reasons["Na"] == "its value is no number"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("density", "no wish"),
        ("density most", "no wish"),
        ("band_gap 1.1..1.6", "No model gives the property 'band_gap'"),
        ("densty max", "did you mean density"),
        ("density 3..1", "ends before it begins"),
        ("nowhere.to.be.found:f max", "cannot be imported"),
        ("math:nothing max", "no function 'nothing'"),
    ],
)
def test_what_is_no_wish(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Wish.parse(text)
