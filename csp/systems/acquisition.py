"""Which search is worth its time: by how much it may be expected to lower the hull.

The lowest crystal known of a composition lies d eV/atom above the hull of all others. A further search
tells two things that are not known: the energy by the model that the hull is of, where d is by another (an
error with standard deviation σ), and whether there is a lower crystal (with probability q, the share that the
searches so far have missed; by how much lower is taken for exponential with mean s). The hull is lowered by
max(0, −(d + σZ − X)), whose mean is the expected improvement of Bayesian optimisation (J. Močkus, 1975;
D. R. Jones et al., J. Glob. Optim. 13, 455 (1998)):

    (1 − q) G(d) + q [G(d) + s P(d + σZ < X)],   G(d) = σ φ(d/σ) − d Φ(−d/σ)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from csp.systems.compositions import Kind

__all__ = ["LEVELS", "LOWERED", "MISSED", "Level", "Outlook", "expected_gain", "prior", "spread"]


@dataclass(frozen=True, slots=True)
class Level:
    """How deep a search is.

    Attributes:
        name: quick (the surrogate alone), standard (with the model that ranks) or deep (and in rounds).
        cost: In units of a quick one.
        missed: Probability that the lowest crystal has been missed by it, where the search does not tell.
    """

    name: str
    cost: float
    missed: float


LEVELS = (Level("quick", 1.0, 0.3), Level("standard", 4.0, 0.12), Level("deep", 10.0, 0.1))
"""Of 35 held-out compositions a standard search misses four, and one with a third of the work about ten
(`benchmarks/results`). The costs are rounded, so that all machines choose alike."""

MISSED = 0.3  # of a composition that the library knows and nobody has searched
LOWERED = 0.03  # eV/atom, by how much a crystal that was missed is lower, in the mean
PRIOR: dict[Kind, float] = {"balanced": 0.02, "possible": 0.05, "ratio": 0.10, "other": 0.20}
PRIOR_SIGMA = 0.08
"""eV/atom above the hull that the lowest crystals of compositions lie, before any is known."""
WEIGHT = 3.0  # observations that a prior counts for


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of a composition before its next search.

    Attributes:
        distance: d, eV/atom above the hull of all that is known; below it negative.
        sigma: σ, eV/atom, of what the next search will say of the same crystal.
        missed: q, the probability that there is a lower crystal.
    """

    distance: float
    sigma: float
    missed: float

    @property
    def gain(self) -> float:
        """eV/atom by which the next search is expected to lower the hull here."""
        return expected_gain(max(0.0, self.distance), self.sigma, self.missed, LOWERED)


def expected_gain(distance: float, sigma: float, missed: float, lowered: float) -> float:
    """The mean of max(0, −(d + σZ − X)), eV/atom; see the head of this file.

    Args:
        distance: d.
        sigma: σ, at least 0.
        missed: q, 0 to 1: X is exponential with this probability, else 0.
        lowered: s, the mean of X where it is not 0, more than 0.
    """
    if sigma <= 0:
        return missed * lowered * math.exp(-max(distance, 0.0) / lowered) + max(0.0, -distance)
    from scipy.special import log_ndtr, ndtr

    z = distance / sigma
    alone = sigma * math.exp(-z * z / 2) / math.sqrt(2 * math.pi) - distance * float(ndtr(-z))
    ratio = sigma / lowered
    tail = math.exp(-distance / lowered + ratio * ratio / 2 + float(log_ndtr(z - ratio)))
    return alone + missed * lowered * (float(ndtr(-z)) + tail)


def prior(kind: Kind, seen: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation, eV/atom, of the distance of a composition that was not searched.

    Args:
        kind: Of the composition.
        seen: Distances of those of its kind that were.
    """
    mean = (WEIGHT * PRIOR[kind] + sum(seen)) / (WEIGHT + len(seen))
    squares = WEIGHT * PRIOR_SIGMA**2 + sum((d - mean) ** 2 for d in seen)
    return mean, math.sqrt(squares / (WEIGHT + len(seen)))


def spread(told: float, differences: Sequence[float]) -> float:
    """σ, eV/atom, from what the first model says of itself and from how far the second was off it so far.

    Args:
        told: The first model's own σ.
        differences: Distances from the hull by the second minus those by the first.
    """
    squares = WEIGHT * told**2 + sum(d * d for d in differences)
    return math.sqrt(squares / (WEIGHT + len(differences)))
