"""Ends of relaxations: which count, which are one crystal, and what rattling gained."""

from __future__ import annotations

import math

from torch import Tensor

from csp.crystals import Crystals
from csp.dedup import unique
from csp.matcher import Matcher
from csp.relax import Status

__all__ = ["RANKED", "gain", "same_crystal", "without_idle_children"]

RANKED = (Status.CONVERGED, Status.MAX_STEPS)  # ends whose energy means something
SAME_ENERGY = 1e-3  # eV/atom
REAL_GAIN = 5e-4  # eV/atom; less is within what two relaxations of one crystal differ by


def same_crystal(crystals: Crystals, per_atom: Tensor) -> Tensor:
    """int64 [B]: the lowest of the crystals that each of them is again.

    Near-identical ones are one by their fingerprints; wider apart, when StructureMatcher takes them for
    one and their energies differ by no more than relaxations of one crystal do.
    """
    group = unique(crystals, energies=per_atom)
    leaders = sorted(set(group.tolist()), key=lambda k: float(per_atom[k]))
    for place, leader in enumerate(leaders):
        if int(group[leader]) != leader:
            continue
        near = [k for k in leaders[place + 1 :] if float(per_atom[k] - per_atom[leader]) < SAME_ENERGY]
        near = [k for k in near if int(group[k]) == k]
        for k, same in zip(near, Matcher.DEFAULT.fits(crystals[leader], crystals[near]), strict=True):
            if bool(same):
                group[group == k] = leader
    return group


def gain(per_atom: Tensor, parent: list[int], n_parents: int) -> dict[int, float]:
    """What the best rattled child of each rattled parent gained, eV/atom, at least 0."""
    gains: dict[int, float] = {}
    for child in range(n_parents, len(parent)):
        gain = float(per_atom[parent[child]] - per_atom[child])
        gains[parent[child]] = max(gains.get(parent[child], 0.0), gain if math.isfinite(gain) else 0.0)
    return gains


def without_idle_children(per_atom: Tensor, parent: list[int], n_parents: int) -> list[int]:
    """All parents, and those rattled children that found something below their parent.

    The others are the parent again, a little less well relaxed, or a distortion it did not want.
    """
    gain = per_atom[parent] - per_atom
    return [k for k in range(len(parent)) if k < n_parents or float(gain[k]) >= REAL_GAIN]
