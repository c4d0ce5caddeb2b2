"""Weights of the evidence of a pattern, and how right the probabilities are that they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.optimize import minimize

from benchmarks.xrd.simulated import Case
from csp.diffraction.pattern import Floats
from csp.diffraction.probability import EVIDENCE, PatternProbability, evidence

__all__ = ["Judged", "fit_probability", "judge", "reliability"]

PROPOSED = 0.8  # how often the measured crystal is taken to be among those that are compared
RIDGE = 0.05
BINS = (0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 1.0)


@dataclass(frozen=True, slots=True)
class Judged:
    """A case by weights that were fitted without it.

    Attributes:
        behind: The crystals before the right one by probability, or as probable.
        with_it: float [R], the probabilities of all, the right one first.
        without_it: float [R - 1], those of the others, had the right one not been proposed.
    """

    behind: set[int]
    with_it: Floats
    without_it: Floats

    @property
    def rank(self) -> int:
        """Of the right crystal."""
        return 1 + len(self.behind)


def fit_probability(cases: Sequence[Case]) -> PatternProbability:
    """The likeliest weights, the right crystal being there (`PROPOSED` of the weight) or left out."""
    known = [evidence(case.compared) for case in cases]
    start = np.array([5.0, 1.0, 1.0, 2.0])

    def loss(w: Floats) -> float:
        total = RIDGE * float((w[:-1] ** 2).sum()) / len(known)
        for x in known:
            logs = np.append(x @ w[:-1], w[-1])
            total -= PROPOSED * (logs[0] - np.logaddexp.reduce(logs)) / len(known)
            total -= (1 - PROPOSED) * (logs[-1] - np.logaddexp.reduce(logs[1:])) / len(known)
        return total

    bounds = [(0.0, None)] * len(EVIDENCE) + [(None, None)]
    found = minimize(loss, start, method="L-BFGS-B", bounds=bounds).x
    return PatternProbability(tuple(found[:-1].tolist()), float(found[-1]))


def judge(cases: Sequence[Case]) -> list[Judged]:
    """Each half by the other's weights, in the order of the cases."""
    judged: list[Judged | None] = [None] * len(cases)
    for parity in (0, 1):
        probability = fit_probability([case for k, case in enumerate(cases) if k % 2 != parity])
        for k, case in enumerate(cases):
            if k % 2 == parity:
                x = evidence(case.compared)
                p = probability(x)
                score = x @ np.array(probability.weights)
                judged[k] = Judged(
                    set((1 + np.flatnonzero(score[1:] >= score[0])).tolist()), p, probability(x[1:])
                )
    return [one for one in judged if one is not None]


def reliability(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """Probabilities against what was true: bins of crystals, and of "none of these"; the cases without the
    right crystal count as often as the fit takes them to come."""
    points: dict[str, list[tuple[float, float, float]]] = {"crystal": [], "none": []}
    for one in judged:
        for p, weight, right in ((one.with_it, PROPOSED, 0), (one.without_it, 1 - PROPOSED, -1)):
            points["crystal"] += [(float(v), float(k == right), weight) for k, v in enumerate(p)]
            points["none"].append((float(1 - p.sum()), float(right < 0), weight))
    rows = []
    for kind, some in points.items():
        value, true, weight = np.array(some).T
        for low, high in pairwise(BINS):
            inside = (value >= low) & ((value < high) | (high == 1.0))
            if inside.any():
                w = weight[inside]
                rows.append(
                    {
                        "of": kind,
                        "told": float(np.average(value[inside], weights=w)),
                        "true": float(np.average(true[inside], weights=w)),
                        "n": round(float(w.sum()), 1),
                    }
                )
    return rows
