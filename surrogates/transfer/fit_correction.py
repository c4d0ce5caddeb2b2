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
scaled to the left-out errors. Told from few labels, σ is as wide as Student's distribution.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surrogates.transfer.regression import Block, Floats, Linear, fit_linear, folds
from surrogates.transformer.uncertainty import widening

__all__ = ["HEADS", "Head", "fit_head"]

HEADS = ("shift", "affine", "bayesian", "affine_model")
CENTRES = torch.linspace(-2.0, 2.0, 5, dtype=torch.float64)  # of the Gaussians, whose width is 1
LINEAR = {"shift": (0,), "affine": (0, 1), "bayesian": (0, 1, 3)}  # which of b, a, c, v, d
TURNS = 4
PARTS = 5
SETTLED = 1e-3  # eV/atom, between turns


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A fitted correction. Tensors are float64, for W features; P is the length of a row of `terms`.

    centre, spread  [W]     m and ς
    old             [W]     w
    scale           []      std(e), eV/atom
    b, a            []      eV/atom; none
    c               [5]     eV/atom
    v               [W]     eV/atom
    d               [5]
    factor          [P, P]  L of the weights' covariance LLᵀ; the noise is in that of b
    """

    centre: Tensor
    spread: Tensor
    old: Tensor
    scale: Tensor
    b: Tensor
    a: Tensor
    c: Tensor
    v: Tensor
    d: Tensor
    factor: Tensor

    @classmethod
    def of(cls, features: Tensor, old: Tensor) -> Head:
        """The one that changes nothing, for crystals with features [N, W]."""
        centre = features.mean(0)
        zero = features.new_zeros(())
        return cls(
            centre,
            features.std(0, correction=0).clamp(min=1e-6),
            old,
            ((features - centre) @ old).std(correction=0).clamp(min=1e-6),
            b=zero,
            a=zero,
            c=torch.zeros_like(CENTRES),
            v=torch.zeros_like(old),
            d=torch.zeros_like(CENTRES),
            factor=features.new_zeros(0, 0),
        )

    def to(self, device: torch.device) -> Head:
        return Head(*(getattr(self, field.name).to(device) for field in fields(self)))

    @property
    def is_linear(self) -> bool:
        return not bool(self.c.any() or self.d.any())

    def change(self, features: Tensor) -> Tensor:
        """float64 [B]: Δ, eV/atom, from mean features [B, W]."""
        e, k, phi = self._parts(features)
        return self.b + self.a * e + k @ self.c + (1.0 + k @ self.d) * (phi @ self.v)

    def sigma(self, features: Tensor) -> Tensor:
        """float64 [B]: one standard deviation, eV/atom."""
        return (torch.cat(self.terms(features), 1) @ self.factor).norm(dim=1)

    def terms(self, features: Tensor) -> list[Tensor]:
        """Derivatives [B, 1], [B, 1], [B, 5], [B, W], [B, 5] of Δ by b, a, c, v and d."""
        e, k, phi = self._parts(features)
        by_v, by_d = (1.0 + k @ self.d)[:, None] * phi, (phi @ self.v)[:, None] * k
        return [torch.ones_like(e)[:, None], e[:, None], k, by_v, by_d]

    def as_linear(self) -> tuple[Tensor, Tensor]:
        """For one that is linear in the features: the change of the last layer's weights and constant,
        [W + 1], and the factor [W + 1, P] of their covariance."""
        width = len(self.old)
        zero = self.old.new_zeros(1)
        directions = [
            torch.cat([torch.zeros_like(self.old), zero + 1.0])[:, None],
            torch.cat([self.old, -(self.centre @ self.old)[None]])[:, None],
            self.old.new_zeros(width + 1, len(CENTRES)),
            torch.cat([torch.diag(1.0 / self.spread), -(self.centre / self.spread)[None]]),
            self.old.new_zeros(width + 1, len(CENTRES)),
        ]
        by_weight = torch.cat(directions, 1)
        return by_weight @ torch.cat(
            [self.b[None], self.a[None], self.c, self.v, self.d]
        ), by_weight @ self.factor

    @property
    def weights(self) -> Tensor:
        """float64 [P]: b, a, c, v, d."""
        return torch.cat([self.b[None], self.a[None], self.c, self.v, self.d])

    def linear_part(self, features: Tensor) -> Tensor:
        """float64 [B]: v·φ."""
        return self._parts(features)[2] @ self.v

    def _parts(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """e [B], k [B, 5], φ [B, W]."""
        centred = features - self.centre
        e = centred @ self.old
        k = torch.exp(-0.5 * (e[:, None] / self.scale - CENTRES.to(e.device)) ** 2)
        return e, k, centred / self.spread


def fit_head(
    strategy: str, features: Tensor, change: Tensor, old: Tensor, groups: NDArray[np.int64]
) -> tuple[Head, Floats]:
    """The correction that the labels ask for, and what each label is off by, eV/atom [N], when its group
    (affine_model: one of five parts of the groups) is not fitted.

    features  float64 [N, W]  mean features of the labelled crystals
    change    float64 [N]     label minus old energy, eV/atom
    old       float64 [W]     the old weights of the last layer
    groups    [N]             labels of one group are left out together
    """
    if strategy != "affine_model":
        head, found = _fitted(Head.of(features, old), features, change, groups, LINEAR[strategy])
        return head, found.left_out
    head = _by_turns(features, change, old, groups)
    left_out, sigma = torch.zeros_like(change), torch.ones_like(change)
    for held in folds(groups, PARTS, seed=0):
        rest = np.setdiff1d(np.arange(len(groups)), held)
        other = _by_turns(features[rest], change[rest], old, groups[rest])
        left_out[held] = change[held] - other.change(features[held])
        sigma[held] = other.sigma(features[held])
    scale = (left_out / sigma).square().mean().sqrt() * widening(len(left_out))
    return replace(head, factor=head.factor * scale), left_out.numpy()


def _by_turns(features: Tensor, change: Tensor, old: Tensor, groups: NDArray[np.int64]) -> Head:
    """All weights, v and d by turns; the covariance is that of all but d."""
    head = Head.of(features, old)
    for _ in range(TURNS):
        before = head.change(features)
        head, _ = _fitted(head, features, change, groups, (0, 1, 2, 3))
        head, _ = _fitted(head, features, change - head.linear_part(features), groups, (0, 1, 2, 4))
        if float((head.change(features) - before).abs().max()) < SETTLED:
            break
    return _fitted(head, features, change, groups, (0, 1, 2, 3))[0]


def _fitted(
    head: Head, features: Tensor, change: Tensor, groups: NDArray[np.int64], used: tuple[int, ...]
) -> tuple[Head, Linear]:
    """The head with some of b, a, c, v, d (by their place) fitted, the others as they are."""
    size = 0.1 * max(float(change.std(correction=0)), 1e-3)
    widths = (None, 0.3, size, size, 0.3)  # first guesses for b, a, c, v, d
    terms = head.terms(features)
    found = fit_linear([Block(terms[k].numpy(), widths[k]) for k in used], change.numpy(), groups)
    return _weighted(head, used, found), found


def _weighted(head: Head, used: tuple[int, ...], found: Linear) -> Head:
    """With other weights of the used terms, and their covariance."""
    sizes = [1, 1, len(head.c), len(head.v), len(head.d)]
    weights = head.weights.numpy().copy()
    rows = np.concatenate([sum(sizes[:k]) + np.arange(sizes[k]) for k in used])
    weights[rows] = found.weights
    covariance = np.zeros((len(weights), len(weights)))
    covariance[np.ix_(rows, rows)] = found.covariance
    covariance[0, 0] += found.noise**2
    covariance *= widening(found.freedom) ** 2
    values, vectors = np.linalg.eigh(0.5 * (covariance + covariance.T))
    b, a, c, v, d = torch.from_numpy(weights).split(sizes)
    return replace(
        head,
        b=b[0],
        a=a[0],
        c=c,
        v=v,
        d=d,
        factor=torch.from_numpy(vectors * np.sqrt(np.maximum(values, 0.0))),
    )
