"""Which sites of one crystal lie on which of another: near pairs and their best assignment, in batches."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

__all__ = ["SitePairs", "squared_length"]


@dataclass(frozen=True, slots=True)
class SitePairs:
    """Which atoms of one element of a moved second crystal may lie on which of the first.

    Attributes:
        item: int64 [P], the comparison that each near pair belongs to.
        second: int64 [P], its atom of the second crystal.
        first: int64 [P], its atom of the first.
        vector: float [P, 3], from the second's atom to the first's, Å.
        squared: float [P], its length squared.
        shape: (I, n), numbers of comparisons and of atoms of the element.
    """

    item: Tensor
    second: Tensor
    first: Tensor
    vector: Tensor
    squared: Tensor
    shape: tuple[int, int]

    @classmethod
    def near(cls, frac1: Tensor, frac2: Tensor, cell: Tensor, tolerance: Tensor) -> SitePairs:
        """Pairs of frac1, frac2 [I, n, 3] within `tolerance` [I, 3] in cells [I, 3, 3]; the vectors are
        those of least fractional coordinates, not yet the shortest."""
        item, second, first = _near(frac1, frac2, tolerance).nonzero(as_tuple=True)
        difference = frac1[item, first] - frac2[item, second]
        vector = torch.einsum("pi,pij->pj", difference - difference.round(), cell[item])
        return cls(item, second, first, vector, squared_length(vector), (frac1.shape[0], frac1.shape[1]))

    def shortest(self, doubtful: Tensor, cell: Tensor) -> SitePairs:
        """The vectors marked in `doubtful` [P] replaced by their shortest image in cells [I, 3, 3]."""
        chosen = doubtful.nonzero().flatten()
        steps = torch.cartesian_prod(*[torch.arange(-1, 2, device=cell.device)] * 3).to(cell)
        images = self.vector[chosen][:, None] + (steps @ cell)[self.item[chosen]]  # [P', 27, 3]
        least, which = squared_length(images).min(1)
        shortest = images[torch.arange(len(chosen), device=cell.device), which]
        return replace(
            self,
            vector=self.vector.index_copy(0, chosen, shortest),
            squared=self.squared.index_copy(0, chosen, least),
        )

    def complete(self, sphere: Tensor | None = None) -> Tensor:
        """bool [I]: has each atom of both crystals a partner, closer than `sphere` [I] if given?"""
        n_items, n = self.shape
        close = slice(None) if sphere is None else self.squared < sphere[self.item] ** 2
        served = torch.zeros((2, n_items * n), dtype=torch.bool, device=self.item.device)
        served[0, (self.item * n + self.second)[close]] = True
        served[1, (self.item * n + self.first)[close]] = True
        return served.view(2, n_items, n).all(2).all(0)

    def assigned(self) -> Tensor:
        """float [I, n, 3]: the vectors under the one-to-one assignment with the least sum of squares,
        infinite where only an atom that is not near is left. pymatgen: `StructureMatcher._cart_dists`.
        """
        from scipy.optimize import linear_sum_assignment

        n_items, n = self.shape
        where = self.item, self.second, self.first
        vector = self.vector.new_full((n_items, n, n, 3), math.inf)
        vector[where] = self.vector
        cost = self.vector.new_full((n_items, n, n), 1e20)
        cost[where] = self.squared
        # Where the nearest partners are all different they are the best assignment.
        choice = cost.argmin(2)
        clash = (choice.sort(1).values != torch.arange(n, device=choice.device)).any(1).nonzero().flatten()
        if len(clash):
            solved = np.stack([linear_sum_assignment(matrix)[1] for matrix in cost[clash].cpu().numpy()])
            choice[clash] = torch.as_tensor(solved, device=choice.device)
        return torch.gather(vector, 2, choice[:, :, None, None].expand(-1, -1, 1, 3))[:, :, 0]


def _near(frac1: Tensor, frac2: Tensor, tolerance: Tensor) -> Tensor:
    """bool [I, n, m]: pairs of frac2 [I, n, 3] and frac1 [I, m, 3] (periodic images) that differ by no
    more than `tolerance` [I, 3] on each axis."""
    near = None
    for axis in range(3):  # axis by axis: several times faster than reducing over three components
        difference = frac1[:, None, :, axis] - frac2[:, :, None, axis]
        close = difference.sub_(difference.round()).abs_() <= tolerance[:, None, None, axis]
        near = close if near is None else near.logical_and_(close)
    assert near is not None
    return near


def squared_length(vector: Tensor) -> Tensor:
    """Squared lengths of vectors [..., 3]."""
    x, y, z = vector.unbind(-1)
    return x * x + y * y + z * z
