"""The rounds of a deep search: propose, relax, refine, and ask whether anything is left to find.

A round makes 256 candidates (16 times as many on a GPU), of four kinds:

* draws: what the generators without templates would have proposed next, in their own order. They alone are
  counted to estimate how much is still unseen (`csp.search.completeness`), because they alone do not look at
  what was found.
* new skeletons in space groups that led low, by a generator that may have learned from the low crystals, and
  new geometries of skeletons that led low (`csp.search.skeletons`).
* moves on the lowest distinct crystals (`csp.search.moves`).

All of them are relaxed for a few steps by the first model, without being judged by single points. What has
not arrived at a known crystal by then and is not far above the lowest is relaxed on, those that met once. The
new low crystals get a single point by the model that ranks, and the best of them are refined by it.

Each part is a stage with shards in the store, named "round 3 relax". What a round begins with is worked out
from the rounds before it, which are closed (`csp.search.knowledge`), and random numbers come from the seed,
the round and the candidate: so many rounds give the same result whoever did them. Between rounds only the few
thousand lowest crystals are remembered (`csp.search.basins`); all else is in the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from csp.crystals import Crystals
from csp.relaxation.relax import RelaxationResult
from csp.search.basins import LOW
from csp.search.history import History, Round
from csp.search.knowledge import Knowledge, stage_of
from csp.search.pool import Pool
from csp.search.proposing import Proposing
from csp.search.stages import WHOLE, Share, shards
from csp.search.work import Told, Work

__all__ = ["Rounds"]

CLOSED = "round"  # in the store: its shards are the rounds that are done
PRE_RELAX_STEPS = 20


def _silent(done: int, total: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Rounds:
    """Of one search.

    Attributes:
        proposing: Makes the candidates.
        work: Does shards.
        told: Called with (done, total) of a stage of a round.
    """

    proposing: Proposing
    work: Work
    told: Told = _silent

    @cached_property
    def knowledge(self) -> Knowledge:
        """What the rounds have found."""
        return Knowledge(self.proposing.funnel)

    # -- how many, and when to end ------------------------------------------------------------------

    @property
    def closed(self) -> int:
        """Rounds that are done."""
        return len(self.work.store.done(CLOSED))

    def to_do(self, time_is_over: Callable[[], bool]) -> Iterator[int]:
        """The numbers of the rounds to do, each when the one before is closed, until the search is done."""
        while not time_is_over() and not self._ended(self.knowledge.after(self.closed).history[-1]):
            yield self.closed + 1

    def history(self) -> History:
        """How the rounds that are closed went, and why there are no more."""
        rounds = self.knowledge.after(self.closed).history
        return History(tuple(rounds), self._ended(rounds[-1]) or "time")

    def _ended(self, last: Round) -> str:
        """Why no further round is to be done, other than the time; "" if there is no reason."""
        settings = self.work.settings
        if settings.until < 1 and last.completeness.share >= settings.until:
            return "complete"
        if last.number and not last.fresh:
            return "exhausted"
        return "rounds" if last.number >= settings.max_rounds else ""

    # -- the stages of a round ----------------------------------------------------------------------

    def do(self, number: int, step: str, share: Share = WHOLE) -> None:
        """A share of a stage of a round."""
        getattr(self, f"_{step}")(number, share)

    def _propose(self, number: int, share: Share) -> None:
        """Candidates of all kinds into the store."""
        store, stage = self.work.store, stage_of(number, "propose")
        for name, n, make in self.proposing.kinds(number, self.knowledge.after(number - 1)):
            written = store.done(stage, name)
            for shard, part in shards(n, self.proposing.shard, share):
                self.told(part.start, n)
                if shard not in written:
                    store.write_proposals(name, shard, make(part), stage)

    def _pre_relax(self, number: int, share: Share) -> None:
        """All of them for a few steps, keeping their symmetry."""
        pool = self.knowledge.starts(number).pool
        steps = min(PRE_RELAX_STEPS, self.work.settings.max_steps)
        self._relaxed(number, "pre_relax", pool.ids, pool.crystals, share, max_steps=steps)

    def _relax(self, number: int, share: Share) -> None:
        """What arrived nowhere yet, and is not far above the lowest, to the end."""
        left = self.knowledge.briefly(number).left
        self._relaxed(number, "relax", left.ids, left.crystals, share)

    def _rescore(self, number: int, share: Share) -> None:
        """Single points by the model that ranks of new low crystals."""
        funnel = self.proposing.funnel
        if len(funnel.models) > 1:
            basins, chosen = self.knowledge.to_rescore(number)
            name, crystals = stage_of(number, "rescore"), basins.crystals[chosen]
            self.work.rescore("rescore", funnel.ranking_model, crystals, share, self.told, name=name)

    def _refine(self, number: int, share: Share) -> None:
        """The best of those relaxed on by the model that ranks."""
        if len(self.proposing.funnel.models) > 1:
            basins, chosen = self.knowledge.to_refine(number)
            crystals = basins.crystals[chosen]
            self._relaxed(number, "refine", crystals.ids(), crystals, share)

    def _close(self, number: int, share: Share) -> None:
        """Note that the round is done."""
        if not share[0]:
            self.work.store.close(CLOSED, number)

    def _relaxed(
        self,
        number: int,
        step: str,
        ids: Sequence[str],
        crystals: Crystals,
        share: Share,
        max_steps: int | None = None,
    ) -> None:
        funnel, name = self.proposing.funnel, stage_of(number, step)
        model = funnel.ranking_model if step == "refine" else funnel.screening_model
        self.work.relax(step, model, ids, crystals, share, self.told, name=name, max_steps=max_steps)

    # -- what is ranked -----------------------------------------------------------------------------

    def ends(self) -> tuple[Pool, RelaxationResult]:
        """What the closed rounds gave to the ranking: the crystals that the model that ranks began with, by
        the ids of their candidates, and what it relaxed them to."""
        closed, funnel, store = self.closed, self.proposing.funnel, self.work.store
        basins, two = self.knowledge.after(closed).basins, len(funnel.models) > 1
        step = "refine" if two else "relax"
        place = {i: k for k, i in enumerate(basins.ids if two else basins.candidates)}
        worth = float(basins.first.min()) + LOW if len(basins) else 0.0
        found, parts = list[int](), list[RelaxationResult]()
        for number in range(1, closed + 1):
            ids, ends = store.relaxed(stage_of(number, step), funnel.ranking_model.label)
            rows = [k for k, i in enumerate(ids) if i in place]
            if not two:  # all are ends, but only those of new low crystals are of interest
                new = basins.in_round == number
                rows = [k for k in rows if new[place[ids[k]]] and basins.first[place[ids[k]]] <= worth]
            found += [place[ids[k]] for k in rows]
            parts.append(ends.take(rows))
        pool = Pool(
            [basins.candidates[k] for k in found],
            basins.crystals[found],
            [basins.provenance[k] for k in found],
        )
        together = parts[0] if parts else _nothing(funnel.relaxed()[1])
        for part in parts[1:]:
            together = together.followed_by(part)
        return pool, funnel.without_holes(together)

    def times_found(self) -> Counter[str]:
        """By the id of the candidate that stands for a crystal: how many of all rounds led to it."""
        basins = self.knowledge.after(self.closed).basins
        found = Counter[str]()
        for candidate, times in zip(basins.candidates, basins.times.tolist(), strict=True):
            found[candidate] += times
        return found

    def counts(self) -> Counter[str]:
        """Candidates of all closed rounds, after each stage, as the funnel of a prediction has them."""
        store, total = self.work.store, Counter[str]()
        for one in self.history().rounds[1:]:
            number = one.number
            tallies = store.tally(stage_of(number, "propose")).values()
            total["proposed"] += sum(tally.requested for tally in tallies)
            total["built"] += sum(tally.requested - tally.failed.total() for tally in tallies)
            total["plausible"] += one.plausible
            total["unique"] += one.fresh
            for step, name in (("pre_relax", "pre_relaxed"), ("relax", "relaxed"), ("refine", "refined")):
                total[name] += store.count(stage_of(number, step))
        return total

    def failures(self) -> dict[str, Counter[str]]:
        """By stage: relaxations of all closed rounds that ended without an energy, by status."""
        found = {step: Counter[str]() for step in ("pre_relax", "relax", "refine")}
        for number in range(1, self.closed + 1):
            for step, total in found.items():
                total.update(self.work.store.failures(stage_of(number, step)))
        return found


def _nothing(like: RelaxationResult) -> RelaxationResult:
    return like.take([])
