"""Strain with rattling: out of a basin at random, without symmetry."""

from __future__ import annotations

import numpy as np
import torch

from csp.crystals import Crystals

__all__ = ["strained_and_rattled"]

STRAIN = 0.12  # standard deviation of the components
RATTLE = (0.1, 0.5)  # Å, standard deviation of a coordinate


def strained_and_rattled(crystal: Crystals, rng: np.random.Generator) -> Crystals:
    """A random strain that keeps the volume, and normally distributed displacements."""
    strain = rng.normal(0.0, STRAIN, (3, 3))
    strain = 0.5 * (strain + strain.T)
    strain -= np.eye(3) * np.trace(strain) / 3
    displacement = torch.from_numpy(rng.normal(0.0, rng.uniform(*RATTLE), crystal.frac.shape))
    cell = crystal.cell @ torch.linalg.matrix_exp(torch.from_numpy(strain))
    frac = crystal.frac + displacement @ torch.linalg.inv(cell[0])
    return crystal.with_geometry(cell, frac).wrapped()
