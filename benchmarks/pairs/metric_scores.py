"""What the learned metric says of a pair of compositions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from csp.library.library import Library
from csp.library.volume import VolumePrior
from generators.templates.composition_encoder import load_encoder
from generators.templates.entry_features import features
from generators.templates.prototypes import PrototypeIndex, equal_places

__all__ = ["SCORES", "Nearness", "calibrated"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Vectors = tuple[Tensor, Tensor]  # of the whole and of the places, as the encoder returns them

SCORES = ("kernel", "odds")
COMPARED_AT_ONCE = 6_000_000  # query × order × entry
LEAST = 1e-9  # probability; smaller ones are beyond float32


class Nearness:
    """Two scores of a pair, from the compositions and from the entries that a library shows.

    The *kernel* is that of the metric between the two compositions, elements in their places in every order.
    The *odds* are the logarithm of how much more probable it is that both have the same prototype than that
    they have two, compared with any two of the ratio, each prototype from the neighbours under the metric (as
    `generators.templates.metric_learning` ranks prototypes) and independent of the other's:

        ln Σ_p P(p | a) P(p | b) / π_p  −  ln (1 − Σ_p P(p | a) P(p | b)) / (1 − Σ_p π_p²)

    with π_p the share of a prototype in the entries of the ratio.
    """

    def __init__(
        self, library: Library, index: PrototypeIndex, weights: Path, device: torch.device | str = "cpu"
    ) -> None:
        """Read the metric.

        Args:
            library: The view that neighbours are taken from.
            index: Of its prototypes.
            weights: Of the metric.
        """
        self._library, self._index = library, index
        self._encoder = load_encoder(weights)[0].to(device)
        self._volume = VolumePrior.load()
        self._device = torch.device(device)

    @torch.no_grad()
    def scores(self, rows: Ints) -> Floats:
        """[P, 2] in the order of `SCORES`; rows [P, 2] of the library, hidden ones too."""
        numbers, counts = self._library.compositions(rows.ravel())
        ratios, ratio = np.unique(counts[::2], axis=0, return_inverse=True)
        found = np.empty((len(rows), len(SCORES)))
        for k, amounts in enumerate(ratios):
            anonymous = tuple(amounts[amounts > 0].tolist())
            mine = np.flatnonzero(ratio.reshape(-1) == k)
            pairs = np.stack([2 * mine, 2 * mine + 1], 1)
            elements, place = np.unique(numbers[pairs.ravel(), : len(anonymous)], axis=0, return_inverse=True)
            a, b = torch.from_numpy(place.reshape(-1, 2)).unbind(1)
            vectors = self._vectors(elements, anonymous)
            orders = torch.from_numpy(equal_places(anonymous)).to(self._device)
            kernel = self._encoder.compare(vectors, vectors, orders).logsumexp(1).cpu()
            found[mine, 0] = kernel[a, b]
            found[mine, 1] = _log_odds(*self._prototypes(vectors, orders, anonymous), a, b)
        return found

    def _prototypes(
        self, queries: Vectors, orders: Tensor, anonymous: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        """P [Q, m] and π [m] of the prototypes that the library shows of the ratio; float64 on the CPU."""
        prototypes = self._index.of(anonymous)
        entries = self._vectors(prototypes.elements, anonymous)
        own = features(self._library, prototypes, anonymous, self._volume).to(self._device)
        own = own @ self._encoder.evidence
        number = torch.from_numpy(prototypes.number).to(self._device)
        at_once = max(1, COMPARED_AT_ONCE // (len(orders) * len(number)))
        parts = []
        for chosen in torch.arange(len(queries[0])).split(at_once):
            some = queries[0][chosen], queries[1][chosen]
            said = (self._encoder.compare(some, entries, orders) + own).logsumexp(1).log_softmax(1)  # [Q, N]
            parts.append(said.new_zeros(len(said), len(prototypes)).index_add(1, number, said.exp()))
        entries_of = number.bincount(minlength=len(prototypes)).double()
        return torch.cat(parts).double().cpu(), (entries_of / entries_of.sum()).cpu()

    def _vectors(self, elements: Ints, anonymous: tuple[int, ...]) -> Vectors:
        numbers = torch.from_numpy(elements).to(self._device)
        return self._encoder(numbers, torch.tensor(anonymous, device=self._device).expand_as(numbers))


def _log_odds(shares: Tensor, frequency: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """[P]: the odds of `Nearness`, of the queries a and b [P] with shares [Q, m]."""
    both = shares[a] * shares[b]
    two = ((1.0 - both.sum(1)) / (1.0 - (frequency**2).sum()).clamp(min=LEAST)).clamp(min=LEAST)
    return (both / frequency).sum(1).clamp(min=LEAST).log() - two.log()


def calibrated(scores: Floats, similar: NDArray[np.bool_]) -> Callable[[Floats], Floats]:
    """Logistic regression of labels [P] on scores [P, S]: what makes log-odds [Q] of scores [Q, S]."""
    from scipy.optimize import minimize

    mean, scale = scores.mean(axis=0), scores.std(axis=0)
    x = np.column_stack([(scores - mean) / scale, np.ones(len(scores))])
    sign = np.where(similar, 1.0, -1.0)

    def loss(w: Floats) -> tuple[float, Floats]:
        margin = sign * (x @ w)
        slope = -sign / (1.0 + np.exp(np.clip(margin, -50.0, 50.0)))
        return float(np.logaddexp(0.0, -margin).mean()), slope @ x / len(x)

    w = minimize(loss, np.zeros(x.shape[1]), jac=True, method="BFGS").x
    return lambda some: (some - mean) / scale @ w[:-1] + w[-1]
