"""How probable each crystal is to be the measured one, and how probable it is that none of them is.

A conditional logit, as in `csp.ranking.probability`: the crystals compete against each other and against the
event that none of them was measured,

    p_k = π_k exp(w · x_k) / (exp(w_0) + Σ_j π_j exp(w · x_j))

with the evidence x of the pattern (`evidence`) and what is known before, π, of mean 1: equal for all without
energies. What people make and measure is seldom far above the ground state: half of the crystals with known
structures are metastable, nine in ten of these by less than 67 meV/atom (Sun et al., Sci. Adv. 2, e1600225,
2016), as for an exponential distribution of mean `METASTABLE`.

The weights were fitted to simulated, spoilt patterns of held-out crystals (`csp benchmark xrd`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from csp.diffraction.identify import Comparison
from csp.diffraction.pattern import Floats

__all__ = ["EVIDENCE", "PatternProbability", "evidence", "log_prior"]

SHIPPED = Path(__file__).parents[1] / "data" / "pattern_probability.json"
EVIDENCE = ("misfit", "missing", "overlap")
METASTABLE = 0.03  # eV/atom
LEAST = 1e-3  # of a misfit


def evidence(found: Sequence[Comparison]) -> Floats:
    """[R, 3], more is better: −ln of the misfit that is left, the share of the calculated intensity that was
    measured, and −ln of the misfit that was left before the fit. What was not fitted has the misfit 1."""
    rows = [[-np.log(max(c.misfit, LEAST)), 1 - c.missing, -np.log(max(c.overlap, LEAST))] for c in found]
    return np.array(rows, dtype=np.float64).reshape(-1, len(EVIDENCE))


def log_prior(above_lowest: Floats) -> Floats:
    """[R]: ln π of crystals by their energies above the lowest, eV/atom."""
    logs = -above_lowest / METASTABLE
    return logs - np.log(np.exp(logs).mean()) if len(logs) else logs


@dataclass(frozen=True, slots=True)
class PatternProbability:
    """The weights w of the evidence, and w_0 of none of the crystals having been measured."""

    weights: tuple[float, ...]
    none: float

    @classmethod
    def load(cls, path: Path = SHIPPED) -> PatternProbability:
        """Those that ship."""
        fitted = json.loads(path.read_text(encoding="utf-8"))
        return cls(tuple(fitted["weights"][name] for name in EVIDENCE), fitted["none"])

    def __call__(self, evidence: Floats, prior: Floats | float = 0.0) -> Floats:
        """[R]: of each crystal to be the measured one; together at most 1.

        Args:
            prior: [R], ln π.
        """
        logs = np.append(evidence @ np.array(self.weights) + prior, self.none)
        odds = np.exp(logs - logs.max())
        return (odds / odds.sum())[:-1]
