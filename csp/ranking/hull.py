"""The convex hull of energy over composition: what a crystal could decompose into.

S. P. Ong et al., Chem. Mater. 20, 1798 (2008), as in pymatgen's PhaseDiagram.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from csp.crystals import Crystals
from csp.errors import ContractError
from csp.protocols import Label
from csp.target import Target

__all__ = ["Hull", "convex_hull"]


@dataclass(frozen=True, slots=True)
class Hull:
    """The convex hull at one composition.

    Attributes:
        energy: eV/atom, the least that phases of the same elements have there.
        decomposition: The phases that have it: formula → share of the atoms, more than 0, adding up to 1.
    """

    energy: float
    decomposition: Mapping[str, float]


def convex_hull(target: Target, phases: Crystals, per_atom: Tensor, labels: Sequence[Label]) -> Hull:
    """The hull at the target's composition.

    Args:
        target: The composition.
        phases: N crystals of the target's elements, each element by itself among them.
        per_atom: float64 [N], their energies or enthalpies, eV/atom, all finite.
        labels: Labels of the phases and of what is to be compared with the hull.

    Raises:
        LabelError: If the labels differ.
        ContractError: Where an element is missing.
    """
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition, Element

    Label.same(labels)
    compositions = [
        Composition([(Element.from_Z(z), (numbers == z).sum()) for z in set(numbers.tolist())])
        for _, _, numbers in phases.arrays()
    ]
    if not {frozenset([Element.from_Z(z)]) for z in target.numbers} <= {frozenset(c) for c in compositions}:
        raise ContractError(f"The hull of {target.formula} needs a phase of each element by itself.")
    diagram = PhaseDiagram(
        [
            PDEntry(composition, float(energy) * composition.num_atoms)
            for composition, energy in zip(compositions, per_atom, strict=True)
        ]
    )
    there = Composition(target.formula)
    shares: dict[str, float] = {}
    for entry, share in diagram.get_decomposition(there).items():
        name = Target.parse(entry.composition.reduced_formula).formula  # as the engine writes it
        shares[name] = shares.get(name, 0.0) + float(share)
    return Hull(float(diagram.get_hull_energy_per_atom(there)), shares)
