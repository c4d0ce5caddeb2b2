"""The graph that potentials of pairs share: every bond once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals

__all__ = ["Bonds", "expected_pairs", "undirected_bonds"]


@dataclass(frozen=True, slots=True)
class Bonds:
    """N undirected bonds of a batch of crystals.

    Attributes:
        ends: int64 [2, N], the two atoms of each.
        vector: float [N, 3], from the first end to the second, Å.
    """

    ends: Tensor
    vector: Tensor


def expected_pairs(crystals: Crystals, n_sites: Tensor, cutoff: float) -> Tensor:
    """float [B]: about how many directed pairs begin at so many sites [B] of each crystal."""
    return n_sites * crystals.n_atoms * (4.0 / 3.0 * math.pi * cutoff**3) / crystals.volumes


def undirected_bonds(crystals: Crystals, surroundings: Surroundings, cutoff: float) -> Bonds:
    """Pairs of atoms and images closer than `cutoff` (Å), each in one of its two directions.

    Every atom has to be a site of the surroundings.
    """
    pairs = surroundings.neighbours(crystals, cutoff)
    x, y, z = pairs.shift.unbind(1)
    ahead = (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))  # decides for an atom and its own image
    half = ((pairs.i < pairs.j) | ((pairs.i == pairs.j) & ahead)).nonzero().flatten()
    return Bonds(torch.stack([pairs.i[half], pairs.j[half]]), pairs.vector[half])
