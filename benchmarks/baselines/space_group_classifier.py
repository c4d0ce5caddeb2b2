"""The space group by a plain network on descriptors of the composition: a reference for the learned model.

As published classifiers do it (CRYSPNet, Liang et al., Phys. Rev. Mater. 4, 123802 (2020)): tabulated
properties of the elements, their statistics over the composition, two hidden layers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.baselines.descriptors import descriptors

__all__ = ["train_classifier"]

WIDTH = 256
LR, BATCH = 1e-3, 512
EPOCHS, PATIENCE = 12, 2

Ints = NDArray[np.int64]
Compositions = tuple[Ints, Ints]
"""Atomic numbers and coprime amounts, [N, k] each; amount 0 pads."""


def train_classifier(
    compositions: Compositions, group: Ints, validation: Compositions, validation_group: Ints, *, seed: int
) -> Callable[[Compositions], NDArray[np.float64]]:
    """Train on N crystals of these compositions and space groups [N].

    Returns:
        What gives ln p of the groups [..., 231]. The network is that of the epoch that is best on the
        validation crystals.
    """
    raw = _raw(compositions)
    mean, scale = raw.mean(0), raw.std(0).clamp(min=1e-6)

    def described(some: Compositions) -> Tensor:
        return (_raw(some) - mean) / scale

    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(raw.shape[1], WIDTH),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(WIDTH, WIDTH),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(WIDTH, 231),
    )
    x, y = (raw - mean) / scale, torch.from_numpy(group)
    x_validation, y_validation = described(validation), torch.from_numpy(validation_group)
    optimiser = torch.optim.Adam(network.parameters(), lr=LR)
    best, best_network, since = float("inf"), network, 0
    for _ in range(EPOCHS):
        network.train()
        for rows in torch.randperm(len(x)).split(BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimiser.step()
        with torch.no_grad():
            loss = float(nn.functional.cross_entropy(network.eval()(x_validation), y_validation))
        if loss < best:
            best, best_network, since = loss, copy.deepcopy(network), 0
        elif (since := since + 1) > PATIENCE:
            break

    @torch.no_grad()
    def log_p(some: Compositions) -> NDArray[np.float64]:
        return best_network(described(some)).log_softmax(-1).double().numpy()

    return log_p


def _raw(some: Compositions) -> Tensor:
    """float32 [N, D]: the descriptors, and the amounts themselves, sorted, as logarithms."""
    numbers, counts = some
    amounts = np.log1p(-np.sort(-counts, axis=1))
    return torch.from_numpy(np.hstack([descriptors(numbers, counts), amounts])).float()
