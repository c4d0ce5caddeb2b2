"""How well a model orders the crystals of one composition, and how sure the mean over compositions is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LOW", "MIN_LOW", "Ordered", "interval", "ordered"]

LOW = 0.3  # eV/atom above the teacher's best: where a search decides
MIN_LOW = 5  # crystals that an order is worth asking for
RESAMPLES = 1000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ordered:
    """One composition.

    Attributes:
        tau: Kendall's τ_b between the model's and the teacher's energies.
        tau_low: The same among the n_low crystals within 0.3 eV/atom of the teacher's best; None below 5.
        best_at: The teacher's best crystal's rank by the model, counted from 1; behind all it ties with.
    """

    tau: float
    tau_low: float | None
    n_low: int
    best_at: int


def ordered(scores: Floats, teacher: Floats) -> Ordered:
    """Compare scores [N], lower is better, with the teacher's energies per atom [N], eV."""
    low = teacher <= teacher.min() + LOW
    best = int(teacher.argmin())
    return Ordered(
        tau=_tau(scores, teacher),
        tau_low=_tau(scores[low], teacher[low]) if low.sum() >= MIN_LOW else None,
        n_low=int(low.sum()),
        best_at=int((scores <= scores[best]).sum()),
    )


def _tau(scores: Floats, teacher: Floats) -> float:
    """0 where the scores are all the same: an order that says nothing."""
    from scipy.stats import kendalltau

    tau = float(kendalltau(scores, teacher).statistic)
    return tau if np.isfinite(tau) else 0.0


def interval(
    values: Floats,
    groups: NDArray[Any] | None = None,
    statistic: Callable[[Floats], Any] = np.mean,
    *,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a statistic of values [N] (Efron, Ann. Stat. 7, 1, 1979).

    groups [N]: values of one group (composition) are drawn together; None: each for itself.
    """
    _, member = np.unique(np.arange(len(values)) if groups is None else groups, return_inverse=True)
    order = np.argsort(member, kind="stable")
    counts = np.bincount(member)
    first = np.cumsum(counts) - counts
    rng = np.random.default_rng(seed)
    found = np.empty(RESAMPLES)
    for k in range(RESAMPLES):
        drawn = rng.integers(len(counts), size=len(counts))
        lengths = counts[drawn]
        shift = np.repeat(first[drawn] - (np.cumsum(lengths) - lengths), lengths)
        found[k] = statistic(values[order[np.arange(lengths.sum()) + shift]])
    low, high = np.percentile(found, [2.5, 97.5], method="nearest")
    return float(low), float(high)
