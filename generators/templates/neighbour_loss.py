"""What the metric is trained on and for: compositions whose entries are one prototype are neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.training.splits import composition_name
from generators.templates.composition_encoder import CompositionEncoder
from generators.templates.entry_features import features
from generators.templates.prototypes import PrototypeIndex, Prototypes, equal_places

__all__ = ["Ratio", "anonymous_compositions", "neighbour_loss", "ratios"]


@dataclass(frozen=True, slots=True, eq=False)
class Ratio:
    """The n entries of one anonymous composition as training takes them.

    Attributes:
        elements: int [n, k], atomic numbers by the places of the prototype.
        counts: int [k].
        prototype: int [n].
        orders: int [P, k], exchanges of equal places.
        symmetric: bool [m, P], the orders that leave a prototype as it is.
        composition: int [n], number of the composition in `names`.
        names: list, see `csp.training.splits.composition_name`.
        ground_truth: float [n], probability that this entry is the ground truth of its composition.
        features: float [n, F], see `generators.templates.entry_features`.
    """

    elements: Tensor
    counts: Tensor
    prototype: Tensor
    orders: Tensor
    symmetric: Tensor
    composition: Tensor
    names: list[str]
    ground_truth: Tensor
    features: Tensor

    def __len__(self) -> int:
        return len(self.prototype)

    def take(self, rows: Tensor) -> Ratio:
        """These entries; prototypes and compositions keep their numbers."""
        return Ratio(
            self.elements[rows],
            self.counts,
            self.prototype[rows],
            self.orders,
            self.symmetric,
            self.composition[rows],
            self.names,
            self.ground_truth[rows],
            self.features[rows],
        )

    def to(self, device: torch.device) -> Ratio:
        return Ratio(
            self.elements.to(device),
            self.counts.to(device),
            self.prototype.to(device),
            self.orders.to(device),
            self.symmetric.to(device),
            self.composition.to(device),
            self.names,
            self.ground_truth.to(device),
            self.features.to(device),
        )


def anonymous_compositions(library: Library, min_entries: int = 1) -> list[tuple[int, ...]]:
    """Those of at least so many visible entries, the most frequent first."""
    _, counts = library.compositions(library.all_rows())
    found, n = np.unique(counts, axis=0, return_counts=True)
    order = np.argsort(-n, kind="stable")[: np.count_nonzero(n >= min_entries)]
    return [tuple(c for c in row if c) for row in found[order].tolist()]


def ratios(
    library: Library,
    index: PrototypeIndex,
    energies: Mapping[str, float],
    anonymous: Iterable[tuple[int, ...]],
    volume: VolumePrior,
) -> Iterator[Ratio]:
    """The anonymous compositions with at least two compositions, ready for training.

    Of a composition with known energies the lowest is the ground truth, of one without each entry is it with
    the same probability.

    Args:
        energies: eV/atom of entries by id.
    """
    for ratio in anonymous:
        prototypes = index.of(ratio)
        named = [composition_name(z, ratio) for z in prototypes.elements]
        names, composition = np.unique(named, return_inverse=True)
        if len(names) < 2:
            continue
        energy = np.array([energies.get(name, np.inf) for name in library.material_id[prototypes.rows]])
        yield Ratio(
            torch.from_numpy(prototypes.elements),
            torch.tensor(ratio),
            torch.from_numpy(prototypes.number),
            torch.from_numpy(orders := equal_places(ratio)),
            torch.from_numpy(_symmetric(prototypes, orders)),
            torch.from_numpy(composition.reshape(-1)),
            names.tolist(),
            torch.from_numpy(_ground_truth(composition.reshape(-1), energy)),
            features(library, prototypes, ratio, volume),
        )


def neighbour_loss(
    encoder: CompositionEncoder, queries: Ratio, entries: Ratio, vectors: Sequence[tuple[Tensor, Tensor]]
) -> Tensor:
    """float [Q]: −ln of the probability that the neighbours give to a query's prototype and placing; NaN
    for a query without a neighbour of its prototype.

    Neighbourhood components analysis (Goldberger, Roweis, Hinton and Salakhutdinov, NIPS 2004): each entry
    of another composition, in each order of its places, is a neighbour with a probability proportional to
    e^s; the probability of a prototype is the sum over its entries and over its symmetry.

    Args:
        vectors: The encoder's, of the queries and of the entries.
    """
    s = encoder.compare(vectors[0], vectors[1], entries.orders) + entries.features @ encoder.evidence
    own = queries.composition[:, None] == entries.composition  # [Q, N]
    s = s.masked_fill(own[:, None], -torch.inf)
    same = queries.prototype[:, None] == entries.prototype
    right = same[:, None] & entries.symmetric[queries.prototype][:, :, None] & ~own[:, None]
    found = right.flatten(1).any(1)
    everything = s.flatten(1)[found].logsumexp(1)
    hits = s.masked_fill(~right, -torch.inf).flatten(1)[found].logsumexp(1)
    loss = s.new_full((len(queries),), torch.nan)
    return loss.masked_scatter(found, everything - hits)


def _symmetric(prototypes: Prototypes, orders: np.ndarray) -> np.ndarray:
    place = {order: p for p, order in enumerate(map(tuple, orders.tolist()))}
    found = np.zeros((len(prototypes), len(orders)), bool)
    for number, symmetry in enumerate(prototypes.symmetry):
        found[number, [place[order] for order in map(tuple, symmetry.tolist())]] = True
    return found


def _ground_truth(composition: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """float32 [n]: the probability that each entry is the ground truth of its composition."""
    n = int(composition.max()) + 1
    lowest = np.full(n, np.inf)
    np.minimum.at(lowest, composition, energy)
    known = np.isfinite(lowest)[composition]
    share = 1.0 / np.bincount(composition, minlength=n)[composition]
    return np.where(known, (energy == lowest[composition]) & known, share).astype(np.float32)
