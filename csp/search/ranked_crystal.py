"""One crystal of a ranking for work in Python: its structure and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from csp.crystals import Crystals
from csp.relaxation.relax import Status
from csp.search.result import Result

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

__all__ = ["RankedCrystal"]


@dataclass(frozen=True, slots=True, repr=False)
class RankedCrystal:
    """A member of a `Prediction`.

    Attributes:
        result: All that the files hold of it (`csp.search.result.Result`).
        crystal: The relaxed crystal, a batch of one.
        card: Draws it as HTML for a notebook; None: it is shown as a line of text.
    """

    result: Result
    crystal: Crystals = field(compare=False)
    card: Callable[[RankedCrystal], str] | None = field(default=None, compare=False)

    @property
    def structure(self) -> Structure:
        """As pymatgen structure, in the cell that was relaxed."""
        return self.crystal.structures()[0]

    @property
    def atoms(self) -> Atoms:
        """As ASE atoms in the cell that was relaxed, with its energy, rank and id."""
        from ase.calculators.singlepoint import SinglePointCalculator

        (atoms,) = self.crystal.atoms()
        atoms.info = {"rank": self.rank, "id": self.result.id}
        atoms.calc = SinglePointCalculator(atoms, energy=self.energy)
        return atoms

    @property
    def rank(self) -> int:
        """From 1."""
        return self.result.rank

    @property
    def energy(self) -> float:
        """eV per cell."""
        return self.result.energy_ev_per_atom * self.result.n_atoms

    @property
    def energy_per_atom(self) -> float:
        """eV/atom."""
        return self.result.energy_ev_per_atom

    @property
    def enthalpy_per_atom(self) -> float:
        """E + PV at the target's pressure, eV/atom."""
        return self.result.enthalpy_ev_per_atom

    @property
    def sigma(self) -> float | None:
        """One standard deviation of the energy, eV/atom; None where the model has none."""
        return self.result.sigma_ev_per_atom

    @property
    def above_lowest(self) -> float:
        """Energy, or enthalpy under pressure, above the lowest of the ranking, eV/atom."""
        return self.result.above_lowest_ev_per_atom

    @property
    def above_hull(self) -> float | None:
        """Above the convex hull of the library's crystals, eV/atom; None where it is not known."""
        return self.result.e_above_hull_ev_per_atom

    @property
    def stability(self) -> str:
        """The same in words, with what it could decompose into; "" where it is not known."""
        return self.result.stability

    @property
    def probability(self) -> float | None:
        """Of being the lowest-energy crystal known, between 0 and 1; None where it is not calibrated."""
        return self.result.probability

    @property
    def space_group(self) -> str:
        """Hermann-Mauguin symbol, such as "Pm-3m"; "" where the analysis fails."""
        return self.result.spacegroup

    @property
    def space_group_number(self) -> int:
        """1 to 230; 0 where the analysis fails."""
        return self.result.spacegroup_number

    @property
    def volume_per_atom(self) -> float:
        """Å³."""
        return self.result.volume_per_atom

    @property
    def density(self) -> float:
        """g/cm³."""
        return self.result.density

    @property
    def converged(self) -> bool:
        """Did the relaxation reach the largest force that was asked for?"""
        return self.result.status == Status.CONVERGED

    @property
    def proposed_by(self) -> str:
        """The generator that it came from, and the library's entry if it was made from one."""
        return f"{self.result.generator} {self.result.template_id}".strip()

    def __repr__(self) -> str:
        likely = "" if self.probability is None else f", probability {self.probability:.0%}"
        what = f"{self.space_group} {self.space_group_number}, {self.result.n_atoms} atoms"
        return f"<{self.rank}: {what}, {self.energy_per_atom:.4f} eV/atom{likely}>"

    def _repr_html_(self) -> str | None:
        """For notebooks."""
        return None if self.card is None else self.card(self)
