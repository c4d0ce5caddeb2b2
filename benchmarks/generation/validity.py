"""Are proposals what they say they are: the composition, and the space group that they were drawn in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from csp.crystallography.operations import operations
from csp.crystallography.wyckoff import LETTERS, wyckoff_table
from csp.protocols import Proposals
from csp.target import Target

__all__ = ["Exact", "exact"]

SYMPREC = 1e-3  # Å


@dataclass(frozen=True, slots=True)
class Exact:
    """Counts of built crystals.

    Attributes:
        composition: With atoms of each element in the formula's ratio.
        free: In which a coordinate may be chosen.
        same: Of these, analysed to have the space group that they were drawn in.
        above: Of all, with that group's number of operations or a multiple: the group or a supergroup.
    """

    composition: int
    free: int
    same: int
    above: int


def exact(target: Target, proposals: Proposals) -> Exact:
    """Analyse proposals that name their space group and Wyckoff positions."""
    table, crystals = wyckoff_table(), proposals.crystals
    atoms = torch.stack(
        [
            torch.bincount(crystals.batch[crystals.numbers == z], minlength=len(crystals))
            for z in target.numbers
        ],
        dim=1,
    )
    z = crystals.n_atoms // target.n_atoms
    right = (atoms == torch.tensor(target.counts) * z[:, None]).all(1)
    group = torch.tensor([row.space_group for row in proposals.provenance], dtype=torch.int64)
    moves = table.free.any(1).numpy()
    free = np.array([_letters(row.space_group, row.wyckoff, moves) for row in proposals.provenance], bool)
    found = operations(crystals, SYMPREC)
    order = table.first_operation.diff() // torch.linalg.det(table.to_primitive).round().long()
    same = found.space_group == group
    return Exact(
        composition=int(right.sum()),
        free=int(free.sum()),
        same=int(same.numpy()[free].sum()),
        above=int((found.n_operations % order[group] == 0).sum()),
    )


def _letters(group: int, wyckoff: str, moves: np.ndarray) -> bool:
    """Has any of the positions "Sr:a Ti:b O:c" freedom?"""
    first = int(wyckoff_table().first[group])
    return any(moves[first + LETTERS.index(site.split(":")[1])] for site in wyckoff.split())
