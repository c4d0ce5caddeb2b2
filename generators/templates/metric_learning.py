"""Known crystals of the compositions that are nearest under a learned metric."""

from __future__ import annotations

from pathlib import Path

from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.protocols import Proposals
from csp.target import Target
from csp.training.cards import shipped
from generators.templates.prototypes import PrototypeIndex
from generators.templates.similarity import LearnedSimilarity
from generators.templates.substitution import Substitution

__all__ = ["MetricLearningGenerator"]


class MetricLearningGenerator:
    """The structures of the library entries whose compositions are nearest to the target's.

    Compositions are vectors (`generators.templates.composition_encoder`) and near each other where they
    crystallise alike; one matrix product compares the target, its elements in the places in every possible
    way, with all entries of its ratio. The weights of the entries of one prototype add up, so a structure may
    lead because it is that of the nearest composition or because it is frequent. (CSPML: Kusaba, Liu and
    Yoshida, Comput. Mater. Sci. 211, 111496 (2022), classifies pairs of compositions; here the metric itself
    is learned.)
    """

    name = "metric_learning"

    def __init__(self, library: Library, volume: VolumePrior, weights: Path | None = None) -> None:
        """Read the metric.

        Args:
            weights: A metric of one's own; None: the one that ships.
        """
        self._similarity = LearnedSimilarity(library, volume, weights or shipped(self.name))
        self._substitution = Substitution(
            self.name, library, PrototypeIndex(library), volume, self._similarity
        )

    def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
        """See `csp.protocols.Generator`. `score` is ln p; `why` says which elements the metric never met."""
        remark = self._similarity.remark(target)
        return self._substitution.propose(target, n, seed=seed, start=start, remark=remark)
