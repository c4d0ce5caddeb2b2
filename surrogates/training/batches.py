"""Batches for training: sources of labelled crystals with their neighbours, drawn from without end."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from csp.crystallography.neighbours import neighbour_list
from csp.crystals import Crystals, ranges, run_starts
from csp.errors import InputError
from surrogates.training.labelled import Labelled
from surrogates.transformer.environments import Environments, pad

__all__ = ["KINDS", "NeighbourCache", "Source", "Stream"]

KINDS = ("formation", "anchored")
"""The heads of our models: DFT formation energies; the teacher's differences anchored to them."""

CRYSTALS_AT_ONCE = 512  # whose neighbours are looked for together
SKIN = 0.1  # Å; more than two atoms approach each other in a finite difference
WINDOW = 64  # batches whose crystals are sorted by their number of neighbours


class NeighbourCache:
    """The neighbours of many crystals, found once and kept where the crystals are (16 bytes each).

    Args:
        skin: Å beyond the cutoff, so that slightly displaced atoms miss no neighbour.
    """

    def __init__(self, crystals: Crystals, cutoff: float, skin: float = 0.0) -> None:
        self.crystals, self.cutoff = crystals, cutoff
        js, vectors, counts = [], [], []
        for start in range(0, max(len(crystals), 1), CRYSTALS_AT_ONCE):  # once for no crystal, too
            part = crystals[start : start + CRYSTALS_AT_ONCE]
            pairs = neighbour_list(part, cutoff + skin)
            counts.append(torch.bincount(pairs.i, minlength=len(part.numbers)))
            js.append((pairs.j - part.offsets[part.batch[pairs.i]]).to(torch.int32))
            vectors.append(pairs.vector.float())
        self.j = torch.cat(js)  # [E] within the crystal
        self.vector = torch.cat(vectors)  # [E, 3]
        self.counts = torch.cat(counts)  # [A]
        self.first = torch.cat([self.counts.new_zeros(1), torch.cumsum(self.counts, 0)])
        self.width = self.counts.new_zeros(len(crystals))
        self.width.scatter_reduce_(0, crystals.batch, self.counts, "amax")  # [B]

    def environments(self, chosen: Tensor) -> Environments:
        """The chosen crystals' atoms and their neighbours; chosen int64 [b]."""
        n_atoms = self.crystals.n_atoms[chosen]
        atoms = ranges(self.crystals.offsets[chosen], n_atoms)
        crystal = torch.repeat_interleave(torch.arange(len(chosen), device=chosen.device), n_atoms)
        counts = self.counts[atoms]
        edges = ranges(self.first[atoms], counts)
        first_atom = run_starts(n_atoms)[crystal]
        j = self.j[edges].long() + torch.repeat_interleave(first_atom, counts)
        numbers = self.crystals.numbers[atoms]
        return pad(numbers, crystal, len(chosen), counts, j, self.vector[edges], self.cutoff)


class Source:
    """Labelled crystals of one kind with their neighbours, ready to be drawn from.

    Args:
        share: Of the steps that draw from this source.
    """

    def __init__(
        self,
        kind: str,
        labelled: Labelled,
        share: float,
        cutoff: float,
        device: torch.device | str = "cpu",
    ) -> None:
        self.kind, self.column, self.share = kind, KINDS.index(kind), share
        skin = SKIN if labelled.forces is not None else 0.0
        self.labelled = labelled.to(torch.device(device))
        self.cache = NeighbourCache(self.labelled.crystals, cutoff, skin)

    def __len__(self) -> int:
        return len(self.labelled)


class Stream:
    """Endless batches of a source, each epoch in an order of its own; its whole state is two numbers.

    Batches hold crystals of similar numbers of neighbours, so that padding wastes little.
    """

    def __init__(self, source: Source, batch: int, seed: int, max_atoms: int) -> None:
        self.source, self.batch, self.seed = source, batch, seed
        self.rows = np.flatnonzero((source.labelled.crystals.n_atoms <= max_atoms).cpu().numpy())
        self.width = source.cache.width.cpu().numpy()
        if len(self.rows) == 0:
            raise InputError(f"No crystal of kind {source.kind} has at most {max_atoms} atoms.")
        self.epoch, self.position = 0, 0
        self._order = self._plan()

    def _plan(self) -> list[np.ndarray]:
        rng = np.random.default_rng([self.seed, self.source.column, len(self.rows), self.epoch])
        rows = rng.permutation(self.rows)
        batches = []
        for start in range(0, len(rows), WINDOW * self.batch):
            window = rows[start : start + WINDOW * self.batch]
            window = window[np.argsort(self.width[window], kind="stable")]
            batches += [window[k : k + self.batch] for k in range(0, len(window), self.batch)]
        return [batches[k] for k in rng.permutation(len(batches))]

    def seek(self, epoch: int, position: int) -> None:
        self.epoch, self.position = epoch, position
        self._order = self._plan()

    def __next__(self) -> Tensor:
        """int64 [b]: rows of the source, on its device."""
        if self.position == len(self._order):
            self.seek(self.epoch + 1, 0)
        self.position += 1
        return torch.from_numpy(self._order[self.position - 1]).to(self.source.labelled.energy.device)
