"""Which cells are primitive: the pure translations a cell has beyond its own lattice vectors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from csp.crystals import Crystals, ranges

__all__ = ["lattice_points"]

MAX_PAIRS = 2_000_000  # atom pairs compared at once


def lattice_points(crystals: Crystals, tolerance: float = 0.05) -> Tensor:
    """How many primitive cells are in each cell: int64 [B], 1 for a primitive one.

    A pure translation maps an atom of the rarest element onto another of that element, and its
    fractional coordinates are multiples of 1/g, with g the greatest common divisor of the amounts
    of the elements. It holds if it brings every atom within `tolerance` (Å) of one of its element.
    Translations are a group: where there are any there is one of prime order, so those of prime
    order are tried first and the rest only where one was found.
    """
    points = torch.ones(len(crystals), dtype=torch.int64)
    if len(crystals) == 0:
        return points
    divisor, crystal, difference = _differences(crystals)
    largest = int(divisor.max())
    found = [
        _translations(crystals, crystal[divides], difference[divides], torch.tensor(p), tolerance)
        for p in range(2, largest + 1)
        if all(p % q for q in range(2, p))
        for divides in [divisor[crystal] % p == 0]
    ]
    centred = torch.zeros(len(crystals), dtype=torch.bool)
    centred[torch.cat([crystal[:0], *found])] = True
    chosen = centred[crystal]
    crystal, difference = crystal[chosen], difference[chosen]
    return points + torch.bincount(
        _translations(crystals, crystal, difference, divisor[crystal], tolerance), minlength=len(crystals)
    )


def _differences(crystals: Crystals) -> tuple[Tensor, Tensor, Tensor]:
    """The greatest common divisor of the amounts [B], and from the first atom of the rarest element
    to each other one: the crystal [T] and the vector [T, 3], in lattice vectors."""
    kinds, kind_of_atom, amounts = torch.unique(
        crystals.batch * 128 + crystals.numbers, return_inverse=True, return_counts=True
    )
    owner = kinds // 128
    first_kind = torch.searchsorted(owner, torch.arange(len(crystals)))
    divisor = torch.from_numpy(np.gcd.reduceat(amounts.numpy(), first_kind.numpy()))
    ranked = amounts * len(kinds) + torch.arange(len(kinds))
    rarest = torch.full_like(divisor, torch.iinfo(torch.int64).max)
    rarest = rarest.scatter_reduce(0, owner, ranked, "amin") % len(kinds)

    batch = crystals.batch
    atoms = ((kind_of_atom == rarest[batch]) & (divisor[batch] > 1)).nonzero().flatten()
    crystal = batch[atoms]
    anchor = atoms[torch.searchsorted(crystal, crystal)]
    atoms, anchor, crystal = (x[atoms != anchor] for x in (atoms, anchor, crystal))
    return divisor, crystal, crystals.frac[atoms] - crystals.frac[anchor]


def _translations(
    crystals: Crystals, crystal: Tensor, difference: Tensor, order: Tensor, tolerance: float
) -> Tensor:
    """The crystals [T'] of those differences [T, 3] that are, as multiples of 1/order, translations."""
    order = order.expand(len(crystal))[:, None]
    shift = torch.round(difference * order) / order
    off = torch.einsum("ti,tij->tj", difference - shift, crystals.cell[crystal]).norm(dim=1)
    near = off < 2 * tolerance  # both atoms may be off by the tolerance
    crystal, shift = crystal[near], shift[near]
    for n_probed in (2, MAX_PAIRS):  # two atoms refute most, the rest are tried in full
        n_atoms = crystals.n_atoms[crystal]
        n_moved = n_atoms.clamp(max=n_probed)
        part = torch.cumsum(n_moved * n_atoms, 0) // MAX_PAIRS
        holds = torch.zeros(len(crystal), dtype=torch.bool)
        for chosen in (part == p for p in torch.unique(part)):
            holds[chosen] = _maps(crystals, crystal[chosen], shift[chosen], n_moved[chosen], tolerance)
        crystal, shift = crystal[holds], shift[holds]
    return crystal


def _maps(crystals: Crystals, crystal: Tensor, shift: Tensor, n_moved: Tensor, tolerance: float) -> Tensor:
    """bool [T]: does the shift [T, 3] map the last n_moved [T] atoms of the crystal [T] onto others?"""
    n = crystals.n_atoms[crystal]
    trial = torch.repeat_interleave(torch.arange(len(n)), n_moved)
    moved = ranges(crystals.offsets[crystal + 1] - n_moved, n_moved)
    other = ranges(crystals.offsets[crystal[trial]], n[trial])
    pair = torch.repeat_interleave(torch.arange(len(moved)), n[trial])
    same = crystals.numbers[moved[pair]] == crystals.numbers[other]
    pair, other = pair[same], other[same]
    off = crystals.frac[moved[pair]] + shift[trial[pair]] - crystals.frac[other]
    off -= off.round()
    distance = torch.einsum("pi,pij->pj", off, crystals.cell[crystal[trial[pair]]]).norm(dim=1)
    nearest = torch.full((len(moved),), torch.inf, dtype=distance.dtype)
    nearest = nearest.scatter_reduce(0, pair, distance, "amin")
    failed = torch.zeros(len(n), dtype=torch.bool)
    failed[trial[nearest > tolerance]] = True
    return ~failed
