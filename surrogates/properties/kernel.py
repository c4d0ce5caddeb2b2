"""Gaussian-process regression on a source's values and features: what few values are best learned by.

The covariance of the learned y of two crystals is a sum,

    k(h, h') = free constant + a² s·s' + Σ_j b_j² exp(−|h_j − h'_j|² / 2 l_j²),

s the values that the source's models give, h_j its blocks of features (those of its encoder; the surrogate's
own), each block scaled to a mean squared length of 1 over the data. So what is
proportional to a known property is found at once, what is not from crystals that are alike, and far from the
data nothing is claimed: σ grows to what it was before there were any. Amplitudes, lengths and noise are the
most probable by the evidence (C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning,
2006, §2.2 and 5.4), with a weak pull to where they start. Errors on values left out are in closed form
(§5.4.2, here of groups).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surrogates.transformer.uncertainty import with_constant

__all__ = ["KernelRegression", "fit_kernel", "surprise"]

FLAT = 10.0  # prior variance of the constant, of standardised values
NOISE, AMPLITUDE, LENGTH = 0.5, 0.7, 1.0  # where they are sought from, likewise
LOOSE = 1.5  # standard deviation, in ln, of the prior of all of these around there
BOUNDS = (-7.0, 2.3)  # of their logarithms
TINY = 1e-9  # spread of what does not vary
NOTHING_KNOWN = 0.9  # of the prior variance left open: there the data say nothing; see `leverage`
ROWS = 4096  # at once


@dataclass(frozen=True, eq=False)
class KernelRegression:
    """y = f(h) with f a Gaussian process that has seen N values; beside `LastLayer` it is the other end of
    a model.

    Attributes:
        rows: float64 [N, H], features of what was learned from.
        y: float64 [N], as learned.
        counted: float64 [N], how much each value counts: its noise is the noise by that.
        values: float64 [H + 1, S], last layers whose values the y may be proportional to.
        blocks: Numbers of features of one origin, H in all.
        parameters: float64 [2 + 2 J]: logarithms of noise, a, and of b and l of each block.
        q68, q95: by what to multiply σ so that so many per cent of left-out errors are within.
    """

    rows: Tensor
    y: Tensor
    counted: Tensor
    values: Tensor
    blocks: tuple[int, ...]
    parameters: Tensor
    q68: float = 1.0
    q95: float = 2.0

    def mean(self, h: Tensor) -> Tensor:
        """float64 [B], from features [B, H]."""
        middle, size = self._standard
        weight = self._weight.to(h.device)
        return torch.cat([self._to(part) @ weight for part in h.split(ROWS)]) * size + middle

    def open(self, h: Tensor) -> Tensor:
        """float64 [B]: the variance of f that the values leave open."""
        return torch.cat([self._open(part) for part in h.split(ROWS)]) * self._standard[1] ** 2

    @property
    def noise(self) -> float:
        """σ that no further value would take away."""
        return float(self.parameters[0].exp()) * self._standard[1]

    @cached_property
    def leverage(self) -> float:
        """What `open` is divided by to tell how far something lies outside the data: its mean over the
        values, each left out; but so small that "outside" is where nearly all is open, as far from all data.
        """
        inverse = torch.cholesky_inverse(self._factor)
        left_open = 1.0 / inverse.diagonal() - self._noises
        most = NOTHING_KNOWN / 3.0 * float(self._prior(self._scaled(self.rows)).mean())
        return max(min(float(left_open.mean()), most), 1e-12) * self._standard[1] ** 2

    def left_out(self, groups: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """float64 [N] each, with the parameters as they are: error (predicted minus y) and σ, noise included,
        of each value when its group was not learned from."""
        middle, size = self._standard
        inverse = torch.cholesky_inverse(self._factor)
        weight = inverse @ ((self.y - middle) / size)
        error, variance = torch.empty_like(weight), torch.empty_like(weight)
        for group in np.unique(groups):
            own = torch.from_numpy(np.flatnonzero(groups == group))
            covariance = torch.linalg.inv(inverse[own[:, None], own])
            error[own], variance[own] = -covariance @ weight[own], covariance.diagonal()
        return error * size, variance.sqrt() * size

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> KernelRegression:
        """What `tensors` gave."""
        blocks = tuple(tensors["blocks"].tolist())
        rows, y, counted, values, parameters = (
            tensors[key].double() for key in ("rows", "y", "counted", "values", "parameters")
        )
        return cls(rows, y, counted, values, blocks, parameters, *tensors["numbers"].double().tolist())

    def tensors(self) -> dict[str, Tensor]:
        """All that it consists of, in single precision."""
        found = {key: getattr(self, key).float() for key in ("rows", "y", "counted", "values", "parameters")}
        return {
            **found, "blocks": torch.tensor(self.blocks), "numbers": torch.tensor([self.q68, self.q95])
        }  # fmt: skip

    def linear(self) -> Tensor:
        """float64 [H + 1]: the last layer that has the same values on what was learned from, as the smallest
        weights on the first block of features give them: what another model can begin with."""
        h, of_rows = self.rows[:, : self.blocks[0]], self.mean(self.rows)
        centre = h.mean(0)
        weight = torch.zeros(len(self.values), dtype=torch.float64)
        weight[: self.blocks[0]] = torch.linalg.pinv(h - centre, rtol=1e-3) @ (of_rows - of_rows.mean())
        weight[-1] = of_rows.mean() - centre @ weight[: self.blocks[0]]
        return weight

    @cached_property
    def _standard(self) -> tuple[float, float]:
        """Mean and spread of y."""
        return float(self.y.mean()), max(float(self.y.std(correction=0)), TINY)

    @cached_property
    def _scales(self) -> list[tuple[Tensor, Tensor]]:
        """Centre and scale of each part; the source's values differ in unit, features of a block do not."""
        values, *blocks = self._parts(self.rows)
        spread = values.std(0, correction=0).clamp(min=TINY) * values.shape[1] ** 0.5
        lengths = [((block - block.mean(0)) ** 2).sum(1).mean().sqrt().clamp(min=TINY) for block in blocks]
        return [(values.mean(0), spread), *((b.mean(0), n) for b, n in zip(blocks, lengths, strict=True))]

    def _parts(self, h: Tensor) -> list[Tensor]:
        """The source's values [B, S] and the blocks [B, …] of features [B, H]."""
        return [with_constant(h) @ self.values.to(h.device), *h.double().split(self.blocks, 1)]

    def _scaled(self, h: Tensor) -> list[Tensor]:
        scales = [(centre.to(h.device), spread.to(h.device)) for centre, spread in self._scales]
        parts = zip(self._parts(h), scales, strict=True)
        return [(part - centre) / spread for part, (centre, spread) in parts]

    @cached_property
    def _learned(self) -> list[Tensor]:
        return self._scaled(self.rows)

    @cached_property
    def _noises(self) -> Tensor:
        """float64 [N], variances."""
        return (self.parameters[0].exp() / self.counted) ** 2

    @cached_property
    def _factor(self) -> Tensor:
        """float64 [N, N], lower: Cholesky's of the covariance of the values."""
        return torch.linalg.cholesky(self._to(self.rows) + self._noises.diag())

    @cached_property
    def _weight(self) -> Tensor:
        """float64 [N]."""
        middle, size = self._standard
        return torch.cholesky_solve(((self.y - middle) / size)[:, None], self._factor)[:, 0]

    def _to(self, h: Tensor) -> Tensor:
        """float64 [B, N]: covariance of f at features [B, H] with f at what was learned from."""
        learned = [part.to(h.device) for part in self._learned]
        pairs = _pairs(self._scaled(h), learned)
        return FLAT + torch.stack(_terms(pairs, self.parameters.tolist())).sum(0)

    def _prior(self, scaled: list[Tensor]) -> Tensor:
        """float64 [B]: the variance of f before there were values, the constant aside."""
        amplitude = (2.0 * self.parameters).exp().tolist()
        return amplitude[1] * (scaled[0] ** 2).sum(1) + sum(amplitude[2::2])

    def _open(self, h: Tensor) -> Tensor:
        known = torch.linalg.solve_triangular(self._factor.to(h.device), self._to(h).T, upper=False)
        return (FLAT + self._prior(self._scaled(h)) - (known**2).sum(0)).clamp(min=0.0)


