"""Bayesian linear regression that finds its own prior widths and noise, with left-out errors in closed form.

Bishop, Pattern Recognition and Machine Learning (2006), §3.3–3.5: the widths and the noise are those that
make the labels most probable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

__all__ = ["Block", "Floats", "Linear", "fit_linear", "folds"]

Floats = NDArray[np.float64]

FLAT = 1e3  # prior width of what is free
LOOSE = 3.0  # standard deviation, in ln, of the prior of widths and noise around where they start
SMALLEST, LARGEST = 1e-5, 10.0  # of widths and noise


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Columns [N, p] of a design whose weights share one prior width; it is sought from `width` on.

    Attributes:
        columns: [N, p].
        width: None leaves the weights free.
    """

    columns: Floats
    width: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """y ≈ Φ w with Gaussian uncertainty of w.

    Attributes:
        weights: [P].
        covariance: [P, P].
        noise: One standard deviation of what Φ w leaves unexplained.
        left_out: [N], residuals y − Φ w of each label when its group was not fitted.
        freedom: Labels less free weights: what the common scale of noise and widths is found from.
    """

    weights: Floats
    covariance: Floats
    noise: float
    left_out: Floats
    freedom: int

    @property
    def error(self) -> float:
        """Mean absolute left-out residual."""
        return float(np.abs(self.left_out).mean())


def fit_linear(blocks: Sequence[Block], y: Floats, groups: NDArray[np.int64]) -> Linear:
    """Regression of y [N] on the blocks' columns, P in all, side by side.

    groups [N]: labels of one group are left out together. The widths and the noise are those found with
    all labels.
    """
    design = np.hstack([block.columns for block in blocks])
    n = len(y)
    gram, moment, power = design.T @ design, design.T @ y, float(y @ y)
    free = [block.width is None for block in blocks]
    kind = np.repeat(np.arange(len(blocks)), [block.columns.shape[1] for block in blocks])

    def prior(log_widths: Floats) -> Floats:
        """Prior precisions [P]."""
        widths = np.full(len(blocks), FLAT)
        widths[~np.array(free)] = np.exp(log_widths)
        return np.asarray(1.0 / widths[kind] ** 2)

    def surprise(parameters: Floats) -> tuple[float, Floats]:
        """−ln p(y), constants aside, of noise² I + Φ Λ⁻¹ Φᵀ through its P × P form; and its gradient."""
        noise2, precision = np.exp(2.0 * parameters[0]), prior(parameters[1:])
        factor = cho_factor(gram / noise2 + np.diag(precision), lower=True)
        inverse = cho_solve(factor, np.eye(len(gram)))
        mean = inverse @ moment / noise2
        log_det = 2.0 * np.log(np.diag(factor[0])).sum() - np.log(precision).sum() + n * np.log(noise2)
        squared = power - 2.0 * moment @ mean + mean @ gram @ mean  # of the residuals
        by_width = 1.0 - precision * (np.diag(inverse) + mean**2)  # each weight's share
        gradient = [
            n - ((inverse * gram).sum() + squared) / noise2,
            *(by_width[kind == k].sum() for k in range(len(blocks)) if not free[k]),
        ]
        value = 0.5 * (log_det + (power - moment @ mean) / noise2)
        return float(value), np.array(gradient)

    few = n < design.shape[1]
    kernels = [block.columns @ block.columns.T for block in blocks if block.width is not None] if few else []
    unbound = np.hstack([np.zeros((n, 0)), *(block.columns for block in blocks if block.width is None)])

    def surprise_of_few(parameters: Floats) -> tuple[float, Floats]:
        """The same through its N × N form, for fewer labels than columns; what is free is projected out."""
        noise2, widths2 = np.exp(2.0 * parameters[0]), np.exp(2.0 * parameters[1:])
        total = noise2 * np.eye(n) + sum(w * k for w, k in zip(widths2, kernels, strict=True))
        factor = cho_factor(total, lower=True)
        inverse = cho_solve(factor, np.eye(n))
        onto = inverse @ unbound
        across = unbound.T @ onto
        inverse -= onto @ np.linalg.solve(across, onto.T)
        alpha = inverse @ y
        gradient = [
            scale * float((inverse * k).sum() - alpha @ k @ alpha)
            for scale, k in zip([noise2, *widths2], [np.eye(n), *kernels], strict=True)
        ]
        log_det = np.log(np.diag(factor[0])).sum() + 0.5 * np.linalg.slogdet(across)[1]
        return float(log_det + 0.5 * y @ alpha), np.array(gradient)

    def pulled(parameters: Floats) -> tuple[float, Floats]:
        """A weak pull to sensible widths keeps what few labels leave open from running away."""
        value, gradient = (surprise_of_few if few else surprise)(parameters)
        away = (parameters - start) / LOOSE
        return value + 0.5 * float(away @ away), gradient + away / LOOSE

    begin = [0.5 * max(float(y.std()), 1e-3), *(b.width for b in blocks if b.width is not None)]
    start = np.log(np.clip(begin, SMALLEST, LARGEST))
    bounds = np.log([[10 * SMALLEST, LARGEST], *[[SMALLEST, LARGEST]] * (len(start) - 1)])
    best = minimize(pulled, start, jac=True, method="L-BFGS-B", bounds=bounds)
    noise = float(np.exp(best.x[0]))
    covariance = np.asarray(np.linalg.inv(gram / noise**2 + np.diag(prior(best.x[1:]))), np.float64)
    weights = np.asarray(covariance @ moment / noise**2, np.float64)
    hat = design @ covariance @ design.T / noise**2
    residual = y - design @ weights
    left_out = np.empty(n)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        left_out[rows] = np.linalg.solve(np.eye(len(rows)) - hat[np.ix_(rows, rows)], residual[rows])
    freedom = n - sum(block.columns.shape[1] for block in blocks if block.width is None)
    return Linear(weights, covariance, noise, left_out, freedom)


def folds(groups: NDArray[np.int64], n: int, seed: int) -> list[NDArray[np.int64]]:
    """Rows of each of n parts of about the same size, no group in two of them; fewer where there are fewer
    groups, none if there is only one."""
    names, sizes = np.unique(groups, return_counts=True)
    n = min(n, len(names))
    if n < 2:
        return []
    filled, part = np.zeros(n), dict[int, int]()
    shuffled = np.random.default_rng(seed).permutation(len(names))
    for k in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        part[int(names[k])] = int(filled.argmin())
        filled[part[int(names[k])]] += sizes[k]
    of = np.array([part[int(group)] for group in groups])
    return [np.flatnonzero(of == k) for k in range(n)]
