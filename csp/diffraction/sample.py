"""A measured sample: its pattern, what else is known to be in it, and which of given crystals it may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from csp.crystals import Crystals
from csp.diffraction.fit import Fitted, Measured
from csp.diffraction.identify import Comparison, Progress, compare, fit_known
from csp.diffraction.pattern import Floats, Pattern
from csp.diffraction.probability import PatternProbability, evidence, log_prior

__all__ = ["Identified", "Sample"]

MOST = 40  # crystals that are fitted
LIKELY = 0.5


@dataclass(frozen=True)
class Sample:
    """What was measured.

    Attributes:
        pattern: As the file has it.
        impurities: Names of phases that are known to be in the sample too, and the crystals that each may be.
    """

    pattern: Pattern
    impurities: Sequence[tuple[str, Crystals]] = ()

    @cached_property
    def measured(self) -> Measured:
        """The pattern prepared for fits."""
        return Measured.of(self.pattern)

    @cached_property
    def known(self) -> Fitted | None:
        """The impurities fitted without any of the crystals in question; None where none is known."""
        return fit_known(self.measured, [crystals for _, crystals in self.impurities])

    def identify(
        self,
        crystals: Crystals,
        above_lowest: Floats | None = None,
        progress: Progress = lambda done, total: None,
    ) -> Identified:
        """Which of the crystals was measured?

        Args:
            above_lowest: [R], their energies above the lowest, eV/atom; None: all are as likely before.
        """
        found = compare(self.measured, crystals, self.known, most=MOST, progress=progress)
        prior = 0.0 if above_lowest is None else log_prior(above_lowest)
        probability = PatternProbability.load()(evidence(found), prior)
        return Identified(self.measured, tuple(name for name, _ in self.impurities), found, probability)


@dataclass(frozen=True, eq=False)
class Identified:
    """R crystals against a pattern.

    Attributes:
        measured: The pattern.
        impurities: Names of the known other phases.
        found: [R], how each compares.
        probability: [R], of each to be what was measured (`csp.diffraction.probability`).
    """

    measured: Measured
    impurities: tuple[str, ...]
    found: list[Comparison]
    probability: Floats

    @property
    def none(self) -> float:
        """The probability that none of them was measured."""
        return float(1.0 - self.probability.sum())

    @cached_property
    def order(self) -> list[int]:
        """The crystals, the most probable first; of equal ones, to what is printed, that with less misfit."""
        misfit = np.array([c.misfit for c in self.found])
        return np.lexsort((misfit, -self.probability.round(6))).tolist()

    def fields(self, k: int) -> dict[str, Any]:
        """What the tables have of crystal k, by the names of `csp.search.result.Result`."""
        one = self.found[k]
        known = one.fitted is not None
        return {
            "probability_pattern": float(self.probability[k]),
            "rank_pattern": self.order.index(k) + 1,
            "r_wp": one.r_wp if known else None,
            "pattern_explained": one.explained if known else None,
            "pattern_missing": one.missing if known else None,
        }

    def remarks(self) -> list[str]:
        """Sentences for people."""
        said = []
        if self.none > LIKELY:
            said.append(
                f"{self.measured.pattern.name} is probably of none of these crystals ({self.none:.0%}): "
                "another structure or composition may be what was measured."
            )
        left = len(self.found) - sum(one.fitted is not None for one in self.found)
        if left:
            said.append(f"{left} crystals overlap with the pattern less than the others and were not fitted.")
        return said

    def take(self, chosen: Sequence[int]) -> Identified:
        """These crystals, with the probabilities they have among all."""
        return Identified(
            self.measured, self.impurities, [self.found[k] for k in chosen], self.probability[list(chosen)]
        )
