"""Crystals of springs between nearest neighbours: an energy model with closed-form phonons."""

from __future__ import annotations

import torch

from csp.crystallography.neighbours import neighbour_list
from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from csp.protocols import Evaluation, Label

__all__ = ["Springs"]


class Springs:
    """E = ½ k Σ (d − d₀)² over the pairs of neighbours nearer than 1.2 d₀, float64.

    Args:
        k: eV/Å².
        d0: Å.
    """

    name = "springs"
    label = Label("springs", "none", "1")
    elements = frozenset(range(1, 95))

    def __init__(self, k: float, d0: float) -> None:
        self.k, self.d0, self.device = k, d0, torch.device("cpu")
        self.evaluated: list[int] = []  # atoms of each crystal that was asked for

    def evaluate(
        self, crystals: Crystals, *, forces: bool = False, surroundings: Surroundings | None = None
    ) -> Evaluation:
        self.evaluated += crystals.n_atoms.tolist()
        pairs = neighbour_list(crystals, 1.2 * self.d0)
        batch, longer = crystals.batch, pairs.distance.double() - self.d0
        cells = crystals.cell.new_zeros(len(crystals), dtype=torch.float64)
        energy = cells.index_add(0, batch[pairs.i], 0.25 * self.k * longer**2)  # each pair is there twice
        vector = pairs.vector.double()
        pull = (self.k * longer / pairs.distance.double())[:, None] * vector
        force = vector.new_zeros(crystals.frac.shape).index_add(0, pairs.i, pull)
        virial = 0.5 * vector[:, :, None] * pull[:, None, :]
        stress = vector.new_zeros((len(crystals), 3, 3)).index_add(0, batch[pairs.i], virial)
        stress = stress / crystals.volumes.double()[:, None, None]
        return Evaluation(self.label, energy, force if forces else None, stress if forces else None)