def _pairs(one: list[Tensor], other: list[Tensor]) -> list[Tensor]:
    """float64 [B, N] each: products of the source's values, and squared distances in each block."""
    products = [a @ b.T for a, b in zip(one, other, strict=True)]
    squares = [((a**2).sum(1), (b**2).sum(1)) for a, b in zip(one, other, strict=True)]
    distances = [
        (a[:, None] + b - 2.0 * ab).clamp(min=0.0) for ab, (a, b) in zip(products, squares, strict=True)
    ]
    return [products[0], *distances[1:]]


def _terms(pairs: list[Tensor], parameters: list[float]) -> list[Tensor]:
    """The terms of the covariance, the constant aside."""
    log_b, log_l = parameters[2::2], parameters[3::2]
    blocks = zip(pairs[1:], log_b, log_l, strict=True)
    near = [np.exp(2.0 * b) * torch.exp(-0.5 * np.exp(-2.0 * l) * d) for d, b, l in blocks]
    return [np.exp(2.0 * parameters[1]) * pairs[0], *near]


def fit_kernel(
    h: Tensor,
    y: Tensor,
    values: Tensor,
    blocks: Sequence[int],
    counted: Tensor | None = None,
    begin: Tensor | None = None,
) -> KernelRegression:
    """The regression with the most probable parameters.

    Args:
        h: float [N, H]. It, y and the values are taken as they can be written down, in single precision.
        y: float64 [N].
        values: float64 [H + 1, S].
        counted: float64 [N], how much each value counts; None: 1.
        begin: Parameters to seek from; None: those that they are pulled to.
    """
    from scipy.optimize import minimize

    counted = torch.ones_like(y) if counted is None else counted
    start = np.log([NOISE, AMPLITUDE, *[AMPLITUDE, LENGTH] * len(blocks)])
    h, y, counted, values = (one.float().double() for one in (h, y, counted, values))
    begun = KernelRegression(h, y, counted, values, tuple(blocks), torch.from_numpy(start))
    pairs = _pairs(begun._learned, begun._learned)
    target = (y - begun._standard[0]) / begun._standard[1]

    def pulled(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = surprise(parameters, pairs, target, counted)
        away = (parameters - start) / LOOSE
        return value + 0.5 * float(away @ away), gradient + away / LOOSE

    first = start if begin is None else begin.numpy().clip(*BOUNDS)
    best = minimize(pulled, first, jac=True, method="L-BFGS-B", bounds=[BOUNDS] * len(start))
    return replace(begun, parameters=torch.from_numpy(best.x).float().double())


def surprise(
    parameters: NDArray[np.float64], pairs: list[Tensor], y: Tensor, counted: Tensor
) -> tuple[float, NDArray[np.float64]]:
    """−ln p(y) of standardised y [N] with these parameters, constants aside; and its gradient.

    Args:
        pairs: float64 [N, N] each, see `_pairs`.
    """
    noises = float(np.exp(2.0 * parameters[0])) / counted**2
    terms = _terms(pairs, parameters.tolist())
    factor = torch.linalg.cholesky(FLAT + torch.stack(terms).sum(0) + noises.diag())
    inverse = torch.cholesky_inverse(factor)
    weight = inverse @ y
    value = factor.diagonal().log().sum() + 0.5 * y @ weight
    by_covariance = inverse - weight[:, None] * weight  # twice the derivative
    gradient = [by_covariance.diagonal() @ noises, (by_covariance * terms[0]).sum()]
    for distance, term, log_length in zip(pairs[1:], terms[1:], parameters[3::2], strict=True):
        along = by_covariance * term
        gradient += [along.sum(), 0.5 * float(np.exp(-2.0 * log_length)) * (along * distance).sum()]
    return float(value), torch.stack(gradient).numpy()
