"""Hull, reactions and chemical potentials against hand computation and linear programming."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from monty.json import MontyDecoder
from pymatgen.analysis.phase_diagram import PhaseDiagram
from pymatgen.core import Composition
from scipy.optimize import linprog

from csp.errors import ContractError
from csp.systems.diagram import Diagram
from csp.systems.phases import SystemPhase, distinct
from tests.csp.systems.phases import phase

ELEMENTS = ("Li", "P", "S")
TERNARY = [
    phase("Li", -2.0),
    phase("P", -5.0),
    phase("S", -4.0),
    phase("Li2S", -4.2),
    phase("P2S5", -4.7),
    phase("LiP", -4.1),
    phase("Li3PS4", -4.55),
    phase("LiPS3", -4.58),
    phase("Li7PS6", -4.3),
    phase("Li3PS4", -4.5),
]


def shares(formula: str) -> np.ndarray:
    composition = Composition(formula)
    return np.array([composition.get_atomic_fraction(element) for element in ELEMENTS])


def mixture(formula: str, phases: list[SystemPhase]) -> float:
    """The least energy of phases that have a composition together, eV/atom."""
    found = linprog(
        [p.energy_ev_per_atom for p in phases],
        A_eq=np.array([shares(p.formula) for p in phases]).T,
        b_eq=shares(formula),
        bounds=(0, None),
    )
    return float(found.fun)


def test_above_the_hull_is_what_linear_programming_says() -> None:
    diagram = Diagram(ELEMENTS, TERNARY)
    for one in TERNARY:
        above = one.energy_ev_per_atom - mixture(one.formula, TERNARY)
        assert diagram.above(one) == pytest.approx(above, abs=1e-9)
    stable = {p.formula for p in diagram.stable}
    assert stable == {
        p.formula for p in TERNARY if abs(p.energy_ev_per_atom - mixture(p.formula, TERNARY)) < 1e-9
    }
    near = diagram.near(0.2)
    assert all(0 <= diagram.above(p) <= 0.2 for p in near)
    assert TERNARY[-1] in near  # the second crystal of a formula


def test_reactions_balance_and_cost_what_is_told() -> None:
    diagram = Diagram(ELEMENTS, TERNARY)
    for one in diagram.lowest.values():
        reaction = diagram.reaction(one)
        if one.formula in ELEMENTS:
            assert reaction is None
            continue
        assert reaction is not None
        total = Composition({})
        for formula, n in reaction.products.items():
            total += Composition(formula) * n
        assert total.almost_equals(Composition(one.formula), atol=1e-6)
        others = [p for p in TERNARY if p.formula != one.formula]
        against = mixture(one.formula, others)
        assert reaction.energy_ev_per_atom == pytest.approx(one.energy_ev_per_atom - against, abs=1e-9)
        assert (reaction.energy_ev_per_atom < 0) == (one in diagram.stable)


def test_words_of_reactions() -> None:
    """Na −1, Cl −2, NaCl −4 eV/atom: Na3Cl at −2 is half-way between Na and NaCl, 0.5 eV/atom above."""
    phases = [
        phase("Na", -1.0),
        phase("Cl", -2.0),
        phase("NaCl", -4.0),
        phase("Na3Cl", -2.0),
        phase("NaCl", -3.9),
    ]
    diagram = Diagram(("Na", "Cl"), phases)
    reaction = diagram.reaction(phases[3])
    assert reaction is not None
    assert reaction.words("Na3Cl") == "Na3Cl → 2 Na + NaCl"
    assert reaction.energy_ev_per_atom == pytest.approx(0.5)
    polymorph = diagram.reaction(phases[4])
    assert polymorph is not None
    assert polymorph.into("NaCl") == "the lowest NaCl"
    assert polymorph.energy_ev_per_atom == pytest.approx(0.1)


def test_chemical_potentials_of_a_binary_by_hand() -> None:
    """NaCl alone, −2.5 eV/atom from the elements: each may be up to 0, and the other then 2 · −2.5."""
    diagram = Diagram(("Na", "Cl"), [phase("Na", -1.0), phase("Cl", -2.0), phase("NaCl", -4.0)])
    salt = diagram.lowest["NaCl"]
    assert diagram.potentials(salt) == {"Na": pytest.approx((-5.0, 0.0)), "Cl": pytest.approx((-5.0, 0.0))}
    assert diagram.potentials(diagram.lowest["Na"]) == {"Na": (0.0, 0.0), "Cl": (None, pytest.approx(-5.0))}


def test_chemical_potentials_are_what_linear_programming_says() -> None:
    diagram = Diagram(ELEMENTS, TERNARY)
    zero = np.array([diagram.lowest[e].energy_ev_per_atom for e in ELEMENTS])
    rows = np.array([shares(p.formula) for p in diagram.lowest.values()])
    most = np.array([p.energy_ev_per_atom for p in diagram.lowest.values()]) - rows @ zero
    for one in diagram.stable:
        own = shares(one.formula)
        told = diagram.potentials(one)
        for k, element in enumerate(ELEMENTS):
            ends = []
            for sign in (1, -1):
                found = linprog(
                    sign * np.eye(3)[k],
                    A_ub=rows,
                    b_ub=most + 1e-9,
                    A_eq=[own],
                    b_eq=[one.energy_ev_per_atom - own @ zero],
                    bounds=(None, None),
                )
                ends.append(None if found.status == 3 else found.x[k])
            assert told[element][0] == (None if ends[0] is None else pytest.approx(ends[0], abs=1e-5))
            assert told[element][1] == pytest.approx(ends[1], abs=1e-5)


def test_entries_are_for_pymatgen() -> None:
    diagram = Diagram(ELEMENTS, TERNARY)
    read = MontyDecoder().process_decoded(json.loads(json.dumps([e.as_dict() for e in diagram.entries()])))
    again = PhaseDiagram(read)
    assert {e.reduced_formula for e in again.stable_entries} == {
        Composition(p.formula).reduced_formula for p in diagram.stable
    }


def test_energies_of_two_labels_and_missing_elements_are_refused() -> None:
    with pytest.raises(ContractError, match="one label"):
        Diagram(ELEMENTS, [*TERNARY, phase("LiS", -3.0, label="other")])
    with pytest.raises(ContractError, match="none of P"):
        Diagram(ELEMENTS, [p for p in TERNARY if p.formula != "P"])


def test_an_element_that_is_not_the_lowest_becomes_the_lowest() -> None:
    metastable = phase("Li", -1.99)
    diagram = Diagram(ELEMENTS, [*TERNARY, metastable])
    assert diagram.reaction(TERNARY[0]) is None
    reaction = diagram.reaction(metastable)
    assert reaction is not None
    assert reaction.words("Li") == "Li → the lowest Li"
    assert reaction.energy_ev_per_atom == pytest.approx(0.01)


def test_one_crystal_is_told_once() -> None:
    """The library's own and what a search found of it; not two of one search, nor other energies."""

    def found(energy: float, search: str, *entries: str) -> SystemPhase:
        row = {"known_as": [{"id": one} for one in entries]}
        return replace(phase("LiP", energy, name=entries[0]), search=search, row=row)

    own, again = phase("LiP", -4.1, name="a"), phase("LiP", -4.0995, name="b")
    both = found(-4.1001, "searches/LiP", "b", "a")  # the library has it twice
    second, far = found(-4.0999, "searches/LiP", "a"), found(-4.09, "elsewhere", "a")
    new = replace(phase("LiP", -4.1, novelty="new"), search="searches/LiP")
    assert distinct([both, own, again, second, new, far]) == [[both, own, again], [second], [new], [far]]
    assert distinct([own, both, again]) == [[own, both, again]]
    assert distinct([]) == []
