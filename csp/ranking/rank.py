"""The order of crystals by energy or enthalpy: under one label, rounded, ties broken by id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from csp.errors import ContractError
from csp.protocols import Label

__all__ = ["RESOLUTION", "Ranking", "order", "rank"]

RESOLUTION = 1e-5  # eV/atom; smaller differences between energies are none


@dataclass(frozen=True, slots=True)
class Ranking:
    """R distinct crystals out of a batch, best first.

    Attributes:
        chosen: int64 [R], their places in the batch.
        stands_for: int64 [B], of each of the batch, the place of the one that is ranked for it.
        label: The one label of all values; None for an empty batch.
    """

    chosen: Tensor
    stands_for: Tensor
    label: Label | None

    @property
    def n_duplicates(self) -> Tensor:
        """int64 [R]: how many others of the batch are each of them again."""
        return torch.bincount(self.stands_for, minlength=len(self.stands_for))[self.chosen] - 1


def order(per_atom: Tensor, ids: Sequence[str]) -> Tensor:
    """The permutation int64 [B] that sorts energies or enthalpies [B], eV/atom, ascending; on the CPU.

    Values are rounded at `RESOLUTION` first, so that noise far below a model's error, as from another
    order of summation, does not decide; equal ones are sorted by id. NaN comes last.
    """
    rounded = np.rint(per_atom.detach().double().cpu().numpy() / RESOLUTION)
    return torch.from_numpy(np.lexsort((np.array(ids, dtype=np.str_), rounded)))


def rank(per_atom: Tensor, ids: Sequence[str], same: Tensor, labels: Sequence[Label]) -> Ranking:
    """Rank the distinct crystals of a batch, those that stand for themselves.

    Args:
        per_atom: float [B], energies or enthalpies, eV/atom, all finite.
        ids: Of the crystals; they break ties.
        same: int64 [B], of each crystal the place of the one that stands for it (`csp.matching.duplicates`).
        labels: [B], what the energies are energies of.

    Raises:
        LabelError: If the labels differ.
        ContractError: For a value that is not finite: what could not be evaluated is listed apart, never
            ranked.
    """
    label = Label.same(labels) if labels else None
    if not bool(torch.isfinite(per_atom).all()):
        raise ContractError("A crystal without a finite energy cannot be ranked.")
    stands_for = same.cpu().long()
    best_first = order(per_atom, ids)
    return Ranking(best_first[stands_for[best_first] == best_first], stands_for, label)
