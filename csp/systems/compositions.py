"""Which compositions of a system are worth a search, the likeliest first.

Charge-balanced formulas come first: each element in one of its common oxidation states (as pymatgen lists
them), the sum zero, and no element positive that is more electronegative than a negative one (the test by
Pauling's electronegativities of D. W. Davies et al., Chem 1, 617 (2016)). Then those that the rarer positive
states of the ICSD balance, such as NbCl4; then the ratios in which known compounds crystallise, the commonest
first, which is what intermetallics and mixed valences have; then the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice, product
from typing import Literal

import numpy as np

from csp.formula import electronegativity_key, read_formula
from csp.library.library import Library
from csp.systems.ratios import Ratios
from csp.systems.system import ChemicalSystem
from csp.target import Target

__all__ = ["Composition", "Kind", "compositions", "is_balanced"]

COMMON = 1 / 2000  # of the entries of a library: a ratio that so many have is known
MOST_WAYS = 100_000  # of giving the elements oxidation states

Kind = Literal["balanced", "possible", "ratio", "other"]


@dataclass(frozen=True, slots=True)
class Composition:
    """A formula that may be searched.

    Attributes:
        formula: Reduced, as `Target.formula` writes it.
        kind: "balanced" in charges by common oxidation states, "possible" by rarer ones, of a known "ratio",
            or "other".
        n_atoms: In a formula unit.
        of_ratio: Crystals of its ratio in the library, see `Ratios`.
    """

    formula: str
    kind: Kind
    n_atoms: int
    of_ratio: int

    @property
    def likeliest_first(self) -> tuple[int, float, int, str]:
        """Sorts compositions: by kind, then those whose ratio is common, then small ones."""
        kinds: tuple[Kind, ...] = ("balanced", "possible", "ratio", "other")
        return kinds.index(self.kind), -float(np.log2(1 + self.of_ratio) // 1), self.n_atoms, self.formula


def compositions(system: ChemicalSystem, library: Library, max_atoms: int) -> list[Composition]:
    """Those of a system, the likeliest first.

    Args:
        system: Whose compounds are asked for.
        library: Tells which ratios are known.
        max_atoms: In a formula unit.
    """
    ratios = Ratios.of(Library.open() if library.extract_of else library)  # an extract has one ratio
    found = []
    for formula in system.within(max_atoms):
        target = Target.parse(formula, max_atoms=10**6)
        of_ratio = ratios.count(target)
        kind: Kind = "other"
        if is_balanced(formula):
            kind = "balanced"
        elif is_balanced(formula, rarer=True):
            kind = "possible"
        elif of_ratio >= max(1.0, COMMON * ratios.total(target)):
            kind = "ratio"
        found.append(Composition(formula, kind, target.n_atoms, of_ratio))
    return sorted(found, key=lambda one: one.likeliest_first)


def is_balanced(formula: str, *, rarer: bool = False) -> bool:
    """Are there common oxidation states, one for each element, that add up to zero and pass the test of
    electronegativities?

    Args:
        rarer: Positive ones may be any that the ICSD has.
    """
    counts = read_formula(formula).counts
    elements = sorted(counts, key=electronegativity_key)
    ways = product(*(_states(element, rarer) for element in elements))
    return any(
        sum(counts[e] * q for e, q in zip(elements, way, strict=True)) == 0 and _in_pauling_order(way)
        for way in islice(ways, MOST_WAYS)
    )


def _in_pauling_order(states: Sequence[int]) -> bool:
    """Of states by rising electronegativity: positive ones first, then negative ones."""
    signs = [state > 0 for state in states]
    return signs == sorted(signs, reverse=True)


@cache
def _states(element: str, rarer: bool) -> tuple[int, ...]:
    from pymatgen.core import Element

    known = Element(element)
    states = {int(state) for state in known.common_oxidation_states if state}
    if rarer:
        states |= {int(state) for state in known.icsd_oxidation_states if state > 0}
    return tuple(sorted(states))
