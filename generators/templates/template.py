"""Known crystals with other elements in their places: the template generator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from csp.crystals import Crystals
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.protocols import Proposals
from csp.target import Target
from csp.training.cards import shipped
from generators.templates.assignments import Assignments
from generators.templates.charge_balance import like_charges
from generators.templates.decoration import Decoration
from generators.templates.prototypes import PrototypeIndex, Prototypes
from generators.templates.similarity import LearnedSimilarity
from generators.templates.substitution import Substitution

__all__ = ["TemplateGenerator"]

LIKE_CHARGES = 0.5
"""Added to ln p of an entry whose elements and those that replace them balance with like charges. Of 0, 1/4,
1/2, 1 and 2 the likeliest on 600 held-out compositions, by 0.02 of the mean ln p against none: a substitution
that was mined seldom changes the charge, and the ground truths' places hardly move."""


class TemplateGenerator:
    """All library entries of the target's anonymous composition, those with like elements first.

    How readily an element takes the place of another is data-mined from the library: each element is a
    vector for each amount, and substitutions are the more probable the nearer they are, place by place
    (after the substitution probabilities of Hautier et al., Inorg. Chem. 50, 656 (2011)). Substitutions
    that keep the charges count more. A structure counts what its entries do together.
    """

    name = "template"

    def __init__(self, library: Library, volume: VolumePrior, weights: Path | None = None) -> None:
        """Read what was mined.

        Args:
            weights: Substitutions mined elsewhere; None: those that ship.
        """
        self._substitutions = LearnedSimilarity(library, volume, weights or shipped(self.name))
        self._substitution = Substitution(
            self.name, library, PrototypeIndex(library), volume, self._similarity
        )
        self._decoration = Decoration(self.name, library, volume, self._substitutions)

    def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
        """See `csp.protocols.Generator`. `score` is ln p; `why` says which elements were never mined."""
        remark = self._substitutions.remark(target)
        of_ratio = self.of_ratio(target, start + n)
        found = self._substitution.propose(
            target, min(n, max(0, of_ratio - start)), seed=seed, start=start, remark=remark
        )
        if start + n <= of_ratio:
            return found
        first = self._substitution.propose(target, of_ratio, seed=seed)
        others = self._decoration.propose(
            target, n - found.requested, seed=seed, first=first, start=max(0, start - of_ratio), remark=remark
        )
        return Proposals(
            Crystals.cat([found.crystals, others.crystals]),
            found.provenance + others.provenance,
            n,
            found.failed + others.failed,
        )

    def of_ratio(self, target: Target, n: int) -> int:
        """How many of the first n candidates are entries of the target's own ratio; what follows them are
        decorated skeletons."""
        return self._substitution.available(target, n)

    def _similarity(
        self, target: Target, prototypes: Prototypes, assignments: Assignments
    ) -> NDArray[np.float64]:
        placed = assignments.elements[assignments.orders]
        charges = like_charges(placed, prototypes.elements, target.anonymous)
        return self._substitutions(target, prototypes, assignments) + LIKE_CHARGES * charges
