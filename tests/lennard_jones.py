"""A Lennard-Jones energy model with closed-form forces and stress: an oracle for tests, and fast."""

from __future__ import annotations

import torch
from torch import Tensor

from csp.crystallography.neighbours import COVALENT_RADII, neighbour_list
from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from csp.errors import InputError
from csp.protocols import Evaluation, Label

__all__ = ["LennardJones"]


class LennardJones:
    """12-6 pair potential, smooth to zero at the cutoff, float64.

    Energy per pair  4 ε s(d) [(σ/d)¹² − (σ/d)⁶] with σ = (R_i + R_j) / 2^(1/6), R covalent radii, so that
    the pair's minimum is at the sum of the radii; unlike elements bind more strongly than like ones.
    s(d) = 1 − 10 t³ + 15 t⁴ − 6 t⁵, t = (d − on) / (cutoff − on) within [0, 1]: two continuous derivatives.
    """

    name = "lennard-jones"
    label = Label("LJ", "none", "1")
    elements = frozenset(int(z) for z in (~COVALENT_RADII.isnan()).nonzero().flatten())

    def __init__(
        self,
        *,
        cutoff: float = 6.0,
        unlike: float = 0.4,
        like: float = 0.1,
        device: torch.device | str = "cpu",
    ) -> None:
        self.cutoff, self.onset = cutoff, 0.7 * cutoff
        self.unlike, self.like = unlike, like
        self.device = torch.device(device)

    def evaluate(
        self, crystals: Crystals, *, forces: bool = False, surroundings: Surroundings | None = None
    ) -> Evaluation:
        unknown = set(crystals.numbers.tolist()) - self.elements
        if unknown:
            raise InputError(f"{self.name} does not know the elements {sorted(unknown)}.")
        pairs = neighbour_list(crystals, self.cutoff)
        numbers, batch = crystals.numbers, crystals.batch
        energy, slope = self._pair(pairs.distance.double(), numbers[pairs.i], numbers[pairs.j])
        cells = crystals.cell.new_zeros(len(crystals), dtype=torch.float64)
        total = cells.index_add(0, batch[pairs.i], 0.5 * energy)
        if not forces:
            return Evaluation(self.label, total)
        vector = pairs.vector.double()
        pull = (slope / pairs.distance.double())[:, None] * vector  # on i, towards j where attractive
        force = vector.new_zeros(crystals.frac.shape).index_add(0, pairs.i, pull)
        virial = 0.5 * vector[:, :, None] * pull[:, None, :]
        stress = vector.new_zeros((len(crystals), 3, 3)).index_add(0, batch[pairs.i], virial)
        return Evaluation(self.label, total, force, stress / crystals.volumes.double()[:, None, None])

    def _pair(self, d: Tensor, zi: Tensor, zj: Tensor) -> tuple[Tensor, Tensor]:
        """Energy of each pair and its derivative with respect to the distance."""
        radii = COVALENT_RADII.to(d)
        sigma6 = (radii[zi] + radii[zj]) ** 6 / 2.0
        epsilon = torch.where(zi == zj, self.like, self.unlike).to(d)
        x = sigma6 / d**6
        energy = 4 * epsilon * (x * x - x)
        slope = 4 * epsilon * (-12 * x * x + 6 * x) / d
        t = ((d - self.onset) / (self.cutoff - self.onset)).clamp(0.0, 1.0)
        s = 1 - t**3 * (10 - 15 * t + 6 * t * t)
        ds = -30 * t * t * (1 - t) ** 2 / (self.cutoff - self.onset)
        return energy * s, slope * s + energy * ds
