"""How alike library entries and a target are under a learned metric."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray
from torch import Tensor

from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.target import Target
from generators.templates.assignments import Assignments
from generators.templates.composition_encoder import load_encoder
from generators.templates.entry_features import features
from generators.templates.pettifor import pettifor_scale
from generators.templates.prototypes import Prototypes

__all__ = ["LearnedSimilarity"]

ENTRIES_AT_ONCE = 4096


class LearnedSimilarity:
    """The kernel of the metric between the target and each entry, and the entry's own features.

    Elements that the metric never met, of the target or of entries, are taken as the nearest on the
    modified Pettifor scale that it did.
    """

    def __init__(self, library: Library, volume: VolumePrior, weights: Path) -> None:
        self._library = library
        self._volume = volume
        self._encoder, card = load_encoder(weights)
        self._stand_in = _stand_ins(card.elements)

    @torch.no_grad()
    def __call__(
        self, target: Target, prototypes: Prototypes, assignments: Assignments
    ) -> NDArray[np.float64]:
        """[n, P]; one matrix product over the entries."""
        if len(prototypes) == 0:
            return np.zeros((0, len(assignments.orders)))
        query = self._vectors(assignments.elements[None], target.anonymous)
        entries = self._vectors(prototypes.elements, target.anonymous)
        kernel = self._encoder.compare(query, entries, torch.from_numpy(assignments.orders))[0]  # [P, n]
        own = features(self._library, prototypes, target.anonymous, self._volume) @ self._encoder.evidence
        return (kernel + own).T.double().numpy()

    def remark(self, target: Target) -> str:
        """A note on elements that the metric does not know; "" if it knows all."""
        symbol, other = chemical_symbols, self._stand_in
        return "".join(
            f"; {symbol[z]} is not known to the metric, taken as {symbol[other[z]]}"
            for z in target.numbers
            if other[z] != z
        )

    def _vectors(self, elements: NDArray[np.int64], anonymous: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        numbers, counts = torch.from_numpy(self._stand_in[elements]), torch.tensor(anonymous)
        parts = [self._encoder(part, counts.expand_as(part)) for part in numbers.split(ENTRIES_AT_ONCE)]
        return torch.cat([whole for whole, _ in parts]), torch.cat([place for _, place in parts])


def _stand_ins(known: list[int]) -> NDArray[np.int64]:
    """int [119]: each element, or the nearest on the modified Pettifor scale among those known."""
    scale, trained = pettifor_scale(), np.array(known)
    distance = np.nan_to_num(np.abs(scale[:, None] - scale[trained]), nan=np.inf)
    nearest = trained[distance.argmin(axis=1)]
    nearest[trained] = trained
    return nearest
