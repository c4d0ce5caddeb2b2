"""Empty layers of a crystal: between the layers of a layered one, or the vacuum of a slab."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from csp.crystals import Crystals

__all__ = ["FACES", "widest_gap"]

Plane = tuple[int, int, int]

FACES: tuple[Plane, ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
"""Of the cell, by their Miller indices."""

# of each plane and its opposite one, without multiples
SMALL: tuple[Plane, ...] = tuple(
    (h, k, l)
    for h, k, l in itertools.product(range(-2, 3), repeat=3)
    if (h, k, l) > (0, 0, 0) and math.gcd(h, k, l) == 1
)


def widest_gap(crystal: Crystals, planes: Sequence[Plane] = SMALL) -> float:
    """The widest slab without the centre of an atom, Å, between lattice planes: the distance of the atoms'
    planes on both sides of the gap of a layered crystal.

    Args:
        crystal: A batch of one.
        planes: Miller indices of those that are looked at; by default all of small indices.
    """
    ((cell, frac, _),) = crystal.arrays()
    indices = np.array(planes).T
    heights = np.sort((frac @ indices) % 1.0, axis=0)
    steps = np.diff(heights, axis=0, append=heights[:1] + 1.0)
    return float((steps.max(axis=0) / np.linalg.norm(np.linalg.inv(cell) @ indices, axis=0)).max())
