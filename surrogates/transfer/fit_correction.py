"""Corrections of a surrogate's energies that are fitted to few labels, as functions of its last features.

With f̄ [W] the mean features of a crystal's atoms, w the old weights of the last layer, e = w·(f̄ − m) the
old energy per atom up to a constant and φ = (f̄ − m)/ς, all strategies add to the energy per atom some of

    Δ = b + a e + k(s)·c + (1 + k(s)·d) (v·φ)

    shift          b
    affine         b, a
    bayesian       b, a, v
    affine_model   all: affine model transfer, g₁(f) + g₂(f) g₃(x) (Minami et al., arXiv:2210.09745, eq. 1)
                   with the old energy as the source's feature f and φ as the input x

k are five Gaussians of s = e/std(e), which decay where no label is near. The weights have Gaussian priors
around "no change" and b is free (`surrogates.transfer.regression`). For affine_model, which is bilinear in v
and d, those are fitted by turns until both stay (Minami et al., algorithm 1), σ is that of all weights but d,
scaled to the left-out errors. From few labels, σ is as wide as Student's distribution.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surrogates.transfer.regression import Block, Floats, Linear, fit_linear, folds
from surrogates.transformer.correction import LastLayerCorrection
from surrogates.transformer.uncertainty import widening

__all__ = ["LAST_LAYER", "fit_correction"]

LAST_LAYER = ("shift", "affine", "bayesian", "affine_model")
LINEAR = {"shift": (0,), "affine": (0, 1), "bayesian": (0, 1, 3)}  # which of b, a, c, v, d
TURNS = 4
PARTS = 5
SETTLED = 1e-3  # eV/atom, between turns


def fit_correction(
    strategy: str, features: Tensor, change: Tensor, old: Tensor, groups: NDArray[np.int64]
) -> tuple[LastLayerCorrection, Floats]:
    """The correction that the labels ask for, and what each label is off by, eV/atom [N], when its group
    (affine_model: one of five parts of the groups) is not fitted.

    Args:
        features: float64 [N, W], mean features of the labelled crystals.
        change: float64 [N], label minus old energy, eV/atom.
        old: float64 [W], the old weights of the last layer.
        groups: [N], labels of one group are left out together.
    """
    if strategy != "affine_model":
        correction, found = _fitted(
            LastLayerCorrection.of(features, old), features, change, groups, LINEAR[strategy]
        )
        return correction, found.left_out
    correction = _by_turns(features, change, old, groups)
    left_out, sigma = torch.zeros_like(change), torch.ones_like(change)
    for held in folds(groups, PARTS, seed=0):
        rest = np.setdiff1d(np.arange(len(groups)), held)
        other = _by_turns(features[rest], change[rest], old, groups[rest])
        left_out[held] = change[held] - other.change(features[held])
        sigma[held] = other.sigma(features[held])
    scale = (left_out / sigma).square().mean().sqrt() * widening(len(left_out))
    return replace(correction, factor=correction.factor * scale), left_out.numpy()


def _by_turns(
    features: Tensor, change: Tensor, old: Tensor, groups: NDArray[np.int64]
) -> LastLayerCorrection:
    """All weights, v and d by turns; the covariance is that of all but d."""
    correction = LastLayerCorrection.of(features, old)
    for _ in range(TURNS):
        before = correction.change(features)
        correction, _ = _fitted(correction, features, change, groups, (0, 1, 2, 3))
        correction, _ = _fitted(
            correction, features, change - correction.linear_part(features), groups, (0, 1, 2, 4)
        )
        if float((correction.change(features) - before).abs().max()) < SETTLED:
            break
    return _fitted(correction, features, change, groups, (0, 1, 2, 3))[0]


def _fitted(
    correction: LastLayerCorrection,
    features: Tensor,
    change: Tensor,
    groups: NDArray[np.int64],
    used: tuple[int, ...],
) -> tuple[LastLayerCorrection, Linear]:
    """The correction with some of b, a, c, v, d (by their place) fitted, the others as they are."""
    size = 0.1 * max(float(change.std(correction=0)), 1e-3)
    widths = (None, 0.3, size, size, 0.3)  # first guesses for b, a, c, v, d
    terms = correction.terms(features)
    found = fit_linear([Block(terms[k].numpy(), widths[k]) for k in used], change.numpy(), groups)
    return _weighted(correction, used, found), found


def _weighted(correction: LastLayerCorrection, used: tuple[int, ...], found: Linear) -> LastLayerCorrection:
    """With other weights of the used terms, and their covariance."""
    sizes = [1, 1, len(correction.c), len(correction.v), len(correction.d)]
    weights = correction.weights.numpy().copy()
    rows = np.concatenate([sum(sizes[:k]) + np.arange(sizes[k]) for k in used])
    weights[rows] = found.weights
    covariance = np.zeros((len(weights), len(weights)))
    covariance[np.ix_(rows, rows)] = found.covariance
    covariance[0, 0] += found.noise**2
    covariance *= widening(found.freedom) ** 2
    values, vectors = np.linalg.eigh(0.5 * (covariance + covariance.T))
    b, a, c, v, d = torch.from_numpy(weights).split(sizes)
    return replace(
        correction,
        b=b[0],
        a=a[0],
        c=c,
        v=v,
        d=d,
        factor=torch.from_numpy(vectors * np.sqrt(np.maximum(values, 0.0))),
    )
