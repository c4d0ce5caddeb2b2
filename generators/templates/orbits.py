"""The orbits of known crystals, and the ways to give them a target's elements in exactly its amounts."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from csp.crystallography.symmetry import StandardCell, standard_cells
from csp.library.library import Library

__all__ = ["MAX_WAYS", "OrbitIndex", "ways_to_fill"]

SYMPREC = 0.05  # Å, as in the libraries' own space groups
MAX_WAYS = 5000  # to fill the orbits of one crystal; of low symmetry, it recommends none of so many

Ints = NDArray[np.int64]


class OrbitIndex:
    """The primitive standard cells of a library's entries with their orbits, each analysed once."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._known: dict[int, StandardCell | None] = {}

    def of(self, rows: Ints) -> list[StandardCell | None]:
        """In the order of the rows, None where the symmetry cannot be analysed."""
        new = [row for row in rows.tolist() if row not in self._known]
        self._known |= zip(new, standard_cells(self._library.crystals(new), SYMPREC), strict=True)
        return [self._known[row] for row in rows.tolist()]


@lru_cache(maxsize=4096)
def ways_to_fill(sizes: tuple[int, ...], amounts: tuple[int, ...]) -> Ints:
    """int [W, r]: all ways to give r orbits to k elements so that each element has exactly its atoms.

    None, W = 0, also where there are more than `MAX_WAYS`.

    Args:
        sizes: Atoms of each orbit.
        amounts: Atoms of each element; their sum is that of `sizes`.
    """
    k = len(amounts)
    ways, left = np.zeros((1, 0), np.int64), np.array([amounts])
    for place, size in enumerate(sizes):
        reachable = _sums(sizes[place + 1 :], max(amounts))
        given = left[:, None] - size * np.eye(k, dtype=np.int64)  # [W, k, k]: the orbit goes to each in turn
        possible = (given >= 0).all(2) & reachable[np.maximum(given, 0)].all(2)
        way, element = np.nonzero(possible)
        if len(way) > MAX_WAYS:
            return np.zeros((0, len(sizes)), np.int64)
        ways, left = np.column_stack([ways[way], element]), given[way, element]
    return ways


def _sums(sizes: tuple[int, ...], largest: int) -> NDArray[np.bool_]:
    """bool [largest + 1]: which numbers of atoms some of the orbits have together."""
    found = np.zeros(largest + 1, bool)
    found[0] = True
    for size in sizes:
        found[size:] |= found[: max(largest + 1 - size, 0)].copy()
    return found
