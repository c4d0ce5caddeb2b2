"""From what a search has stored to what it concludes: distinct crystals, ranked, with how sure that is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from csp.crystals import Crystals
from csp.diffraction.sample import Identified, Sample
from csp.errors import ContractError
from csp.protocols import EnergyModel, Provenance
from csp.ranking.differences import DifferenceErrors
from csp.ranking.known import KnownCrystals
from csp.ranking.probability import AnswerProbability, best_first, features, scores
from csp.ranking.rank import Ranking
from csp.ranking.references import References
from csp.relaxation.rattle import drop_unimproved, gain
from csp.relaxation.relax import RelaxationResult, Status
from csp.search.dynamics import Dynamics
from csp.search.ends import Ends
from csp.search.funnel import Funnel
from csp.search.pool import Pool, merge_provenance
from csp.search.rounds import Rounds
from csp.search.work import Work
from csp.target import Target

__all__ = ["Conclusion", "SearchFeatures", "comparing_stage"]


def comparing_stage(model: EnergyModel, rounds: int = 0, followed: int = 0) -> str:
    """The name in the store of what another model says of the crystals ranked after so many rounds, and
    rounds of phonons."""
    after = f" {rounds}" if rounds or followed else ""
    return f"compare {model.name}{after}{f' phonons {followed}' if followed else ''}"


@dataclass(frozen=True, slots=True, eq=False)
class SearchFeatures:
    """The R distinct crystals of a search, lowest first, and the features by which it may recognise the
    ground truth.

    Attributes:
        crystals: As relaxed.
        per_atom: float64 [R], energy (enthalpy), eV/atom.
        ln_p: float64 [R, 3], see `csp.ranking.probability.scores`.
        duplicates: int64 [R], further candidates that relaxed to the same crystal.
    """

    crystals: Crystals
    per_atom: Tensor
    ln_p: Tensor
    duplicates: Tensor


@dataclass(frozen=True)
class Conclusion:
    """What a search concludes from what its store holds, all of it or the part that is done.

    Attributes:
        target: What was asked for.
        funnel: Who passes each stage.
        references: What energies above the hull are counted from; None: there are none.
        answer_probability: Gives probabilities; None: only energies rank.
        relaxer_why: Why the last model is that one, a clause for people.
        second: Gives a second opinion on the energies; None: there is none.
        sample: What a powder pattern was measured of; None: there is none.
        difference_errors: How sure energy differences are, by the models of `others`; None: it is not known.
        known: Says which of the ranked crystals are known; None: that is not asked.
        rounds: Those of a deep search; None: there are none.
        dynamics: Phonons of the first of the ranking; None: they are not asked for.
        followed: Rounds of them that have joined the ranking.
    """

    target: Target
    funnel: Funnel
    references: References | None = None
    answer_probability: AnswerProbability | None = None
    relaxer_why: str = ""
    second: EnergyModel | None = None
    difference_errors: DifferenceErrors | None = None
    sample: Sample | None = None
    known: KnownCrystals | None = None
    rounds: Rounds | None = None
    dynamics: Dynamics | None = None
    followed: int = 0

    @cached_property
    def others(self) -> list[EnergyModel]:
        """The models beside the one that ranks: the surrogate, and who gives a second opinion."""
        funnel = self.funnel
        first = [funnel.screening_model] if len(funnel.models) > 1 else []
        return [*first, *([self.second] if self.second else [])]

    @property
    def ranked_crystals(self) -> Crystals:
        """The R distinct crystals, lowest first."""
        return self.relaxed.result.crystals[[self.good[k] for k in self.ranking.chosen.tolist()]]

    def features(self) -> SearchFeatures:
        """The distinct crystals and their features."""
        return SearchFeatures(
            self.ranked_crystals,
            self.per_atom,
            scores(self.proposed),
            self.ranking.n_duplicates,
        )

    @cached_property
    def symmetric(self) -> tuple[list[str], RelaxationResult]:
        """The ids of what was proposed, and what it relaxed to keeping symmetry."""
        ids, relaxed = self.funnel.relaxed()
        if self.of_rounds is None:
            return ids, relaxed
        begun, ends = self.of_rounds
        return ids + begun.ids, relaxed.followed_by(ends)

    @cached_property
    def of_rounds(self) -> tuple[Pool, RelaxationResult] | None:
        """What the rounds of a deep search began with, and what it relaxed to; None: there are none."""
        return None if self.rounds is None else self.rounds.ends()

    @cached_property
    def closed(self) -> int:
        """Rounds that are done."""
        return 0 if self.rounds is None else self.rounds.closed

    @property
    def rattling(self) -> str:
        """The name in the store of the rattling of what is best now."""
        return f"rattle {self.closed}" if self.closed else "rattle"

    @cached_property
    def relaxed(self) -> Ends:
        """All that has been relaxed, as far as it is to be ranked."""
        if not self.followed or self.dynamics is None:
            return self._rattled
        before = self._before
        saddles = [
            (row, before.group(row), lower)
            for row in before._first
            if (lower := self.dynamics.lower(before.relaxed.result.crystals[row])) is not None
        ]
        ends = before.relaxed
        return ends.with_what_lies_below(saddles, self.funnel.per_atom(ends.result)) if saddles else ends

    @cached_property
    def _rattled(self) -> Ends:
        """The same without what phonons led to.

        Raises:
            ContractError: If the store's rattled crystals are not those that would be rattled now.
        """
        ids, relaxed = self.symmetric
        store, settings, model = self.funnel.store, self.funnel.settings, self.funnel.ranking_model
        # from the store a part of the rattled ones looks like the whole
        if not store.finished or not settings.rattled:
            return Ends.unrattled(relaxed, ids)
        starts = self.funnel.rattle_starts(relaxed)
        if not Work(settings, store).stored("rattle", len(starts.parent), model, self.rattling):
            return Ends.unrattled(relaxed, ids)
        start_ids, freed = self._freed
        if starts.crystals.ids() != start_ids:
            raise ContractError("The stored run was rattled by another version of the engine; run it anew.")
        parent = [*range(len(ids)), *starts.parent]
        both = relaxed.followed_by(freed)
        per_atom = self.funnel.per_atom(both)
        gained = gain(per_atom, parent, len(ids))
        kept = drop_unimproved(per_atom, parent, len(ids))
        return Ends(
            both.take(kept),
            [ids[parent[k]] for k in kept],
            [gained.get(parent[k]) for k in kept],
            [""] * len(kept),
        )

    @cached_property
    def _freed(self) -> tuple[list[str], RelaxationResult]:
        """The ids of the rattled crystals, and what they relaxed to."""
        ids, freed = self.funnel.store.relaxed(self.rattling, self.funnel.ranking_model.label)
        return ids, self.funnel.without_holes(freed)

    def in_holes(self) -> dict[str, int]:
        """Stage → how many that the last model relaxed there are in a hole of it."""
        both = {"refine": self.symmetric[1], "rattle": self._freed[1]}
        return {stage: ends.status.count(Status.HOLE) for stage, ends in both.items()}

    @cached_property
    def _ranked(self) -> tuple[list[int], Ranking]:
        return self.funnel.ranked(self.relaxed.result)

    @property
    def good(self) -> list[int]:
        """The places in `relaxed` of those that have an energy."""
        return self._ranked[0]

    @property
    def ranking(self) -> Ranking:
        """Of `good`."""
        return self._ranked[1]

    @property
    def ordered(self) -> tuple[str, Tensor]:
        """What the order is by, and the places int64 [R] of the ranked crystals in it."""
        by_energy = torch.arange(len(self.ranking.chosen))
        if self.funnel.settings.order == "energy":
            return "energy", by_energy
        if self.identified is not None:
            return "pattern", torch.tensor(self.identified.order)
        if self.probability is None:
            return "energy", by_energy
        return "probability", best_first(self.probability)

    def group(self, row: int) -> list[int]:
        """The rows of `relaxed` of all that a ranked crystal stands for, itself included."""
        members = (self.ranking.stands_for == self.good.index(row)).nonzero().flatten().tolist()
        return [self.good[k] for k in members]

    # -- whose phonons are asked for ----------------------------------------------------------------

    @cached_property
    def _before(self) -> Conclusion:
        """A round of phonons earlier."""
        return replace(self, followed=self.followed - 1)

    @cached_property
    def _first(self) -> list[int]:
        """The rows of the first of the ranking that no round before looked at."""
        chosen = self.ranking.chosen[self.ordered[1]]
        rows = [self.good[k] for k in chosen[: self.funnel.settings.phonons].tolist()]
        ids = self.relaxed.result.crystals[rows].ids()
        return [row for row, i in zip(rows, ids, strict=True) if i not in self._seen]

    @cached_property
    def _seen(self) -> frozenset[str]:
        """The ids of those that earlier rounds looked at."""
        if not self.followed:
            return frozenset()
        return self._before._seen | set(self._before.to_vibrate.ids())

    @property
    def to_vibrate(self) -> Crystals:
        """What the next round of phonons looks at."""
        return self.relaxed.result.crystals[self._first]

    # -- how sure it is -----------------------------------------------------------------------------

    @cached_property
    def probability(self) -> Tensor | None:
        """float64 [R]: of each ranked crystal, lowest first, to be the ground truth; None if not known."""
        if self.answer_probability is None:
            return None
        return self.answer_probability.probabilities(features(self.per_atom, scores(self.proposed)))

    @cached_property
    def identified(self) -> Identified | None:
        """How the ranked crystals, lowest first, compare with the powder pattern; None: there is none."""
        if self.sample is None or not len(self.ranking.chosen):
            return None
        above = (self.per_atom - self.per_atom[0]).numpy()
        progress = self.funnel.progress
        return self.sample.identify(
            self.ranked_crystals, above, lambda done, total: progress("pattern", done, total)
        )

    @cached_property
    def proposed(self) -> list[tuple[Provenance, ...]]:
        """Where each ranked crystal and its duplicates come from, lowest first."""
        starts = self.funnel.starts
        known = dict(zip(starts.ids, starts.provenance, strict=True))
        if self.of_rounds is not None:
            known |= dict(zip(self.of_rounds[0].ids, self.of_rounds[0].provenance, strict=True))
        of_good = [known[self.relaxed.candidate[k]] for k in self.good]
        proposed = merge_provenance(self.ranking.stands_for.tolist(), of_good)
        return [proposed[k] for k in self.ranking.chosen.tolist()]

    @cached_property
    def per_atom(self) -> Tensor:
        """float64 [R], eV, of the ranked crystals, lowest first."""
        return self.funnel.per_atom(self.relaxed.result)[self.good][self.ranking.chosen]

    @cached_property
    def by_others(self) -> Tensor:
        """float64 [R, M], eV/atom above the lowest crystal's, of the ranked crystals, lowest first, by the
        other models; NaN where one has not been asked."""
        crystals, store = self.ranked_crystals, self.funnel.store
        columns = []
        for model in self.others:
            ids, found = store.energies(comparing_stage(model, self.closed, self.followed), model.label)
            per_atom = self.funnel.enthalpies(crystals.ids(), crystals, ids, found.energy)
            columns.append(torch.tensor(per_atom, dtype=torch.float64))
        by = torch.stack(columns, 1) if columns else torch.zeros(len(crystals), 0, dtype=torch.float64)
        return by - by[:1]

    @cached_property
    def sigma(self) -> Tensor | None:
        """float64 [R], eV/atom: of how far each ranked crystal, lowest first, is above the lowest."""
        known = bool(torch.isfinite(self.by_others).all()) and len(self.per_atom) > 0
        if self.difference_errors is None or not known:
            return None
        return self.difference_errors.intervals(self.per_atom - self.per_atom[0], self.by_others)

    @cached_property
    def by_id(self) -> dict[str, Provenance]:
        """Where what was built comes from; of several the first."""
        built = self.funnel.built
        known = dict(zip(built.ids, built.provenance, strict=True))
        if self.of_rounds is not None:
            begun = self.of_rounds[0]
            known |= {i: proposed[0] for i, proposed in zip(begun.ids, begun.provenance, strict=True)}
        return known
