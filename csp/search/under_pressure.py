"""What predictions of one formula at several pressures add up to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from csp.protocols import Label
from csp.ranking.enthalpies import Enthalpies
from csp.relaxation.relax import RelaxationResult

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


@dataclass(frozen=True, slots=True, eq=False)
class UnderPressure:
    """All crystals at all pressures.

    Attributes:
        formula: As the engine writes it.
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
    label: Label
    phases: list[Phase]
    enthalpies: Enthalpies
    relaxed: list[RelaxationResult]
    disagreement: Floats
    sigma: Floats
    models: tuple[str, ...]
    warnings: list[str]
