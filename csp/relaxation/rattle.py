"""Ways down from a saddle: small random displacements, also in doubled cells.

A relaxation that keeps the symmetry can end where the energy falls along a symmetry-breaking mode,
at the zone centre or, as the tilts of cubic SrTiO3, at the zone boundary. A rattled copy of the
cell, and one for each star of zone-boundary points q ∈ {0, ½}³ in a cell doubled to hold it,
relax freely into what lies below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from csp.crystallography.operations import SymmetryOperations
from csp.crystals import Crystals

__all__ = ["Rattled", "doubled", "drop_unimproved", "gain", "rattle"]

REAL_GAIN = 5e-4  # eV/atom; less is within what two relaxations of one crystal differ by


@dataclass(frozen=True, slots=True)
class Rattled:
    """Rattled starts and where they come from.

    Attributes:
        crystals: The rattled starts.
        parent: Index of the parent of each start.
        q: Zone-boundary point of each start's cell, in halves of the reciprocal vectors.
    """

    crystals: Crystals
    parent: list[int]
    q: list[tuple[int, int, int]]


def rattle(
    crystals: Crystals,
    symmetry: SymmetryOperations,
    *,
    seed: int,
    amplitude: float = 0.1,
    largest_doubled: int = 20,
) -> Rattled:
    """Normally distributed displacements of `amplitude` (Å) per coordinate.

    Each crystal gives a start in its own cell, and one for each star of zone-boundary points while
    the doubled cell has at most `largest_doubled` atoms. Deterministic in (seed, position, q).
    """
    starts, parents, points = [], [], []
    for b in range(len(crystals)):
        crystal = crystals[b]
        stars = [(0, 0, 0)]
        if 2 * len(crystal.numbers) <= largest_doubled:
            stars += _stars(symmetry[torch.tensor([b])].rotation.numpy())
        for q in stars:
            start = crystal if q == (0, 0, 0) else doubled(crystal, q)
            rng = np.random.default_rng([seed, b, *q])
            displacement = torch.as_tensor(rng.normal(0.0, amplitude, start.frac.shape))
            frac = start.frac + displacement @ torch.linalg.inv(start.cell[0])
            starts.append(start.with_geometry(start.cell, frac))
            parents.append(b)
            points.append(q)
    return Rattled(Crystals.cat(starts), parents, points)


def _stars(rotations: np.ndarray) -> list[tuple[int, int, int]]:
    """One representative of each star of q ∈ {0, ½}³ ∖ {0} under rotations [N, 3, 3].

    Rotations act on fractional coordinates as x' = W x, so on reciprocal vectors as q' = q W.
    """
    points = [(h, k, m) for h in (0, 1) for k in (0, 1) for m in (0, 1)][1:]
    left, representatives = set(points), []
    for q in points:
        if q in left:
            representatives.append(q)
            left -= {tuple(int(x) for x in image) for image in np.rint(np.asarray(q) @ rotations) % 2}
    return representatives


def doubled(crystal: Crystals, q: tuple[int, int, int]) -> Crystals:
    """The crystal in the primitive cell of the sublattice {n : q · n even}, twice as large."""
    # rows: a basis of the sublattice. The first axis with q = 1 is doubled, others with q = 1 lean on it.
    first = q.index(1)
    basis = torch.eye(3, dtype=torch.float64)
    for axis in range(3):
        if q[axis]:
            basis[axis, first] += 1.0
    translation = torch.zeros(3, dtype=torch.float64)
    translation[first] = 1.0  # a lattice vector outside the sublattice
    both = torch.stack([crystal.frac, crystal.frac + translation], dim=1).reshape(-1, 3)
    return Crystals(
        basis @ crystal.cell,
        both @ torch.linalg.inv(basis),
        crystal.numbers.repeat_interleave(2),
        2 * crystal.offsets,
    ).wrapped()


def gain(per_atom: Tensor, parent: list[int], n_parents: int) -> dict[int, float]:
    """What the best rattled child of each rattled parent gained, eV/atom, at least 0."""
    gains: dict[int, float] = {}
    for child in range(n_parents, len(parent)):
        gain = float(per_atom[parent[child]] - per_atom[child])
        gains[parent[child]] = max(gains.get(parent[child], 0.0), gain if math.isfinite(gain) else 0.0)
    return gains


def drop_unimproved(per_atom: Tensor, parent: list[int], n_parents: int) -> list[int]:
    """All parents, and those rattled children that found something below their parent.

    The others are the parent again, a little less well relaxed, or a distortion it did not want.
    """
    gain = per_atom[parent] - per_atom
    return [k for k in range(len(parent)) if k < n_parents or float(gain[k]) >= REAL_GAIN]
