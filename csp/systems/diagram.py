"""The phase diagram of a system at zero temperature: what is stable, what the rest decomposes into, and at
which chemical potentials a phase is stable.

All of it is pymatgen's PhaseDiagram (S. P. Ong et al., Chem. Mater. 20, 1798 (2008)).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from csp.errors import ContractError
from csp.systems.phases import SystemPhase, lowest

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PhaseDiagram
    from pymatgen.entries.computed_entries import ComputedStructureEntry

__all__ = ["ON_IT", "Diagram", "Reaction"]

ON_IT = 1e-6  # eV/atom; by less a phase is not above the hull
SHOWN = 5e-4  # formula units; less of a product is not told


@dataclass(frozen=True, slots=True)
class Reaction:
    """What a phase decomposes into, or what it is stable against.

    Attributes:
        products: Formula units of each product for one of the phase, by formula.
        energy_ev_per_atom: Of the phase above them; negative where it is stable.
    """

    products: dict[str, float]
    energy_ev_per_atom: float

    def words(self, formula: str) -> str:
        """Such as "Li3PS4 → 1.5 Li2S + 0.5 P2S5"."""
        return f"{formula} → {self.into(formula)}"

    def into(self, formula: str) -> str:
        """The products; of a crystal of its own formula that it is."""
        if list(self.products) == [formula]:
            return f"the lowest {formula}"
        return " + ".join(_amount(n) + f for f, n in self.products.items())


@dataclass(frozen=True, eq=False)
class Diagram:
    """Of phases under one label, each element among them.

    Attributes:
        elements: Symbols.
        phases: All crystals.
    """

    elements: tuple[str, ...]
    phases: Sequence[SystemPhase]
    # eV/atom, of the formulas that were asked for
    _hull: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        labels = {phase.label for phase in self.phases}
        if len(labels) > 1:
            raise ContractError(f"A diagram has energies of one label, not of {', '.join(sorted(labels))}.")
        if lacking := self.lacking(self.elements, self.phases):
            raise ContractError(f"A diagram needs a crystal of each element; there is none of {lacking[0]}.")

    @staticmethod
    def lacking(elements: Sequence[str], phases: Sequence[SystemPhase]) -> list[str]:
        """Elements without a crystal."""
        there = {phase.formula for phase in phases}
        return [element for element in elements if element not in there]

    @cached_property
    def lowest(self) -> dict[str, SystemPhase]:
        """The lowest crystal of each formula."""
        return lowest(self.phases)

    @cached_property
    def pymatgen(self) -> PhaseDiagram:
        """Of the lowest crystals."""
        from pymatgen.analysis.phase_diagram import PhaseDiagram

        return PhaseDiagram(list(self._entries.values()))

    @cached_property
    def _entries(self) -> dict[str, Any]:
        return {formula: _entry(phase) for formula, phase in self.lowest.items()}

    def hull_energy(self, formula: str) -> float:
        """eV/atom of the best mixture at a composition."""
        from pymatgen.core import Composition

        if formula not in self._hull:
            self._hull[formula] = float(self.pymatgen.get_hull_energy_per_atom(Composition(formula)))
        return self._hull[formula]

    def above(self, phase: SystemPhase) -> float:
        """eV/atom above the hull, at least 0."""
        return max(0.0, phase.energy_ev_per_atom - self.hull_energy(phase.formula))

    def formation(self, phase: SystemPhase) -> float:
        """Formation energy from the elements, eV/atom."""
        return float(self.pymatgen.get_form_energy_per_atom(_entry(phase)))

    @cached_property
    def stable(self) -> list[SystemPhase]:
        """The phases on the hull, elements first, then by formation energy."""
        on_it = [phase for phase in self.lowest.values() if self.above(phase) <= ON_IT]
        return sorted(on_it, key=lambda p: (p.formula not in self.elements, self.formation(p), p.formula))

    def near(self, within: float) -> list[SystemPhase]:
        """What is above the hull by at most so much, eV/atom, the nearest first."""
        found = [(self.above(phase), phase) for phase in self.phases]
        on_it = {id(phase) for phase in self.stable}
        kept = [(above, p) for above, p in found if above <= within and id(p) not in on_it]
        return [p for _, p in sorted(kept, key=lambda pair: (round(pair[0], 6), pair[1].formula))]

    def reaction(self, phase: SystemPhase) -> Reaction | None:
        """What a phase decomposes into; for a stable one, what it would without itself (None: it is a stable
        element)."""
        from pymatgen.core import Composition

        composition, stable = Composition(phase.formula), self.above(phase) <= ON_IT
        if stable and phase.formula in self.elements:
            return None
        others = [e for f, e in self._entries.items() if f != phase.formula]
        rest = _diagram(others) if stable else self.pymatgen
        shares = rest.get_decomposition(composition)
        energy = sum(share * entry.energy_per_atom for entry, share in shares.items())
        products = {
            entry.name: float(share) * composition.num_atoms / entry.composition.num_atoms
            for entry, share in shares.items()
        }
        kept = {formula: n for formula, n in sorted(products.items()) if n >= SHOWN}
        return Reaction(kept, phase.energy_ev_per_atom - float(energy))

    def potentials(self, phase: SystemPhase) -> dict[str, tuple[float | None, float]]:
        """At which chemical potentials, eV above those of the elements by themselves, a stable phase is
        stable: least and most of each element. None: without limit.

        A phase is stable at the potentials of the faces of the hull that it is a corner of, and between them.
        """
        pd = self.pymatgen
        place = next(k for k, entry in enumerate(pd.qhull_entries) if entry.name == phase.formula)
        faces = [pd._get_facet_chempots(facet) for facet in pd.facets if place in facet]
        zero = {str(element): entry.energy_per_atom for element, entry in pd.el_refs.items()}
        ranges: dict[str, tuple[float | None, float]] = {}
        for element in self.elements:
            values = [float(mu) - zero[element] for face in faces for e, mu in face.items()
                      if str(e) == element]  # fmt: skip
            absent = element not in _symbols(phase.formula)
            # what a phase does not hold may be as rare as one likes
            ranges[element] = (None if absent else _tidy(min(values)), _tidy(max(values)))
        return ranges

    def entries(self) -> list[ComputedStructureEntry]:
        """All crystals for pymatgen, energies eV per cell."""
        from pymatgen.entries.computed_entries import ComputedStructureEntry

        return [
            ComputedStructureEntry(
                phase.crystal.structures()[0],
                phase.energy_ev_per_atom * phase.n_atoms,
                entry_id=f"{phase.search}#{phase.rank}" if phase.found else phase.entry,
                data={"novelty": phase.novelty, "entry": phase.entry, "label": phase.label},
            )
            for phase in self.phases
        ]


def _entry(phase: SystemPhase) -> Any:
    from pymatgen.analysis.phase_diagram import PDEntry
    from pymatgen.core import Composition

    composition = Composition(phase.formula)
    return PDEntry(composition, phase.energy_ev_per_atom * composition.num_atoms, name=phase.formula)


def _diagram(entries: list[Any]) -> PhaseDiagram:
    from pymatgen.analysis.phase_diagram import PhaseDiagram

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PhaseDiagram(entries)


def _symbols(formula: str) -> set[str]:
    from csp.formula import read_formula

    return set(read_formula(formula).counts)


def _tidy(value: float) -> float:
    return 0.0 if abs(value) < 1e-9 else value


def _amount(n: float) -> str:
    return "" if abs(n - 1) < SHOWN else f"{n:.3f}".rstrip("0").rstrip(".") + " "
