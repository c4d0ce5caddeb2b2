"""Which relaxed crystals are one and the same, and which of them stands for it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from csp.crystallography.symmetry import primitive_sites, standard_cells
from csp.crystals import Crystals
from csp.matching.fingerprints import fingerprints, unique
from csp.matching.matcher import Matcher

__all__ = ["SAME_ENERGY", "group_duplicates", "prefer_smallest_cell", "representatives"]

SAME_ENERGY = 1e-3  # eV/atom
SYMPREC = 0.1  # Å, as space groups are reported; relaxed crystals are that far from symmetric places


def representatives(crystals: Crystals, per_atom: Tensor) -> Tensor:
    """int64 [B]: which crystal stands for each in a final ranking, so that no two that stand for something
    are one crystal to StructureMatcher, whatever their energies.

    What it takes for one are the duplicates of `group_duplicates` and, beside them, distortions of one
    crystal by up to a third of the distance of its atoms: people who compare a ranking with a known crystal
    use this measure.
    """
    stands = prefer_smallest_cell(group_duplicates(crystals, per_atom), crystals, per_atom)
    while True:
        standing = sorted(set(stands.tolist()), key=lambda k: float(per_atom[k]))
        same = Matcher.DEFAULT.group(crystals[standing]).tolist()
        if same == list(range(len(standing))):
            return stands
        joined = stands.clone()
        for k, leader in zip(standing, same, strict=True):
            joined[stands == k] = standing[leader]
        stands = prefer_smallest_cell(joined, crystals, per_atom)


def group_duplicates(crystals: Crystals, per_atom: Tensor) -> Tensor:
    """int64 [B]: the lowest of the crystals that each of them is a duplicate of.

    Those are one whose fingerprints are close and whose energies differ by no more than two relaxations of
    one crystal do; those for which only one of both holds, if StructureMatcher takes them for one. (Orders of
    cations and stackings of layers may differ by nothing but a few meV/atom.) Of those for which both
    hold the ones with the fewest inequivalent sites are one only if StructureMatcher agrees: the others
    are orders and stackings with faults, these may be two crystals known by different names.
    """
    points = fingerprints(crystals)
    close = unique(crystals, energies=per_atom, points=points).tolist()
    group = unique(crystals, energies=per_atom, energy_tolerance=SAME_ENERGY, points=points)
    group = _simple_ones_apart(crystals, per_atom, group)
    leaders = sorted(set(group.tolist()), key=lambda k: float(per_atom[k]))
    for place, leader in enumerate(leaders):
        if int(group[leader]) != leader:
            continue
        others = [k for k in leaders[place + 1 :] if int(group[k]) == k]
        near = [
            k
            for k in others
            if close[k] == close[leader] or float(per_atom[k] - per_atom[leader]) < SAME_ENERGY
        ]
        for k, same in zip(near, Matcher.DEFAULT.fits(crystals[leader], crystals[near]), strict=True):
            if bool(same):
                group[group == k] = leader
    return group


def _simple_ones_apart(crystals: Crystals, per_atom: Tensor, group: Tensor) -> Tensor:
    """The groups int64 [B], each by its lowest, without those of the fewest inequivalent sites that
    StructureMatcher parts from the lowest; these are groups of their own."""
    group = group.clone()
    for leader in set(group.tolist()):
        members = (group == leader).nonzero().flatten().tolist()
        if len(members) == 1:
            continue
        n_sites = [len(sites) or math.inf for sites in primitive_sites(crystals[members])[1]]
        simple = [k for k, n in zip(members, n_sites, strict=True) if n == min(n_sites) and k != leader]
        simple.sort(key=lambda k: float(per_atom[k]))
        stands = leader
        while simple:
            same = Matcher.DEFAULT.fits(crystals[stands], crystals[simple]).tolist()
            for k, fits in zip(simple, same, strict=True):
                if fits:
                    group[k] = stands
            simple = [k for k, fits in zip(simple, same, strict=True) if not fits]
            if simple:
                stands = simple.pop(0)
                group[stands] = stands
    return group


def prefer_smallest_cell(group: Tensor, crystals: Crystals, per_atom: Tensor) -> Tensor:
    """The member that stands for each group of alike crystals: of those whose energy is as good as the lowest
    one's the smallest in its primitive cell, and of these the most symmetric.

    Stackings and orders of layers that differ little in structure and by less than two relaxations in energy
    are alike; the shortest period of them is the likeliest to be known. A relaxation that found a distortion
    of less than its own noise found the crystal that it distorted. The more atoms are free to move, the more
    such distortions there are to find: as good is what lies up by no more than `SAME_ENERGY` for each time
    that the cell of the lowest is twice as large.

    Args:
        group: int64 [B], equal for alike crystals.
        per_atom: float64 [B], eV/atom, finite.

    Returns:
        int64 [B], of each crystal the place of the one that stands for it.
    """
    stands = group.clone()
    for leader in torch.unique(group).tolist():
        members = (group == leader).nonzero().flatten()
        stands[members] = members[_simplest(crystals[members], per_atom[members])]
    return stands


def _simplest(crystals: Crystals, per_atom: Tensor) -> int:
    """The place of the simplest of those that are as good as the lowest."""
    order = per_atom.argsort(stable=True).tolist()
    above = (per_atom - per_atom[order[0]]).tolist()
    largest = int(crystals.n_atoms[order[0]])
    near = [k for k in order if above[k] <= _leeway(largest, 1)]
    if len(near) == 1:
        return near[0]
    n_given = crystals.n_atoms.tolist()
    keys = []
    for k, cell in zip(near, standard_cells(crystals[near], SYMPREC), strict=True):
        n_atoms = n_given[k] if cell is None else len(cell.numbers)
        n_orbits = n_given[k] if cell is None else len(np.unique(cell.orbits))
        space_group = 1 if cell is None else cell.space_group
        keys.append((n_atoms, n_orbits, -space_group, n_given[k], above[k], k))
    of_lowest = keys[0][0]
    return min(key for key in keys if key[4] <= _leeway(of_lowest, key[0]))[-1]


def _leeway(n_atoms: int, fewer: int) -> float:
    """eV/atom by which a crystal in a cell of fewer atoms may lie above one in a cell of `n_atoms`."""
    return SAME_ENERGY * max(1.0, math.log2(n_atoms / fewer))
