"""CSPML's classifier of pairs of compositions, by its recipe.

The absolute difference of standardised descriptors of two compositions into a network of three hidden layers
of 400, several of which are averaged (Kusaba, Liu and Yoshida, Comput. Mater. Sci. 211, 111496 (2022)).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["train_cspml"]

Floats = NDArray[np.float64]
Described = tuple[Floats, Floats]
"""Descriptors [P, D] of the first and of the second compositions of P pairs."""

MODELS = 5
WIDTH = 400
LR, BATCH = 1e-3, 512
EPOCHS, PATIENCE = 20, 3


def train_cspml(
    pairs: Described,
    similar: NDArray[np.bool_],
    validation: Described,
    validation_similar: NDArray[np.bool_],
    *,
    seed: int,
    device: torch.device,
    say: Callable[[str], None] = lambda text: None,
) -> Callable[[Described], Floats]:
    """Train, and return what gives the log-odds [P] that pairs are similar.

    Each network is taken from the epoch that is best on the validation pairs.
    """
    everything = np.vstack(pairs)
    scale = everything.std(axis=0)  # the mean drops out of differences
    scale[scale < 1e-12] = 1.0

    def differences(some: Described) -> Tensor:
        return torch.from_numpy(np.abs((some[0] - some[1]) / scale)).float().to(device)

    x, y = differences(pairs), torch.from_numpy(similar).float().to(device)
    x_validation, y_validation = (
        differences(validation),
        torch.from_numpy(validation_similar).float().to(device),
    )
    networks = []
    for k in range(MODELS):
        network, loss, epochs = _fit(x, y, x_validation, y_validation, seed + k)
        say(f"CSPML's network {k + 1} of {MODELS}: validation log loss {loss:.4f} after {epochs} epochs")
        networks.append(network)

    @torch.no_grad()
    def log_odds(some: Described) -> Floats:
        probability = torch.stack([torch.sigmoid(net(differences(some))[:, 0]) for net in networks]).mean(0)
        return torch.logit(probability.double(), eps=1e-9).cpu().numpy()

    return log_odds


def _fit(
    x: Tensor, y: Tensor, x_validation: Tensor, y_validation: Tensor, seed: int
) -> tuple[nn.Module, float, int]:
    """The network of the best epoch, its log loss on the validation pairs and the epochs."""
    torch.manual_seed(seed)
    widths = (x.shape[1], WIDTH, WIDTH, WIDTH)
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    network = nn.Sequential(*layers, nn.Linear(WIDTH, 1)).to(x.device)
    optimiser = torch.optim.Adam(network.parameters(), lr=LR)
    log_loss = nn.BCEWithLogitsLoss()
    best, best_network, best_epoch = float("inf"), network, 0
    for epoch in range(1, EPOCHS + 1):
        for rows in torch.randperm(len(x)).to(x.device).split(BATCH):
            optimiser.zero_grad()
            log_loss(network(x[rows])[:, 0], y[rows]).backward()
            optimiser.step()
        with torch.no_grad():
            loss = float(log_loss(network(x_validation)[:, 0], y_validation))
        if loss < best:
            best, best_network, best_epoch = loss, copy.deepcopy(network), epoch
        elif epoch - best_epoch >= PATIENCE:
            break
    return best_network, best, best_epoch
