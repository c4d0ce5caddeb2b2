"""How alike library entries and a target are under a learned metric."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

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
from generators.templates.entry_features import UNITS, features
from generators.templates.pettifor import pettifor_scale
from generators.templates.prototypes import Prototypes

__all__ = ["Apart", "LearnedSimilarity"]

ENTRIES_AT_ONCE = 4096

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Apart(NamedTuple):
    """Squared distances of n entries from a target of k elements, in the vectors of the metric.

    Attributes:
        whole: float [n], of the compositions.
        atom: float [n, k, j], of an atom of each of the target's elements from one of each of the entry's; of
            padding of no meaning.
    """

    whole: Floats
    atom: Floats


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

    @torch.no_grad()
    def apart(self, target: Target, numbers: Ints, counts: Ints) -> Apart:
        """How far entries of any ratio are from a target: of one ratio, the same distances as `__call__`.

        Args:
            numbers: [n, j], atomic numbers of the entries.
            counts: [n, j], their amounts; 0 pads.
        """
        whole, place = self._by_atom(np.array([target.numbers]), np.array([target.counts]))
        parts = [
            (torch.cdist(w, whole)[:, 0] ** 2, torch.cdist(place.expand(len(p), -1, -1), p) ** 2)
            for start in range(0, len(numbers), ENTRIES_AT_ONCE)
            for part in [slice(start, start + ENTRIES_AT_ONCE)]
            for w, p in [self._by_atom(numbers[part], counts[part])]
        ]
        if not parts:
            return Apart(np.zeros(0), np.zeros((0, len(target.numbers), numbers.shape[1])))
        return Apart(*(torch.cat(found).double().numpy() for found in zip(*parts, strict=True)))

    @torch.no_grad()
    def kernel(self, squared: Floats, units: Floats) -> Floats:
        """ln of the weight of a structure so far away, squared, with so many formula units in its cell."""
        tail = float(self._encoder.log_tail.exp())
        per_unit = float(self._encoder.evidence[UNITS])
        return -tail * np.log1p(squared / tail) + per_unit * np.log(units)

    def _by_atom(self, numbers: Ints, counts: Ints) -> tuple[Tensor, Tensor]:
        """Vectors of the wholes, and of the places without the weight of their amounts."""
        amounts = torch.from_numpy(counts)
        whole, place = self._encoder(torch.from_numpy(self._stand_in[numbers]), amounts)
        share = amounts / amounts.sum(1, keepdim=True)
        return whole, place / share.clamp(min=1e-9).sqrt()[..., None]

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
