"""The graph that potentials of pairs share: every bond once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from csp.crystallography.neighbours import neighbour_list
from csp.crystals import Crystals

__all__ = ["Bonds", "undirected_bonds"]


@dataclass(frozen=True, slots=True)
class Bonds:
    """N undirected bonds of a batch of crystals.

    Attributes:
        ends: int64 [2, N], the two atoms of each.
        vector: float [N, 3], from the first end to the second, Å.
    """

    ends: Tensor
    vector: Tensor


def undirected_bonds(crystals: Crystals, cutoff: float) -> Bonds:
    """Pairs of atoms and images closer than `cutoff` (Å), each in one of its two directions."""
    pairs = neighbour_list(crystals, cutoff)
    x, y, z = pairs.shift.unbind(1)
    ahead = (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))  # decides for an atom and its own image
    half = ((pairs.i < pairs.j) | ((pairs.i == pairs.j) & ahead)).nonzero().flatten()
    return Bonds(torch.stack([pairs.i[half], pairs.j[half]]), pairs.vector[half])
