"""The convex hull of energy over composition: what a crystal could decompose into.

S. P. Ong et al., Chem. Mater. 20, 1798 (2008), as in pymatgen's PhaseDiagram.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray
from torch import Tensor

from csp.crystals import Crystals
from csp.errors import ContractError
from csp.formula import electronegativity_key
from csp.protocols import Label
from csp.target import Target

__all__ = ["ON_IT", "Hull", "Phase", "convex_hull", "reduced_formula"]

ON_IT = 0.0005  # eV/atom, the half of what is printed


@dataclass(frozen=True, slots=True)
class Phase:
    """The lowest crystal of one composition.

    Attributes:
        formula: As `Target.formula` writes it.
        id: Name of the library's entry; "" if it has none.
        energy_ev_per_atom: Energy, or enthalpy under pressure.
        formation_ev_per_atom: The same above that of the elements by themselves.
        above_hull_ev_per_atom: At least 0.
        share: Of the atoms, in what the target could decompose into; 0: it is no part of it.
        amount: Formula units of it for one of the target.
    """

    formula: str
    id: str
    energy_ev_per_atom: float
    formation_ev_per_atom: float
    above_hull_ev_per_atom: float
    share: float = 0.0
    amount: float = 0.0

    def __str__(self) -> str:
        amount = "" if abs(self.amount - 1) < 5e-4 else f"{self.amount:.3f}".rstrip("0").rstrip(".") + " "
        return f"{amount}{self.formula}{f' ({self.id})' if self.id else ''}"


@dataclass(frozen=True, slots=True)
class Hull:
    """The convex hull of a chemical system, and what it is at one composition.

    Attributes:
        energy: eV/atom, the least that phases of the same elements have at the composition.
        elements: Energy of each element by itself, eV/atom, by its symbol.
        phases: The lowest crystals of all compositions.
    """

    energy: float
    elements: dict[str, float]
    phases: tuple[Phase, ...]

    @property
    def products(self) -> tuple[Phase, ...]:
        """What has the energy of the hull at the composition."""
        return tuple(phase for phase in self.phases if phase.share > 0)

    @property
    def decomposition(self) -> dict[str, float]:
        """The formulas of the products → shares of the atoms, adding up to 1."""
        return {phase.formula: phase.share for phase in self.products}

    def words(self, above: float) -> str:
        """Where a crystal of the composition stands that is so far, eV/atom, above the hull."""
        much, products = f"{abs(1000 * above):.0f} meV/atom", " + ".join(map(str, self.products))
        if abs(above) < ON_IT:
            return f"on the hull of what the library holds: {products}"
        side = "above" if above > 0 else "below the hull of what the library holds:"
        return f"{much} {side} {products}"

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"energy_ev_per_atom": self.energy, "phases": [asdict(phase) for phase in self.phases]}


def convex_hull(
    target: Target,
    phases: Crystals,
    per_atom: Tensor,
    labels: Sequence[Label],
    names: Sequence[str] | None = None,
) -> Hull:
    """The hull of the target's elements.

    Args:
        target: The composition.
        phases: N crystals of the target's elements, each element by itself among them.
        per_atom: float64 [N], their energies or enthalpies, eV/atom, all finite.
        labels: Labels of the phases and of what is to be compared with the hull.
        names: [N], what the phases are called.

    Raises:
        LabelError: If the labels differ.
        ContractError: Where an element is missing.
    """
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition

    Label.same(labels)
    lowest: dict[str, tuple[float, str]] = {}
    for (_, _, numbers), energy, name in zip(
        phases.arrays(), per_atom.tolist(), names or [""] * len(phases), strict=True
    ):
        formula = reduced_formula(*np.unique(numbers, return_counts=True))
        lowest[formula] = min((energy, name), lowest.get(formula, (energy, name)))
    if not {chemical_symbols[z] for z in target.numbers} <= lowest.keys():
        raise ContractError(f"The hull of {target.formula} needs a phase of each element by itself.")
    entries = {
        formula: PDEntry(composition, energy * composition.num_atoms)
        for formula, (energy, _) in lowest.items()
        for composition in [Composition(formula)]
    }
    diagram = PhaseDiagram(list(entries.values()))
    there = Composition(target.formula)
    shares = {id(entry): float(share) for entry, share in diagram.get_decomposition(there).items()}
    return Hull(
        float(diagram.get_hull_energy_per_atom(there)),
        {str(element): float(entry.energy_per_atom) for element, entry in diagram.el_refs.items()},
        tuple(
            Phase(
                formula,
                lowest[formula][1],
                float(entry.energy_per_atom),
                float(diagram.get_form_energy_per_atom(entry)),
                max(0.0, float(diagram.get_e_above_hull(entry))),
                share := shares.get(id(entry), 0.0),
                share * target.n_atoms / entry.composition.num_atoms,
            )
            for formula, entry in entries.items()
        ),
    )


def reduced_formula(numbers: NDArray[np.int64], counts: NDArray[np.int64]) -> str:
    """As `Target.formula` writes it: elements by electronegativity, amounts coprime."""
    divisor = np.gcd.reduce(counts)
    amounts = {
        chemical_symbols[z]: n // divisor for z, n in zip(numbers.tolist(), counts.tolist(), strict=True)
    }
    ordered = sorted(amounts, key=electronegativity_key)
    return "".join(f"{s}{amounts[s] if amounts[s] > 1 else ''}" for s in ordered)
