"""Short relaxations that keep the symmetry, of as many crystals as there are."""

from __future__ import annotations

import torch
from torch import Tensor

from csp.crystallography.symmetry import operations
from csp.crystals import Crystals
from csp.matching.duplicates import RANKED
from csp.protocols import EnergyModel
from csp.relaxation.relax import relax

__all__ = ["downhill"]

AT_ONCE = 64


def downhill(starts: Crystals, model: EnergyModel, steps: int) -> tuple[Crystals, Tensor, list[int]]:
    """The ends of at most so many steps, their energies (float64 [B'], eV per cell) and which of the starts
    they are of; those that failed are left out. All on the CPU."""
    parts = [
        relax(part.to(model.device), model, max_steps=steps, symmetry=operations(part).to(model.device))
        for part in (starts[k : k + AT_ONCE] for k in range(0, len(starts), AT_ONCE))
    ]
    good = [k for k, status in enumerate(s for part in parts for s in part.status) if status in RANKED]
    crystals = Crystals.cat([Crystals.empty(), *(part.crystals.to("cpu") for part in parts)])
    energy = torch.cat([torch.zeros(0, dtype=torch.float64), *(part.energy.cpu() for part in parts)])
    return crystals[good], energy[good], good
