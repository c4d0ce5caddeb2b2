"""Which skeletons led low: the arms of a bandit, and the odds with which each is tried again.

A skeleton is a space group and what sits on which Wyckoff positions; a geometry of it is a cell and free
coordinates. The right skeleton's first geometries are often poor: among all skeletons of a pool it was seen
8th to 90th by their energies. So odds go by rank, 1 / (10 + rank): they favour what led low, whatever the
scale of the energies is, and fall so slowly that nothing is left out. And they fall with the geometries tried
already, the faster the less there is to choose: a skeleton without freedom is one crystal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from csp.crystallography.wyckoff import LETTERS, crystal_systems, wyckoff_table
from csp.protocols import Skeleton

__all__ = ["Skeletons", "freedom"]

HEAD = 10.0  # ranks over which the odds stay of one size
MOST = 5000  # skeletons that are remembered, the lowest of all
SHAPES = (5, 3, 2, 1, 1, 1, 0)  # free parameters of a cell's shape, by crystal system


@cache
def freedom(skeleton: Skeleton) -> int:
    """Free coordinates of its positions, and parameters of the cell's shape."""
    table, group = wyckoff_table(), skeleton.space_group
    start = int(table.first[group])
    rows = [start + LETTERS.index(site.rpartition(":")[2]) for site in skeleton.wyckoff.split()]
    shape = SHAPES[int(crystal_systems(np.array([group]))[0])]
    return int(table.degrees_of_freedom[rows].sum()) + shape


@dataclass
class Skeletons:
    """What was found of each skeleton.

    Attributes:
        tries: Geometries relaxed.
        lowest: eV/atom, of these.
    """

    tries: dict[Skeleton, int] = field(default_factory=dict)
    lowest: dict[Skeleton, float] = field(default_factory=dict)

    def copy(self) -> Skeletons:
        """Of its own."""
        return Skeletons(dict(self.tries), dict(self.lowest))

    def add(self, found: Iterable[tuple[Skeleton, float]]) -> None:
        """Geometries of skeletons and the energies, eV/atom, that they relaxed to."""
        for skeleton, per_atom in found:
            self.tries[skeleton] = self.tries.get(skeleton, 0) + 1
            self.lowest[skeleton] = min(self.lowest.get(skeleton, np.inf), per_atom)
        if len(self.lowest) > MOST:
            self.lowest = {one: self.lowest[one] for one in self.ranked()[:MOST]}
            self.tries = {one: self.tries[one] for one in self.lowest}

    def ranked(self) -> list[Skeleton]:
        """All, lowest first."""
        return sorted(self.lowest, key=lambda one: (round(self.lowest[one], 5), one))

    def odds(self) -> tuple[list[Skeleton], NDArray[np.float64]]:
        """The skeletons, lowest first, and the probability [N] of each to be tried next."""
        ranked = self.ranked()
        tried = np.array([self.tries[one] / (1 + 2 * freedom(one)) for one in ranked])
        odds = 1 / (HEAD + np.arange(len(ranked))) / (1 + tried)
        return ranked, odds / odds.sum() if len(ranked) else odds

    def drawn(self, rng: np.random.Generator, n: int) -> list[Skeleton]:
        """n skeletons by their odds; none where none is known."""
        ranked, odds = self.odds()
        return [ranked[k] for k in rng.choice(len(ranked), n, p=odds)] if ranked else []

    def groups(self) -> Mapping[int, float]:
        """Of each space group that was tried, by how much its odds change: 1 in the mean, by rank of the
        lowest crystal that it led to. Groups that are not in it keep theirs."""
        best: dict[int, float] = {}
        for one, per_atom in self.lowest.items():
            best[one.space_group] = min(best.get(one.space_group, np.inf), per_atom)
        ranked = sorted(best, key=lambda group: (round(best[group], 5), group))
        weight = 1 / (HEAD + np.arange(len(ranked)))
        return dict(zip(ranked, (weight / weight.mean()).tolist(), strict=True)) if ranked else {}
