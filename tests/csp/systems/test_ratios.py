"""Ratios of a library, against counting crystal by crystal."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import gcd

import numpy as np
import pytest
from pymatgen.core import Composition, Element

from csp.formula import electronegativity_key
from csp.library.library import Library
from csp.systems.compositions import compositions
from csp.systems.ratios import Ratios
from csp.systems.system import ChemicalSystem
from csp.target import Target

FORMULAS = ["Al3Ni", "AlNi3", "Th2Co17", "Th17Co2", "NaCl", "MgCl2", "Li2S", "AlNi", "SrTiO3", "Li", "Mg2Si"]


@pytest.fixture(scope="module")
def entries() -> Library:
    """Whose elements stand for themselves."""
    return replace(Library.open(), name="entries", about={})


def test_ratios_are_counted_by_electronegativity_metals_apart(entries: Library) -> None:
    counted: Counter[tuple[bool, tuple[int, ...]]] = Counter()
    for row in range(len(entries)):
        numbers = entries.crystals([row]).numbers.tolist()
        atoms = Counter(Element.from_Z(z).symbol for z in numbers)
        symbols = sorted(atoms, key=electronegativity_key)
        amounts = tuple(atoms[s] // gcd(*atoms.values()) for s in symbols)
        counted[all(Element(s).is_metal for s in symbols), amounts] += 1
    ratios = Ratios.of(entries)
    assert ratios.counted == counted
    for formula in FORMULAS:
        target = Target.parse(formula)
        metals = all(element.is_metal for element in Composition(formula))
        assert ratios.count(target) == counted[metals, target.counts]
        assert ratios.total(target) == sum(n for (kind, _), n in counted.items() if kind == metals)


def test_where_elements_stand_for_others_the_amounts_alone_count(entries: Library) -> None:
    library = replace(entries, about={"stand_in": np.ones(len(entries), dtype=object)})
    ratios = Ratios.of(library)
    for formula in FORMULAS:
        target = Target.parse(formula)
        assert ratios.count(target) == len(library.rows(target.anonymous))
        assert ratios.total(target) == len(library)


def test_which_compositions_come_first(entries: Library) -> None:
    """Those that balance; of intermetallics the common ratios, of two with the same amounts the commoner."""
    salts = [one.formula for one in compositions(ChemicalSystem.parse("Mg-Si-O"), entries, 7)]
    assert {"MgO", "SiO2", "MgSiO3", "Mg2SiO4"} <= set(salts[:7])
    alloys = compositions(ChemicalSystem.parse("Al-Ni"), entries, 12)
    first = [one.formula for one in alloys[:6]]
    assert {"AlNi", "AlNi3", "Al3Ni"} <= set(first)
    assert alloys[-1].kind == "other"


def test_an_extract_of_a_database_tells_nothing_of_other_ratios(entries: Library) -> None:
    extract = replace(entries.excluding(Target.parse("NaCl")), extract_of=150_000)
    system = ChemicalSystem.parse("Al-Ni")
    assert compositions(system, extract, 8) == compositions(system, Library.open(), 8)
