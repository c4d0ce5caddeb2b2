"""Meshes of k-points for plane-wave calculations."""

from __future__ import annotations

import math

import numpy as np
from scipy.sparse.csgraph import connected_components

from csp.crystallography.operations import operations
from csp.crystals import Crystals

__all__ = ["mesh"]


def mesh(crystal: Crystals, spacing: float) -> list[int]:
    """Divisions along the three reciprocal axes of a Γ-centred mesh with points at most `spacing` (Å⁻¹, with
    the 2π) apart.

    Axes that a symmetry operation of the crystal mixes are divided alike: the mesh then has the crystal's
    symmetry, and the code computes the irreducible points alone.
    """
    reciprocal = 2.0 * math.pi * np.linalg.inv(crystal.cell[0].double().numpy()).T
    least = np.ceil(np.linalg.norm(reciprocal, axis=1) / spacing - 1e-6).clip(min=1)
    mixed = (operations(crystal).rotation.numpy() != 0).any(0)
    _, together = connected_components(mixed, directed=False)
    return [int(least[together == kind].max()) for kind in together]
