"""Learning few values by kernel regression: values at a bound, outliers, and how wide the intervals are.

Where many values are equal to the smallest, as band gaps of metals are, it is a bound: they tell only that
what is learned is there or below (J. Tobin, Econometrica 26, 24, 1958). In their place stands what the values
around lead to expect of them below the bound. A value far from the rest counts less, as by an error that
has Student's distribution (C. Liu, D. B. Rubin, Statistica Sinica 5, 19, 1995). Both are found in turns with
the regression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surrogates.properties.kernel import KernelRegression, fit_kernel

__all__ = ["COUNTED_FROM", "FewLearned", "bound", "learn", "quantiles"]

FREEDOM = 4.0  # of Student's distribution of errors
TURNS, STEPS = 3, 8  # fits, and corrections of values and weights between two
COUNTED_FROM = 40  # values from which on errors as rare as 1 in 20 are counted
AT_BOUND, SHARE, COMMONER = 3, 0.1, 3  # so many values, such a share, so many times as many as of any other


@dataclass(frozen=True, slots=True, eq=False)
class FewLearned:
    """What was learned, of N values.

    Attributes:
        left_out: float64 [N], predicted minus y, of each value when its group was not learned from.
        surprise: −ln p of the values left out, in the unit of y: what scales are compared by.
    """

    last: KernelRegression
    left_out: Tensor
    surprise: float


def bound(value: Tensor) -> float | None:
    """The smallest of the values [N], if it is a bound that many are at."""
    found, count = value.unique(return_counts=True)
    least, others = int(count[0]), int(count[1:].max()) if len(count) > 1 else 0
    return float(found[0]) if least >= max(AT_BOUND, SHARE * len(value), COMMONER * others) else None


def learn(
    h: Tensor,
    y: Tensor,
    values: Tensor,
    blocks: Sequence[int],
    groups: NDArray[np.int64],
    *,
    lowest: float | None = None,
    counted: Tensor | None = None,
) -> FewLearned:
    """Kernel regression of y [N] on features h [N, H], see `fit_kernel`.

    Args:
        groups: [N]: values of one group are left out together.
        lowest: The y of a bound that values are at; None: there is none.
        counted: float64 [N], how much each value counts, by its σ; None: 1.
    """
    from scipy.stats import t

    counted = torch.ones_like(y) if counted is None else counted
    found = fit_kernel(h, y, values, blocks, counted)
    for _ in range(TURNS - 1):
        for _ in range(STEPS):
            found = replace(found, y=_below(found, y, lowest), counted=counted * _trust(found, counted))
        found = fit_kernel(h, found.y, values, blocks, found.counted, found.parameters)
    error, sigma = found.left_out(groups)
    # what is told of a new value: it counts as one does in the mean
    sigma = (sigma**2 + found.noise**2 * (1.0 - 1.0 / found.counted**2)).clamp(min=0.0).sqrt()
    predicted = found.y + error
    left_out = (predicted if lowest is None else predicted.clamp(min=lowest)) - y
    ratio = (left_out / sigma).abs()
    surprise = float(sigma.log().sum() - t.logpdf(ratio.numpy(), FREEDOM).sum())
    q68, q95 = quantiles(ratio)
    return FewLearned(replace(found, q68=q68, q95=q95), left_out, surprise)


def _below(found: KernelRegression, y: Tensor, lowest: float | None) -> Tensor:
    """The y, those at the bound half way to their mean below it as the others foretell it."""
    if lowest is None:
        return y
    from scipy.stats import norm

    error, sigma = found.left_out(np.arange(len(y)))
    mean = found.y + error
    away = ((lowest - mean) / sigma).numpy()
    ratio = np.exp(norm.logpdf(away) - norm.logcdf(away))  # of density and probability, far out too
    expected = 0.5 * (found.y + mean - sigma * torch.from_numpy(ratio))
    return torch.where(y <= lowest, expected, y).float().double()


def _trust(found: KernelRegression, counted: Tensor) -> Tensor:
    """float64 [N]: how much less each value counts for its distance from what was learned."""
    away = (found.mean(found.rows) - found.y) * counted / found.noise
    return ((FREEDOM + 1.0) / (FREEDOM + away**2)).sqrt()


def quantiles(ratio: Tensor) -> tuple[float, float]:
    """What holds 68 and 95 % of one more among these |errors| by σ [N] (conformal prediction); of few,
    the second is no less by the first than Student's distribution has it."""
    from scipy.stats import t

    n = len(ratio)
    q68, q95 = (float(torch.quantile(ratio, min((n + 1) / n * q, 1.0))) for q in (0.6827, 0.9545))
    if n < COUNTED_FROM:
        q95 = max(q95, q68 * float(t.ppf(0.97725, FREEDOM) / t.ppf(0.84134, FREEDOM)))
    return q68, q95
