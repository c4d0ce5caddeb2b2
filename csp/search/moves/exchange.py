"""Exchange of elements and of sites: the same places, other atoms on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from csp.crystallography.operations import operations
from csp.crystallography.orbits import Orbits
from csp.crystals import Crystals

__all__ = ["other_subset", "with_elements_exchanged"]

TRIALS = 20


def with_elements_exchanged(crystal: Crystals, rng: np.random.Generator) -> Crystals | None:
    """Share out the sites of two elements anew between them; equivalent sites stay equivalent.

    None where the crystal has one element, or their sites cannot be shared out in another way.
    """
    orbits = Orbits.of(crystal, operations(crystal))
    numbers = crystal.numbers.numpy()
    of_orbit = numbers[orbits.sites.numpy()]
    elements = np.unique(numbers)
    if len(elements) < 2:
        return None
    first, second = rng.choice(elements, 2, replace=False)
    theirs = np.flatnonzero((of_orbit == first) | (of_orbit == second))
    size = orbits.multiplicity.numpy()[theirs]
    chosen = other_subset(size, of_orbit[theirs] == first, rng)
    if chosen is None:
        return None
    of_orbit = of_orbit.copy()
    of_orbit[theirs] = np.where(chosen, first, second)
    return replace(crystal, numbers=torch.from_numpy(of_orbit[orbits.site_of.numpy()]))


def other_subset(
    size: NDArray[np.int64], present: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.bool_] | None:
    """bool [K]: other members with as large a sum as those `present` [K]; None where none was found."""
    total = int(size[present].sum())
    for _ in range(TRIALS):
        left, chosen = total, np.zeros(len(size), dtype=bool)
        for k in rng.permutation(len(size)):
            if size[k] <= left:
                chosen[k] = True
                left -= int(size[k])
        if left == 0 and (chosen != present).any():
            return chosen
    return None
