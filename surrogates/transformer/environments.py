"""Atoms with their neighbours, padded to one dense block: what the transformer reads."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from csp.crystallography.neighbours import neighbour_list
from csp.crystals import Crystals, run_starts

__all__ = ["Environments", "environments", "pad", "slots"]


@dataclass(frozen=True, slots=True)
class Environments:
    """The atoms of B crystals, each with up to K neighbours (periodic images count singly).

    Atoms that stand for others equivalent to them (see `csp.crystallography.orbits`) have these counted in
    `multiplicity`.

    Attributes:
        numbers: int64 [A], atomic numbers.
        crystal: int64 [A], the crystal of each atom.
        n_crystals: B.
        neighbour: int64 [A, K], atom of the batch; unused slots point to the atom itself.
        vector: float [A, K, 3], from the atom to the neighbour, Å; unused slots lie at the cutoff, where
            every weight vanishes with its first two derivatives.
        multiplicity: int64 [A], or None: each stands for itself alone.
    """

    numbers: Tensor
    crystal: Tensor
    n_crystals: int
    neighbour: Tensor
    vector: Tensor
    multiplicity: Tensor | None = None

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Environments:
        """On another device; `dtype` is that of the vectors."""
        return Environments(
            self.numbers.to(device),
            self.crystal.to(device),
            self.n_crystals,
            self.neighbour.to(device),
            self.vector.to(device=device, dtype=dtype),
            None if self.multiplicity is None else self.multiplicity.to(device),
        )

    def displaced(self, displacement: Tensor, strain: Tensor) -> Environments:
        """The same neighbours after r → (r + displacement)(1 + strain), to first order in both.

        displacement float [A, 3], Å; strain float [B, 3, 3], symmetric. Neighbours that would enter
        are missed unless the environments were made with a skin.
        """
        relative = displacement[self.neighbour] - displacement[:, None]
        stretched = torch.einsum("aki,aij->akj", self.vector, strain[self.crystal])
        return replace(self, vector=self.vector + relative + stretched)


def pad(
    numbers: Tensor,
    crystal: Tensor,
    n_crystals: int,
    counts: Tensor,
    j: Tensor,
    vector: Tensor,
    cutoff: float,
) -> Environments:
    """From neighbours sorted by atom to a dense block.

    Args:
        numbers: int64 [A], of the atoms.
        crystal: int64 [A], their crystals.
        counts: int64 [A], their numbers of neighbours.
        j: int64 [E].
        vector: float [E, 3].
    """
    atoms = torch.arange(len(numbers), device=numbers.device)
    width = int(counts.max()) if len(counts) else 0
    width = max(width, 1)
    slot = slots(counts, width, len(j))
    neighbour = torch.repeat_interleave(atoms, width).index_copy_(0, slot, j)
    padded = vector.new_zeros((len(numbers) * width, 3))
    padded[:, 0] = cutoff
    padded.index_copy_(0, slot, vector)
    return Environments(numbers, crystal, n_crystals, neighbour.view(-1, width), padded.view(-1, width, 3))


def slots(counts: Tensor, width: int, total: int) -> Tensor:
    """int64 [E]: places in a flat block of rows of `width` of so many entries [A] in each row, E in all."""
    row = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts, output_size=total)
    first = run_starts(counts)
    return row * width + torch.arange(total, device=counts.device) - first[row]


def environments(crystals: Crystals, cutoff: float, dtype: torch.dtype = torch.float32) -> Environments:
    """All neighbours within `cutoff` (Å); distances are computed in the precision of `crystals`."""
    pairs = neighbour_list(crystals, cutoff)
    counts = torch.bincount(pairs.i, minlength=len(crystals.numbers))
    return pad(
        crystals.numbers,
        crystals.batch,
        len(crystals),
        counts,
        pairs.j,
        pairs.vector.to(dtype),
        cutoff,
    )
