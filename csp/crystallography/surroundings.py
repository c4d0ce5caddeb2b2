"""What an energy model may know beforehand of a batch: equivalent atoms, and the pairs it saw before."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from csp.crystallography.neighbours import Neighbours, neighbour_list
from csp.crystallography.operations import SymmetryOperations
from csp.crystallography.orbits import Orbits
from csp.crystals import Crystals, ranges, run_starts

__all__ = ["Surroundings"]


@dataclass(slots=True, eq=False)
class _Kept:
    """All pairs within `reach` (Å) around the sites of crystals as they were; counts int64 [B], of each."""

    crystals: Crystals
    reach: float
    i: Tensor
    j: Tensor
    shift: Tensor
    counts: Tensor


class Surroundings:
    """The orbits of a batch of crystals and, with a skin, the pairs around their sites from call to call.

    A relaxation makes one and hands it to the model in every step: pairs within cutoff + skin stay listed
    until a crystal has changed so much that one from outside could have come within the cutoff.

    Attributes:
        skin: Å; 0: pairs are listed anew each time.
    """

    def __init__(self, orbits: Orbits, skin: float = 0.0) -> None:
        self.orbits, self.skin = orbits, skin
        self._kept: _Kept | None = None

    @classmethod
    def of(
        cls, crystals: Crystals, operations: SymmetryOperations | None = None, skin: float = 0.0
    ) -> Surroundings:
        """Of crystals that keep the operations exactly."""
        return cls(Orbits.of(crystals, operations), skin)

    def neighbours(self, crystals: Crystals, cutoff: float) -> Neighbours:
        """The pairs closer than `cutoff` (Å) around the sites of the crystals, the same ones as before.

        As `csp.crystallography.neighbours.neighbour_list` gives them, in their order.
        """
        self.update(crystals, cutoff)
        if self._kept is None:
            return neighbour_list(crystals, cutoff, self.orbits.sites)
        i, j, shift = self._kept.i, self._kept.j, self._kept.shift
        difference = crystals.frac[j] - crystals.frac[i] + shift
        vector = torch.einsum("ei,eij->ej", difference, crystals.cell[crystals.batch[i]])
        x, y, z = vector.unbind(1)
        squared = x * x + y * y + z * z
        near = (squared < cutoff * cutoff).nonzero().flatten()
        return Neighbours(i[near], j[near], shift[near], vector[near], squared[near].sqrt())

    def update(self, crystals: Crystals, cutoff: float) -> None:
        """List the pairs anew for the crystals that have changed too much, so that all parts of this,
        see `__getitem__`, have theirs. Without a skin nothing is kept; what is kept for a longer cutoff
        serves a shorter one, too."""
        if not self.skin:
            return
        reach = cutoff + self.skin
        if self._kept is None or self._kept.reach < reach:
            pairs = neighbour_list(crystals, reach, self.orbits.sites)
            counts = torch.bincount(crystals.batch[pairs.i], minlength=len(crystals))
            self._kept = _Kept(crystals, reach, pairs.i, pairs.j, pairs.shift, counts)
            return
        stale = _changed(self._kept.crystals, crystals, cutoff, self._kept.reach).nonzero().flatten()
        if len(stale):
            self._kept = _replaced(self._kept, crystals, stale, self.orbits[stale].sites)

    def __getitem__(self, index: Tensor) -> Surroundings:
        """Those of the chosen crystals: int64 or bool [B'], as `Crystals` is indexed."""
        chosen = index.nonzero().flatten() if index.dtype == torch.bool else index.long()
        part = Surroundings(self.orbits[chosen], self.skin)
        kept = self._kept
        if kept is not None:
            rows = ranges(run_starts(kept.counts)[chosen], kept.counts[chosen])
            crystals = kept.crystals[chosen]
            moved = crystals.offsets[:-1] - kept.crystals.offsets[:-1][chosen]
            by = torch.repeat_interleave(moved, kept.counts[chosen])
            part._kept = _Kept(
                crystals,
                kept.reach,
                kept.i[rows] + by,
                kept.j[rows] + by,
                kept.shift[rows],
                kept.counts[chosen],
            )
        return part

    def to(self, device: torch.device | str) -> Surroundings:
        """On another device, where pairs are listed anew; itself if it is there."""
        there = torch.device(device)
        return self if self.orbits.sites.device == there else Surroundings(self.orbits.to(there), self.skin)


def _changed(before: Crystals, now: Crystals, cutoff: float, reach: float) -> Tensor:
    """bool [B]: could a pair that was beyond `reach` be within `cutoff`?

    With the deformation F of the cell and displacements u beyond it, a vector that is now v was
    (v − u_j + u_i) F⁻¹: not longer than (|v| + 2 max |u|) ‖F⁻¹‖.
    """
    moved = torch.einsum("ai,aij->aj", now.frac - before.frac, now.cell[now.batch]).norm(dim=1)
    farthest = moved.new_zeros(len(now)).scatter_reduce(0, now.batch, moved, "amax")
    stretch = torch.linalg.matrix_norm(torch.linalg.solve(now.cell, before.cell), ord=2)
    return ~((cutoff + 2.0 * farthest) * stretch <= reach)


def _replaced(kept: _Kept, crystals: Crystals, stale: Tensor, sites: Tensor) -> _Kept:
    """With the pairs of the stale crystals listed anew around `sites`, which count in those crystals."""
    part = crystals[stale]
    pairs = neighbour_list(part, kept.reach, sites)
    by = (crystals.offsets[:-1][stale] - part.offsets[:-1])[part.batch[pairs.i]]
    fresh = torch.bincount(part.batch[pairs.i], minlength=len(part))
    starts, counts = run_starts(kept.counts), kept.counts.clone()
    starts[stale], counts[stale] = len(kept.i) + run_starts(fresh), fresh
    rows = ranges(starts, counts)
    columns = ((kept.i, pairs.i + by), (kept.j, pairs.j + by), (kept.shift, pairs.shift))
    i, j, shift = (torch.cat(both)[rows] for both in columns)
    fresh_cells = torch.zeros(len(crystals), dtype=torch.bool, device=crystals.device)
    fresh_cells[stale] = True
    cell = torch.where(fresh_cells[:, None, None], crystals.cell, kept.crystals.cell)
    frac = torch.where(fresh_cells[crystals.batch][:, None], crystals.frac, kept.crystals.frac)
    return _Kept(crystals.with_geometry(cell, frac), kept.reach, i, j, shift, counts)
