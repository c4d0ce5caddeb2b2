"""Phases by wish: the order, and what is no wish."""

from __future__ import annotations

import math
import sys
from pathlib import Path
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


def test_a_function_in_the_folder_where_people_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "property_of_mine.py").write_text("def atoms(structure):\n    return len(structure), 0.5\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one])  # as of an installed program
    first, *_ = Wish.parse("property_of_mine:atoms max").order(PHASES)
    assert (first.value, first.sigma) == (max(one.n_atoms for one in PHASES), 0.5)


def test_by_a_model_values_and_sigma_are_those_of_csp_properties() -> None:
    import csp

    ordered = Wish.parse("bulk_modulus max").order(PHASES)
    structures = [one.phase.crystal.structures()[0] for one in ordered]
    expected = [found["bulk_modulus"] for found in csp.predict_properties(structures, "bulk_modulus")]
    assert [one.value for one in ordered] == sorted((one.value for one in expected), reverse=True)
    assert [one.sigma for one in ordered] == pytest.approx([one.sigma for one in expected], rel=1e-3)
    assert [str(one) for one in ordered] == [str(one) for one in expected]
    assert all(str(one).endswith((" GPa", " GPa (outside the data)")) for one in ordered)


def test_elements_that_a_model_has_not_learned_are_an_outcome() -> None:
    radon = phase("Rn", 0.0)
    *_, last = Wish.parse("bulk_modulus min").order([radon, PHASES[0]])
    assert last.phase is radon
    assert "not learned" in str(last)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("density", "no wish"),
        ("density most", "no wish"),
        ("hardness max", "No model gives the property 'hardness'; there are models of .*bulk_modulus"),
        ("band_gep 1.1..1.6", "did you mean band_gap"),
        ("bulk_modulus.safetensors max", "No model gives the property 'bulk_modulus.safetensors'"),
        ("band_gap 1.6..1.1", "ends before it begins"),
        ("densty max", "did you mean density"),
        ("density 3..1", "ends before it begins"),
        ("nowhere.to.be.found:f max", "cannot be imported"),
        ("math:nothing max", "no function 'nothing'"),
    ],
)
def test_what_is_no_wish(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Wish.parse(text)
