"""An energy model that answers twice: told of what is known of the crystals, and not told."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from csp.protocols import EnergyModel, Evaluation

__all__ = ["Seconds", "Turns"]


@dataclass(frozen=True, slots=True)
class Seconds:
    """That a core worked in evaluations.

    Attributes:
        told: Where the model was told of the surroundings.
        untold: Where it was not.
        both: In all; less than the sum of the two where one evaluation counts for both.
    """

    told: float = 0.0
    untold: float = 0.0
    both: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.told + other.told, self.untold + other.untold, self.both + other.both)

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.told - other.told, self.untold - other.untold, self.both - other.both)


class Turns:
    """Evaluates the same crystals with their surroundings and without, in turns, so that both meet the same
    load of the machine. What is given back is what the model gave when told.

    Attributes:
        seconds: What was spent so far. Where nothing is known of the crystals, one evaluation counts for
            both.
        energy_difference: The largest so far between told and untold, eV/atom.
        force_difference: The same of a component of a force, eV/Å.
    """

    def __init__(self, model: EnergyModel) -> None:
        self.name, self.label, self.elements = model.name, model.label, model.elements
        self.device = model.device
        self.seconds = Seconds()
        self.energy_difference = self.force_difference = 0.0
        self._model, self._told_first = model, False

    def evaluate(
        self, crystals: Crystals, *, forces: bool = False, surroundings: Surroundings | None = None
    ) -> Evaluation:
        """See `EnergyModel`."""
        if surroundings is None:
            found, seconds = self._timed(crystals, forces, None)
            self.seconds += Seconds(seconds, seconds, seconds)
            return found
        self._told_first = not self._told_first
        answers, took = dict[bool, Evaluation](), dict[bool, float]()
        for told in (self._told_first, not self._told_first):
            answers[told], took[told] = self._timed(crystals, forces, surroundings if told else None)
        self.seconds += Seconds(took[True], took[False], took[True] + took[False])
        self._compare(answers[True], answers[False], crystals)
        return answers[True]

    def _timed(
        self, crystals: Crystals, forces: bool, surroundings: Surroundings | None
    ) -> tuple[Evaluation, float]:
        began = time.process_time()
        found = self._model.evaluate(crystals, forces=forces, surroundings=surroundings)
        return found, time.process_time() - began

    def _compare(self, told: Evaluation, untold: Evaluation, crystals: Crystals) -> None:
        per_atom = (told.energy - untold.energy).abs() / crystals.n_atoms
        self.energy_difference = max(self.energy_difference, _largest(per_atom))
        if told.forces is not None and untold.forces is not None:
            off = (told.forces - untold.forces).abs()
            self.force_difference = max(self.force_difference, _largest(off))


def _largest(values: torch.Tensor) -> float:
    """Of those that are finite; 0 if none is."""
    finite = values[torch.isfinite(values)]
    return float(finite.max()) if len(finite) else 0.0
