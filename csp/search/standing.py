"""What stands in the ranking of a search, by what its store holds, and in which order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from csp.crystals import Crystals
from csp.diffraction.sample import Identified, Sample
from csp.errors import ContractError
from csp.protocols import Provenance
from csp.ranking.probability import AnswerProbability, best_first, features, scores
from csp.ranking.rank import Ranking
from csp.relaxation.rattle import drop_unimproved, gain
from csp.relaxation.relax import RelaxationResult
from csp.search.dynamics import Dynamics
from csp.search.ends import Ends
from csp.search.funnel import Funnel
from csp.search.pool import Pool, merge_provenance
from csp.search.rounds import Rounds
from csp.search.work import Work
from csp.target import Target

__all__ = ["Standing"]


@dataclass(frozen=True)
class Standing:
    """All that a search relaxed and ranks, all of it or the part that is done.

    Attributes:
        target: What was asked for.
        funnel: Who passes each stage.
        answer_probability: Gives probabilities; None: only energies rank.
        sample: What a powder pattern was measured of; None: there is none.
        rounds: Those of a deep search; None: there are none.
        dynamics: Phonons of the first of the ranking; None: they are not asked for.
        followed: Rounds of them that have joined the ranking.
    """

    target: Target
    funnel: Funnel
    answer_probability: AnswerProbability | None = None
    sample: Sample | None = None
    rounds: Rounds | None = None
    dynamics: Dynamics | None = None
    followed: int = 0

    @property
    def ranked_crystals(self) -> Crystals:
        """The R distinct crystals, lowest first."""
        return self._relaxed.result.crystals[[self._good[k] for k in self._ranking.chosen.tolist()]]

    def _ordered(self, probability: Tensor | None) -> tuple[str, Tensor]:
        """What the order is by, and the places int64 [R] of the ranked crystals in it."""
        by_energy = torch.arange(len(self._ranking.chosen))
        if self.funnel.settings.order == "energy":
            return "energy", by_energy
        if self._identified is not None:
            return "pattern", torch.tensor(self._identified.order)
        return ("energy", by_energy) if probability is None else ("probability", best_first(probability))

    # -- what is ranked ---------------------------------------------------------------------------

    @cached_property
    def symmetric(self) -> tuple[list[str], RelaxationResult]:
        """The ids of what was proposed, and what it relaxed to keeping symmetry."""
        ids, relaxed = self.funnel.relaxed()
        if self._of_rounds is None:
            return ids, relaxed
        begun, ends = self._of_rounds
        return ids + begun.ids, relaxed.followed_by(ends)

    @cached_property
    def _of_rounds(self) -> tuple[Pool, RelaxationResult] | None:
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
    def _relaxed(self) -> Ends:
        if not self.followed:
            return self._rattled
        before = self._before
        saddles = [
            (row, before._group(row), lower)
            for row in before._first
            if (lower := before._dynamics.lower(before._relaxed.result.crystals[row])) is not None
        ]
        ends = before._relaxed
        return ends.with_what_lies_below(saddles, self.funnel.per_atom(ends.result)) if saddles else ends

    @cached_property
    def _rattled(self) -> Ends:
        ids, relaxed = self.symmetric
        store, settings, model = self.funnel.store, self.funnel.settings, self.funnel.ranking_model
        # from the store a part of the rattled ones looks like the whole
        if not store.finished or not settings.rattled:
            return Ends.unrattled(relaxed, ids)
        starts = self.funnel.rattle_starts(relaxed)
        if not Work(settings, store).stored("rattle", len(starts.parent), model, self.rattling):
            return Ends.unrattled(relaxed, ids)
        start_ids, freed = store.relaxed(self.rattling, model.label)
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

    # -- whose phonons are asked for ----------------------------------------------------------------

    @cached_property
    def _before(self) -> Standing:
        """A round of phonons earlier."""
        return replace(self, followed=self.followed - 1)

    @property
    def _dynamics(self) -> Dynamics:
        assert self.dynamics is not None
        return self.dynamics

    @cached_property
    def _first(self) -> list[int]:
        """The rows of the first of the ranking that no round before looked at."""
        chosen = self._ranking.chosen[self._ordered(self._probability)[1]]
        rows = [self._good[k] for k in chosen[: self.funnel.settings.phonons].tolist()]
        ids = self._relaxed.result.crystals[rows].ids()
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
        return self._relaxed.result.crystals[self._first]

    @cached_property
    def _ranked(self) -> tuple[list[int], Ranking]:
        return self.funnel.ranked(self._relaxed.result)

    @property
    def _good(self) -> list[int]:
        """The places of those that have an energy."""
        return self._ranked[0]

    @property
    def _ranking(self) -> Ranking:
        """Of `_good`."""
        return self._ranked[1]

    @cached_property
    def _probability(self) -> Tensor | None:
        """float64 [R]: of each ranked crystal, lowest first, to be the ground truth; None if not known."""
        if self.answer_probability is None:
            return None
        return self.answer_probability.probabilities(features(self._per_atom, scores(self._proposed)))

    @cached_property
    def _identified(self) -> Identified | None:
        """How the ranked crystals, lowest first, compare with the powder pattern; None: there is none."""
        if self.sample is None or not len(self._ranking.chosen):
            return None
        above = (self._per_atom - self._per_atom[0]).numpy()
        progress = self.funnel.progress
        return self.sample.identify(
            self.ranked_crystals, above, lambda done, total: progress("pattern", done, total)
        )

    @cached_property
    def _proposed(self) -> list[tuple[Provenance, ...]]:
        """Where each ranked crystal and its duplicates come from, lowest first."""
        starts = self.funnel.starts
        known = dict(zip(starts.ids, starts.provenance, strict=True))
        if self._of_rounds is not None:
            known |= dict(zip(self._of_rounds[0].ids, self._of_rounds[0].provenance, strict=True))
        of_good = [known[self._relaxed.candidate[k]] for k in self._good]
        proposed = merge_provenance(self._ranking.stands_for.tolist(), of_good)
        return [proposed[k] for k in self._ranking.chosen.tolist()]

    @cached_property
    def _per_atom(self) -> Tensor:
        """float64 [R], eV, of the ranked crystals, lowest first."""
        return self.funnel.per_atom(self._relaxed.result)[self._good][self._ranking.chosen]

    def _group(self, row: int) -> list[int]:
        """The rows of all that a ranked crystal stands for, itself included."""
        members = (self._ranking.stands_for == self._good.index(row)).nonzero().flatten().tolist()
        return [self._good[k] for k in members]
