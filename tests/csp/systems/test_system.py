"""Systems as people write them, and the formulas in them, against counting."""

from __future__ import annotations

import math
from itertools import product

import pytest

from csp.errors import InputError
from csp.formula import read_formula
from csp.systems.compositions import is_balanced
from csp.systems.system import ChemicalSystem


def test_ways_to_write_a_system() -> None:
    parse = ChemicalSystem.parse
    assert parse("Li-P-S") == parse("Li,P,S") == parse(" S ; P;Li ")
    assert parse("Li-P-S").elements == ("Li", "P", "S")
    assert parse("Li2S-P2S5").ends == ("Li2S", "P2S5")
    assert parse("Li3PS4, Li7P3S11").formulas == ("Li3PS4", "Li7P3S11")
    with_sodium = parse("LiFePO4 with Na")
    assert (with_sodium.host, with_sodium.guest) == ("LiFePO4", "Na")
    assert set(with_sodium.elements) == {"Li", "Fe", "P", "O", "Na"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Li", "one element"),
        ("Li-Li", "one element"),
        ("Li-P-S-O-N-F-Cl", "at most 6"),
        ("Xx-Li", "no element Xx"),
        ("LiFePO4", "csp predict"),
        ("LiFePO4 with NaCl", "no element"),
        ("LiF with Na with K", "no chemical system"),
        ("LiFePO4 with", "no chemical system"),
        ("with Na", "no chemical system"),
        ("LiFePO4 With Na, K", "more than one element"),
        ("Li-P-S with Na", "no compound"),
        (" , ", "such as Li-P-S"),
    ],
)
def test_what_is_no_system_is_said_in_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as error:
        ChemicalSystem.parse(text)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize(("system", "most"), [("Al-Ni", 9), ("Li-P-S", 7), ("Li-P-S-O", 6)])
def test_all_formulas_of_elements(system: str, most: int) -> None:
    n = system.count("-") + 1
    amounts = {
        one
        for one in product(range(most + 1), repeat=n)
        if 2 <= sum(one) <= most and math.gcd(*one) == 1 and sum(x > 0 for x in one) > 1
    }
    formulas = ChemicalSystem.parse(system).within(most)
    assert len(formulas) == len(set(formulas)) == len(amounts)


def test_a_section_is_all_mixtures_of_its_ends() -> None:
    """Li2S and P2S5: a Li, b P, c S with 2 c = a + 5 b, which is what the ends have."""
    formulas = ChemicalSystem.parse("Li2S-P2S5").within(24)
    counted = {
        (a // g, b // g, c // g)
        for a in range(25)
        for b in range(25)
        for c in [(a + 5 * b) / 2]
        if c == int(c) and a + b
        for g in [math.gcd(a, b, int(c))]
        for c in [int(c)]
        if (a + b + c) // g <= 24
    }
    found = {tuple(read_formula(f).counts.get(e, 0) for e in ("Li", "P", "S")) for f in formulas}
    assert found == counted
    assert {"Li3PS4", "Li7P3S11", "LiPS3", "Li4P2S7", "Li2S", "P2S5"} <= set(formulas)


def test_a_guest_takes_places_or_is_added() -> None:
    formulas = ChemicalSystem.parse("LiFePO4 with Na").within(14)
    assert {"LiFePO4", "NaFePO4", "NaLiFe2P2O8", "NaLiFePO4"} <= set(formulas)
    for formula in formulas:
        counts = read_formula(formula).counts
        assert sum(counts.values()) <= 14


@pytest.mark.parametrize(
    "formula", ["Li2S", "P2S5", "Li3PS4", "MgO", "Mg2SiO4", "SrTiO3", "NaCl", "Li7P3S11"]
)
def test_formulas_that_balance(formula: str) -> None:
    assert is_balanced(formula)


@pytest.mark.parametrize("formula", ["Li3S", "LiP7", "MgO2", "NaCl2", "Al3Ni"])
def test_formulas_that_do_not(formula: str) -> None:
    assert not is_balanced(formula)


@pytest.mark.parametrize("formula", ["NbCl4", "Li2PS3", "Cu2O"])
def test_formulas_that_need_a_rarer_state(formula: str) -> None:
    assert not is_balanced(formula)
    assert is_balanced(formula, rarer=True)


def test_nothing_electronegative_is_positive_beside_what_is_less_so() -> None:
    """S4+ with P3−: 3 S and 4 P balance, but sulphur draws electrons from phosphorus."""
    assert is_balanced("P2S5")
    assert not is_balanced("P4S3")
