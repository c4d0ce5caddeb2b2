"""Holes of a potential: crystals that it takes for far lower than they can be.

Potentials that learned from crystals near equilibrium have such places among dense ones without symmetry: at
200 GPa Nequix has a P1 crystal of H3S 2 eV/atom below Im-3m, with distances like those of real crystals.
Another model does not have its holes in the same places. How far two models are apart differs from
composition to composition, and with the pressure, but is alike for what one search relaxes: of 957 crystals
of 88 searches at up to 271 GPa by Nequix and `xs` one lies more than 0.4 eV/atom below the median of its
search, a crystal of Cs that is 1 eV/atom above the lowest; the hole of H3S is 2.9 below. At no pressure, in
some fifty searches with a library, none is more than 0.16 below.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from csp.crystals import Crystals
from csp.protocols import EnergyModel
from csp.relaxation.relax import RelaxationResult, Status

__all__ = ["DEEP", "Holes", "in_holes"]

DEEP = 0.6  # eV/atom
SPREAD = 6.0  # median deviations; if the models agree badly everywhere, the disagreement means nothing
FEWEST = 3  # crystals of which a median tells what is usual
AT_ONCE = 64


def in_holes(disagreement: Tensor, usual: Tensor) -> Tensor:
    """bool [N]: is a crystal much lower, by one model, than another says?

    Args:
        disagreement: float [N], eV/atom, energy by the model minus that by the other.
        usual: float [M], that of crystals most of which are in no hole.
    """
    if len(usual) < FEWEST:
        return torch.zeros(len(disagreement), dtype=torch.bool)
    median = usual.median()
    spread = (usual - median).abs().median()
    return disagreement < median - torch.clamp(SPREAD * spread, min=DEEP)


@dataclass(frozen=True)
class Holes:
    """Finds what fell into a hole of the model that relaxed it.

    Attributes:
        other: The model that is asked, too.
    """

    other: EnergyModel
    _by_other: dict[str, float] = field(default_factory=dict, repr=False)

    def marked(
        self, relaxed: RelaxationResult, usual: RelaxationResult, real: Collection[int] = ()
    ) -> RelaxationResult:
        """The same, but what is in a hole has no energy and says why.

        Args:
            relaxed: By a model with holes.
            usual: Also by that model; most of these are in none.
            real: The places of those that are in none, whatever the other model says.
        """
        good = relaxed.with_energy()
        found = in_holes(self._disagreement(relaxed), self._disagreement(usual))
        holes = [good[k] for k in found.nonzero().flatten().tolist() if good[k] not in real]
        if not holes:
            return relaxed
        energy, status = relaxed.energy.clone(), list(relaxed.status)
        energy[holes] = torch.nan
        for k in holes:
            status[k] = Status.HOLE
        return replace(relaxed, energy=energy, status=status)

    def _disagreement(self, relaxed: RelaxationResult) -> Tensor:
        """float64 [G], eV/atom, of those with an energy."""
        good = relaxed.with_energy()
        crystals = relaxed.crystals[good]
        return relaxed.energy[good] / crystals.n_atoms - self._per_atom(crystals)

    def _per_atom(self, crystals: Crystals) -> Tensor:
        """float64 [B], eV/atom by the other model, asked once for each crystal."""
        ids, n_atoms = crystals.ids(), crystals.n_atoms.tolist()
        new = [k for k, i in enumerate(ids) if i not in self._by_other]
        for start in range(0, len(new), AT_ONCE):
            some = new[start : start + AT_ONCE]
            energy = self.other.evaluate(crystals[some].to(self.other.device)).energy.tolist()
            self._by_other.update((ids[k], e / n_atoms[k]) for k, e in zip(some, energy, strict=True))
        return torch.tensor([self._by_other[i] for i in ids], dtype=torch.float64)
