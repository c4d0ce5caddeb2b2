"""What predictions of one formula at several pressures add up to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from csp.errors import InputError
from csp.protocols import Label
from csp.ranking.enthalpies import Enthalpies, Transition
from csp.relaxation.relax import RelaxationResult
from csp.search.prediction import Prediction

if TYPE_CHECKING:
    from pymatgen.core import Structure

__all__ = ["Phase", "UnderPressure"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Phase:
    """One of the crystals.

    Attributes:
        name: Its space group, with what it is known as.
        found_at: GPa, of the predictions that it is among the first of.
        known_as: Entries of the library that it is, of all predictions.
    """

    name: str
    spacegroup: str
    spacegroup_number: int
    found_at: tuple[float, ...]
    known_as: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class UnderPressure:
    """All crystals at all pressures.

    Attributes:
        formula: As the engine writes it.
        predictions: At each pressure.
        label: Of the energies.
        phases: N crystals.
        enthalpies: Theirs.
        relaxed: At each pressure the N crystals.
        disagreement: float64 [P], eV/atom: root mean square of how far the first model's differences between
            low crystals are from the last's; NaN where there is one model or one low crystal.
        sigma: float64 [P], eV/atom: mean of the first model's own uncertainty; NaN where it has none.
        models: Names, as in a prediction.
        warnings: Sentences for people.
    """

    formula: str
    predictions: list[Prediction]
    label: Label
    phases: list[Phase]
    enthalpies: Enthalpies
    relaxed: list[RelaxationResult]
    disagreement: Floats
    sigma: Floats
    models: tuple[str, ...]
    warnings: list[str]

    @property
    def pressures(self) -> list[float]:
        """GPa, ascending."""
        return [float(gpa) for gpa in self.enthalpies.pressures]

    def structure(self, phase: int, pressure: float) -> Structure:
        """A phase as relaxed at one of the pressures, as pymatgen structure.

        Args:
            phase: Its place in `phases`.
            pressure: GPa.

        Raises:
            InputError: It was not relaxed at this pressure.
        """
        if pressure not in self.pressures:
            there = ", ".join(f"{gpa:g}" for gpa in self.pressures)
            raise InputError(f"must be one of {there} GPa (got {pressure:g}).", setting="pressure")
        return self.relaxed[self.pressures.index(pressure)].crystals[phase].structures()[0]

    def words(self, transition: Transition) -> str:
        """Such as "B1 gives way to B2 at 12.3 GPa, losing 4.1 % of its volume"."""
        below, above = self.phases[transition.below].name, self.phases[transition.above].name
        lost = 100 * transition.volume_change
        change = f"losing {lost:.1f} %" if lost >= 0 else f"gaining {-lost:.1f} %"
        return f"{below} gives way to {above} at {transition.pressure:.1f} GPa, {change} of its volume"

    def answer(self) -> list[str]:
        """What is lowest where, in sentences."""
        if transitions := self.enthalpies.transitions():
            return [f"{self.words(one)}." for one in transitions]
        places = np.unique(self.enthalpies.lowest)
        if len(places) > 1 or places[0] < 0:
            return ["Too few crystals could be relaxed at all pressures to tell what gives way to what."]
        first, last = self.pressures[0], self.pressures[-1]
        return [f"{self.phases[places[0]].name} is the lowest in enthalpy from {first:g} to {last:g} GPa."]

    def __repr__(self) -> str:
        return "\n".join([f"{self.formula} under pressure · {self.label}", *self.answer(), *self.warnings])
