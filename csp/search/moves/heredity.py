"""Heredity: a slab of one crystal and the rest of another.

Oganov and Glass, J. Chem. Phys. 124, 244704 (2006).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from csp.crystallography.lattice import cell_from_parameters, minkowski_reduced
from csp.crystals import Crystals

__all__ = ["child"]

CUT = (0.3, 0.7)  # share of the first parent


def child(parents: Crystals, rng: np.random.Generator) -> Crystals | None:
    """A slab of the first of two crystals, and of the second what is beyond; the composition is kept.

    The cell is the mean of both. Atoms too many of an element leave, and missing ones come from what was
    cut away, where there is most room. None where the smaller parent does not go into the larger a whole
    number of times.
    """
    small, large = (parents[k] for k in (np.argsort(parents.n_atoms.numpy(), kind="stable")).tolist())
    times, left = divmod(len(large.numbers), len(small.numbers))
    if left:
        return None
    one, two = _reduced(_repeated(_reduced(small), times)), _reduced(large)
    if rng.random() < 0.5:
        one, two = two, one
    cell = 0.5 * (_standing(one) + _standing(two))
    volume = 0.5 * (one.volumes + two.volumes)
    cell = cell * (volume / torch.linalg.det(cell).abs()) ** (1 / 3)
    axis, cut = int(rng.integers(3)), rng.uniform(*CUT)
    numbers = np.concatenate([one.numbers.numpy(), two.numbers.numpy()])
    frac = np.concatenate([(p.frac.numpy() + rng.random(3)) % 1.0 for p in (one, two)])
    kept = (frac[:, axis] < cut) == (np.arange(len(frac)) < len(one.numbers))
    kept = _exact(cell[0].numpy(), frac, numbers, kept, one.numbers.numpy(), rng)
    return Crystals(
        cell,
        torch.from_numpy(frac[kept]),
        torch.from_numpy(numbers[kept]),
        torch.tensor([0, len(kept)]),
    )


def _exact(
    cell: NDArray[np.float64],
    frac: NDArray[np.float64],
    numbers: NDArray[np.int64],
    kept: NDArray[np.bool_],
    wanted: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """The places of as many atoms of each element as are wanted."""
    kept = kept.copy()
    for element, count in zip(*np.unique(wanted, return_counts=True), strict=True):
        there = np.flatnonzero(kept & (numbers == element))
        if len(there) > count:
            kept[rng.permutation(there)[count:]] = False
    for element, count in zip(*np.unique(wanted, return_counts=True), strict=True):
        while np.count_nonzero(kept & (numbers == element)) < count:
            spare, there = np.flatnonzero(~kept & (numbers == element)), np.flatnonzero(kept)
            gap = frac[spare, None] - frac[there]
            room = np.linalg.norm((gap - np.rint(gap)) @ cell, axis=-1).min(1, initial=np.inf)
            kept[spare[room.argmax()]] = True
    return np.flatnonzero(kept)


def _reduced(crystal: Crystals) -> Crystals:
    cell, change = minkowski_reduced(crystal.cell)
    return crystal.with_geometry(cell, crystal.frac @ torch.linalg.inv(change[0])).wrapped()


def _repeated(crystal: Crystals, times: int) -> Crystals:
    """So many cells along the shortest vector, which is the first of a reduced cell."""
    shifts = torch.arange(times, dtype=torch.float64).repeat_interleave(len(crystal.numbers))
    frac = crystal.frac.repeat(times, 1)
    frac[:, 0] = (frac[:, 0] + shifts) / times
    cell = crystal.cell.clone()
    cell[:, 0] *= times
    return Crystals(cell, frac, crystal.numbers.repeat(times), times * crystal.offsets)


def _standing(crystal: Crystals) -> torch.Tensor:
    """Its cell with a along x and b in the xy plane, so that two can be averaged."""
    lengths = crystal.cell.norm(dim=2)
    unit = crystal.cell / lengths[:, :, None]
    cosines = torch.stack([(unit[:, i] * unit[:, j]).sum(1) for i, j in ((1, 2), (0, 2), (0, 1))], 1)
    return cell_from_parameters(lengths, cosines)
