"""Words of a report: formulas and symbols as printed, terms explained once, the answer in two sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ase.data import chemical_symbols

from csp.crystallography.symmetry import crystal_system
from csp.diffraction.sample import Identified
from csp.report.description import Shell
from csp.search.prediction import Prediction, Result

__all__ = [
    "TERMS",
    "answer",
    "crystal_words",
    "decomposition",
    "distances",
    "neighbours",
    "printed_formula",
    "printed_formulas",
    "printed_space_group",
    "type_name",
    "wyckoff_summary",
]

BELOW = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
OVERLINE = "\u0305"
FORMULA = re.compile(r"(?<![\w./-])(\d*)([A-Z(][A-Za-z0-9()]*)(?![\w/-])")
DIATOMIC = ("H2", "N2", "O2", "F2", "Cl2", "Br2", "I2")

TERMS = {
    "rank": "The place in this list, from 1. What the list is ordered by stands above it.",
    "p": "The probability that this crystal is the lowest-energy one that is known of the formula, by its "
    "energy and by what proposed it.",
    "p by pattern": "The probability that this crystal is what the powder pattern was measured of, by the "
    "pattern and by its energy.",
    "Rwp": "Weighted profile R factor of the fit of this crystal to the pattern, %; background and other "
    "phases count.",
    "ΔE": "Energy above the lowest crystal of this search, meV/atom.",
    "ΔH": "Enthalpy H = E + PV above the lowest crystal of this search, meV/atom.",
    "±": "The true difference to the lowest lies within this with a probability of 68 %, by how far the "
    "model errs and how far other models disagree with it, meV/atom.",
    "above hull": "Energy above the convex hull: above the best mixture of known crystals that it could "
    "decompose into, meV/atom. Zero or less is stable against them.",
    "σ": "One standard deviation of the energy, as the model itself estimates it, meV/atom.",
    "space group": "The kind of symmetry of a crystal, one of 230: symbol and number.",
    "foretold": "By models that learned from calculated properties of known crystals; ± holds 68 % of their "
    "errors. Outside the data means that the crystal is unlike all that the model has seen.",
    "attention": "The weights with which the network reads the neighbours of an atom, the mean over its "
    "layers.",
    "contribution": "What the atoms of a site add to the difference between this crystal and the mean "
    "crystal: blue lowers the value, red raises it, for one atom. The mean crystal has the mean features of "
    "those that the model learned from.",
    "found again": "How many other candidates are this crystal, or relaxed to it.",
    "Wyckoff": "Places in a cell that the symmetry takes into each other: how many there are in "
    "the conventional cell, and their letter.",
    "CN": "Coordination number: bonded neighbours, by pymatgen's CrystalNN.",
    "oxidation state": "By bond valences, where they balance.",
    "phonons": "The vibrations of a crystal. An imaginary frequency, drawn below zero, means that a small "
    "displacement lowers the energy: the crystal is no minimum.",
    "lowest frequency": "Of all vibrations, THz; negative where it is imaginary. Zero is that of the crystal "
    "moving as a whole.",
    "free energy": "Energy (or enthalpy) and the free energy of harmonic vibrations, above the lowest, "
    "meV/atom, and its place in the order.",
    "potential": "A model that computes energies and forces of crystals, learned from calculations.",
}
"""Each in one sentence or two, as `docs/glossary.md` has them at more length."""


def printed_formula(formula: str) -> str:
    """SrTiO3 as SrTiO₃."""
    return formula.translate(BELOW)


def printed_formulas(text: str) -> str:
    """The same of the formulas in a text: 0.5 P2S5 as 0.5 P₂S₅. Symbols of space groups and names stay."""
    return FORMULA.sub(
        lambda found: found[1] + printed_formula(found[2]) if _is_formula(found[2]) else found[0], text
    )


def _is_formula(word: str) -> bool:
    symbols = re.findall(r"[A-Z][a-z]?", word)
    return word in DIATOMIC or (len(symbols) > 1 and set(symbols) <= set(chemical_symbols))


def type_name(prototype: str) -> str:
    """The common name of a structure type, such as "Ilmenite (FeTiO₃, E22)", its label where it has none."""
    label, _, name = prototype.partition(" (")
    return printed_formulas(name.removesuffix(")")) or label


def printed_space_group(symbol: str) -> str:
    """A Hermann-Mauguin symbol as printed: P6_3/mmc with a subscript, R-3c with a bar over the 3."""
    barred = re.sub(r"-(\d)", rf"\1{OVERLINE}", symbol or "unknown")
    return re.sub(r"_(\d)", lambda found: found[1].translate(BELOW), barred)


def crystal_words(result: Result) -> str:
    """Such as "cubic Pm3̅m (no. 221)"."""
    if not result.spacegroup_number:
        return "a crystal whose symmetry could not be determined"
    symbol = printed_space_group(result.spacegroup)
    return f"{crystal_system(result.spacegroup_number)} {symbol} (no. {result.spacegroup_number})"


def answer(prediction: Prediction) -> tuple[str, str]:
    """What was found, in two sentences; of a prediction that has results."""
    if prediction.order == "pattern" and prediction.pattern is not None:
        return _answer_of_pattern(prediction, prediction.pattern)
    first, *others = prediction.results
    formula, pressure = printed_formula(prediction.target.formula), prediction.target.pressure
    value, at = ("enthalpy", f" at {pressure:g} GPa") if pressure else ("energy", "")
    number = prediction.funnel.get("ranked", len(prediction.results))
    if prediction.order == "probability":
        sentence = (
            f"{formula} is most probably {_named(first)}: {_p(first)} to be its lowest-energy crystal known."
        )
        lowest = next((r for r in others if r.rank_energy == 1), None)
        if lowest is not None:
            below = first.above_lowest - lowest.above_lowest
            where = f"at rank {lowest.rank} and {below:.1f} meV/atom below it, {_p(lowest)}"
            return sentence, f"The lowest in {value} is {_named(lowest)}, {where}."
    elif number > 1:
        start = f"Of {number} distinct crystals of {formula}{at}"
        sentence = f"{start} the one lowest in {value} is {_named(first)}."
    else:
        sentence = f"The only crystal of {formula} that was found{at} is {_named(first)}."
    return sentence, _next(prediction, first, others)


def _answer_of_pattern(prediction: Prediction, pattern: Identified) -> tuple[str, str]:
    """The same where a powder pattern orders."""
    first, *others = prediction.results
    formula, name = printed_formula(prediction.target.formula), pattern.measured.pattern.name
    if pattern.none > (first.probability_pattern or 0.0):
        none = f"{name} is most probably of none of these crystals of {formula}"
        return f"{none}: p = {100 * pattern.none:.0f} %.", f"First of them is {_named(first)}, {_fit(first)}."
    sentence = f"{name} is most probably of {formula} as {_named(first)}, by pattern and energy"
    return f"{sentence}: {_fit(first)}.", _next(prediction, first, others)


def _fit(result: Result) -> str:
    p = f"p = {100 * (result.probability_pattern or 0.0):.0f} %"
    return p if result.r_wp is None else f"{p}, Rwp {100 * result.r_wp:.0f} %"


def _next(prediction: Prediction, first: Result, others: Sequence[Result]) -> str:
    if not others:
        return "There is no other to compare it with."
    above = others[0].above_lowest - first.above_lowest
    p = {"probability": f", {_p(others[0])}", "pattern": f", {_fit(others[0])}"}.get(prediction.order, "")
    where = "below" if above < 0 else "above"
    return f"Next is {_named(others[0])}, {abs(above):.1f} meV/atom {where} it{p}."


def _named(result: Result) -> str:
    """A crystal with the name of its type, and what it is known as, where there are any."""
    kind = printed_formulas(result.prototype.partition(" (")[2].removesuffix(")").partition(" (")[0])
    entry = result.known_as[0].id if result.known_as else ""
    parts = [
        crystal_words(result),
        *([f"{kind} type"] if kind else []),
        *([f"known as {entry}"] if entry else []),
    ]
    return ", ".join(parts)


def _p(result: Result) -> str:
    return "p = ?" if result.probability is None else f"p = {100 * result.probability:.0f} %"


def decomposition(prediction: Prediction) -> str:
    """What the convex hull stands for; empty where there is none."""
    phases = list(prediction.decomposition)
    if not phases:
        return ""
    if phases == [prediction.target.formula]:
        return f"the lowest crystal of {printed_formula(phases[0])} in the library"
    return " + ".join(printed_formula(phase) for phase in phases)


def neighbours(shells: Sequence[Shell]) -> str:
    """Such as "6 O 1.95" or "12 O 2.60–2.99": number, element and distances, Å, one entry an element."""
    parts = []
    for element in dict.fromkeys(shell.element for shell in shells):
        own = [shell for shell in shells if shell.element == element]
        near, far = min(s.shortest for s in own), max(s.longest for s in own)
        parts.append(f"{sum(s.count for s in own)} {element} {distances(near, far)}")
    return ", ".join(parts)


def distances(near: float, far: float) -> str:
    """Such as "1.95" or "2.60–2.99"."""
    low, high = f"{near:.2f}", f"{far:.2f}"
    return low if low == high else f"{low}–{high}"


def wyckoff_summary(wyckoff: str) -> str:
    """ "Si:a O:i O:i O:i" as "Si in a, 3 O in i"."""
    counted: dict[str, int] = {}
    for one in wyckoff.split():
        counted[one] = counted.get(one, 0) + 1
    parts = []
    for one, count in counted.items():
        element, _, letter = one.partition(":")
        parts.append(f"{f'{count} ' if count > 1 else ''}{element}{f' in {letter}' if letter else ''}")
    return ", ".join(parts)
