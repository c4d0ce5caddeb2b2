"""Half the cell: the shorter period that a crystal nearly has."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from csp.crystals import Crystals

__all__ = ["halved"]

FARTHEST = 1.5  # Å, that an atom may be from where its partner would have it


def halved(crystal: Crystals, rng: np.random.Generator) -> Crystals | None:
    """The crystal averaged over a translation by half a lattice vector, in the cell that then suffices.

    None where no such translation brings every atom near one of its element.
    """
    cell, frac, numbers = crystal.cell[0].numpy(), crystal.frac.numpy(), crystal.numbers.numpy()
    if (np.unique(numbers, return_counts=True)[1] % 2).any():
        return None
    halves = np.array([(h, k, m) for h in (0, 1) for k in (0, 1) for m in (0, 1)][1:])
    for q in rng.permutation(halves):
        partner = _partners(cell, frac, numbers, q / 2)
        if partner is not None:
            return _averaged(cell, frac, numbers, q, partner)
    return None


def _partners(
    cell: NDArray[np.float64],
    frac: NDArray[np.float64],
    numbers: NDArray[np.int64],
    shift: NDArray[np.float64],
) -> NDArray[np.int64] | None:
    """int [n]: the atom nearest to where each atom is taken to, in pairs; None where there are no such."""
    gap = frac[:, None] + shift - frac
    distance = np.linalg.norm((gap - np.rint(gap)) @ cell, axis=-1)
    distance = np.maximum(distance, distance.T)  # there and back
    distance[numbers[:, None] != numbers] = 1e3
    np.fill_diagonal(distance, 1e3)
    partner: NDArray[np.int64] = linear_sum_assignment(distance)[1]
    if distance[np.arange(len(frac)), partner].max() > FARTHEST:
        return None
    return partner if (partner[partner] == np.arange(len(frac))).all() else None


def _averaged(
    cell: NDArray[np.float64],
    frac: NDArray[np.float64],
    numbers: NDArray[np.int64],
    q: NDArray[np.int64],
    partner: NDArray[np.int64],
) -> Crystals:
    first = np.flatnonzero(np.arange(len(frac)) < partner)
    gap = frac[partner[first]] - q / 2 - frac[first]
    middle = frac[first] + (gap - np.rint(gap)) / 2
    basis = np.eye(3)
    axis = int(np.flatnonzero(q)[0])
    basis[axis] = q / 2  # with the other two vectors it spans the finer lattice
    return Crystals(
        torch.from_numpy(basis @ cell)[None],
        torch.from_numpy(middle @ np.linalg.inv(basis)),
        torch.from_numpy(numbers[first]),
        torch.tensor([0, len(first)]),
    ).wrapped()
