"""Skeletons that a search found worth a second look, as what the generators draw geometries for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from csp.crystallography.wyckoff import LETTERS, wyckoff_table
from csp.protocols import Skeleton
from csp.target import Target
from generators.random_symmetric.wyckoff_combinations import WyckoffAssignments

__all__ = ["read_skeletons", "tilted"]


def read_skeletons(target: Target, skeletons: Sequence[Skeleton]) -> WyckoffAssignments:
    """The assignments [B] that skeletons of the target's composition stand for."""
    table = wyckoff_table()
    place = {number: k for k, number in enumerate(target.numbers)}
    group, z, crystal, position, element = [], [], [], [], []
    for b, skeleton in enumerate(skeletons):
        start = int(table.first[skeleton.space_group])
        sites = [site.split(":") for site in skeleton.wyckoff.split()]
        orbits = sorted((place[atomic_numbers[symbol]], start + LETTERS.index(k)) for symbol, k in sites)
        n_atoms = int(table.n_atoms[[row for _, row in orbits]].sum())
        group.append(skeleton.space_group)
        z.append(n_atoms // target.n_atoms)
        crystal += [b] * len(orbits)
        element += [e for e, _ in orbits]
        position += [row for _, row in orbits]
    return WyckoffAssignments(*(np.array(x, dtype=np.int64) for x in (group, z, crystal, position, element)))


def tilted(p: NDArray[np.float64], groups: Mapping[int, float]) -> NDArray[np.float64]:
    """Probabilities of space group and formula units [231, Z] whose rows, by number of the group, are changed
    by these factors."""
    factor = np.ones(len(p))
    factor[list(groups)] = list(groups.values())
    changed: NDArray[np.float64] = p * factor[:, None]
    return changed / changed.sum() if changed.any() else changed
