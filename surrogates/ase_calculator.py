"""Any energy model as an ASE calculator, for what ASE can do with one: dynamics, phonons, elasticity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from csp.crystals import Crystals
from csp.errors import InputError
from csp.protocols import EnergyModel

__all__ = ["ASECalculator"]


class ASECalculator(Calculator):
    """Energy (eV), forces (eV/Å) and stress (eV/Å³, positive = tension, as ASE has it) of periodic atoms.

    The free energy, which some of ASE's tools ask for, is the energy. For many crystals at once
    `EnergyModel.evaluate` is several times faster.

    Raises:
        InputError: When it is asked for atoms that are not periodic in all directions, or of elements that
            the model does not know.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, model: EnergyModel, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.model = model

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `results`; forces and stress only where one of them is asked for, as they cost more."""
        super().calculate(atoms, list(properties), list(system_changes))
        if not self.atoms.pbc.all():
            raise InputError(f"{self.model.name} is for crystals: set pbc=True on the atoms.")
        crystal = Crystals.from_atoms([self.atoms]).to(self.model.device)
        found = self.model.evaluate(crystal, forces=not {"forces", "stress"}.isdisjoint(properties))
        self.results: dict[str, Any] = {"energy": float(found.energy), "free_energy": float(found.energy)}
        if found.forces is not None and found.stress is not None:
            self.results["forces"] = found.forces.cpu().numpy()
            self.results["stress"] = full_3x3_to_voigt_6_stress(found.stress[0].cpu().numpy())
