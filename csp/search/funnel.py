"""Who passes each stage of a search: worked out from what its store holds, the same on every worker.

What is cheap (filtering, the choices) is computed anew whenever it is asked for, from the same input to the
same result; what is dear (energies, relaxations) is read from the store.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from csp.crystallography.neighbours import CLOSEST, plausible
from csp.crystallography.operations import operations
from csp.crystals import Crystals
from csp.matching.duplicates import SAME_ENERGY, group_duplicates, prefer_smallest_cell
from csp.matching.fingerprints import unique
from csp.protocols import EnergyModel, Learner
from csp.ranking.rank import Ranking, rank
from csp.relaxation.rattle import Rattled, rattle
from csp.relaxation.relax import RelaxationResult, enthalpy
from csp.search.adaptation import Adaptation
from csp.search.pool import Pool, merge_provenance, order_by_score, round_robin, select_round_robin
from csp.search.stages import BY_NAME, WHOLE, shards
from csp.settings import SearchSettings
from csp.store.store import Candidates, Store

__all__ = ["Funnel", "Progress", "screening_stage"]

RESCORED = 4  # times as many as are refined, at most; a single point costs about a fiftieth of refining
PRE_RELAXED = 3  # times as many as are relaxed, at most

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


def screening_stage(rounds: int) -> str:
    """The name in the store of the screening after so many rounds of labels."""
    return f"screen {rounds}" if rounds else "screen"


@dataclass(frozen=True)
class Funnel:
    """The candidates of one search, stage by stage.

    Attributes:
        settings: Everything that decides the outcome, machine and files aside.
        models: The first screens and relaxes, the last refines and ranks; one may do it all.
        volume_per_atom: Expected volume, Å³, that plausibility is measured by.
        min_distance: Between atoms of plausible candidates, as a share of the sum of their covalent radii.
        store: Holds what is done.
        learner: Adapts the first model to labels; None: it stays as it is.
        progress: Called with (stage, done, total).
    """

    settings: SearchSettings
    models: Sequence[EnergyModel]
    volume_per_atom: float
    store: Store
    learner: Learner | None = None
    progress: Progress = lambda stage, done, total: None
    min_distance: float = CLOSEST
    _distinct: dict[int, tuple[Pool, list[float]]] = field(default_factory=dict, repr=False)

    # -- models -----------------------------------------------------------------------------------

    @property
    def ranking_model(self) -> EnergyModel:
        """The last model, whose energies rank."""
        return self.models[-1] if len(self.models) > 1 else self.screening_model

    @property
    def screening_model(self) -> EnergyModel:
        """The first model, which screens and relaxes, adapted to the labels there are."""
        return self.adapted(self.settings.rounds)

    @cached_property
    def adaptation(self) -> Adaptation:
        """What labels make of the first model."""
        return Adaptation(self.models[0], self.learner, self.store)

    def adapted(self, rounds: int) -> EnergyModel:
        """The first model after so many rounds of labels."""
        return self.adaptation.after(rounds, lambda: self.pool)

    # -- proposed and filtered --------------------------------------------------------------------

    @cached_property
    def built(self) -> Candidates:
        """All candidates that could be built. Read after `propose`."""
        return self.store.candidates()

    @cached_property
    def plausible(self) -> Tensor:
        """int64: the plausible ones of the built candidates."""
        found = plausible(self.built.crystals, self.volume_per_atom, min_distance=self.min_distance)
        return found.nonzero().flatten()

    @cached_property
    def pool(self) -> Pool:
        """The candidates that are plausible, each structure once. Read after `propose`."""
        built, kept = self.built, self.plausible
        self.progress("filter", 0, len(built.ids))
        same = unique(built.crystals[kept]).tolist()
        provenance = merge_provenance(same, [(built.provenance[k],) for k in kept.tolist()])
        index = [int(kept[k]) for k in provenance]
        self.progress("filter", len(built.ids), len(built.ids))
        return Pool([built.ids[k] for k in index], built.crystals[index], list(provenance.values()))

    # -- screened and labelled --------------------------------------------------------------------

    @property
    def screened(self) -> list[int]:
        """Members of the pool that get a single point; none where all of them would be relaxed."""
        if self.settings.screened <= self.settings.relaxed and not self.learner:
            return []
        return round_robin(order_by_score(self.pool).values(), self.settings.screened)

    def to_label(self, done: int) -> list[int]:
        """Members of the pool that are labelled after so many rounds; the labels are shared out evenly."""
        assert self.learner is not None
        energies = self._screened_enthalpies(done)
        known = [k for k in range(len(energies)) if math.isfinite(energies[k])]
        before = set(self.adaptation.labels(done)[0])
        chosen = self.learner.choose(
            self.adapted(done),
            self.pool.crystals[known],
            torch.tensor([energies[k] for k in known], dtype=torch.float64),
            [b for b, k in enumerate(known) if self.pool.ids[k] in before],
            math.ceil((self.settings.labels - len(before)) / (self.settings.rounds - done)),
            self.settings.seed + done,
        )
        return [known[b] for b in chosen]

    def _screened_enthalpies(self, rounds: int) -> list[float]:
        """eV/atom, of the pool's members by the first model after so many rounds; NaN if not screened."""
        ids, evaluation = self.store.energies(screening_stage(rounds), self.adapted(rounds).label)
        return self.enthalpies(self.pool.ids, self.pool.crystals, ids, evaluation.energy)

    @cached_property
    def _enthalpies_of_pool(self) -> list[float]:
        """As `_screened_enthalpies` after all rounds. Read when all are stored."""
        return self._screened_enthalpies(self.settings.rounds if self.learner else 0)

    # -- relaxed by the first model ---------------------------------------------------------------

    def pre_relax_starts(self) -> Pool:
        """Screened candidates without a template, as many as are relaxed briefly."""
        per_atom = self._enthalpies_of_pool
        index = [
            k
            for k, proposed in enumerate(self.pool.provenance)
            if math.isfinite(per_atom[k]) and not any(one.template_id for one in proposed)
        ]
        drawn = self.pool.take(index)
        n = PRE_RELAXED * self.settings.relaxed
        return drawn.take(select_round_robin(drawn, n, [per_atom[k] for k in index]))

    def relax_starts(self) -> Pool:
        """What the first model relaxes: candidates, the pre-relaxed as they are now, those that meet once.

        The pre-relaxed compete by the energies that they had and by those that they have: many a wrong
        crystal relaxes to a lower energy than a ground truth that was drawn right.
        """
        ids, relaxed = self.store.relaxed("pre_relax", self.screening_model.label)
        good = relaxed.with_energy()
        crystals, per_atom = relaxed.crystals[good], self.per_atom(relaxed)[good]
        of_pool = {i: k for k, i in enumerate(self.pool.ids)}
        pre_relaxed = [of_pool[ids[k]] for k in good]
        same = unique(crystals, energies=per_atom, energy_tolerance=SAME_ENERGY).tolist()
        provenance = merge_provenance(same, [self.pool.provenance[k] for k in pre_relaxed])
        kept, left = list(provenance), sorted(set(of_pool.values()) - set(pre_relaxed))
        pool = Pool(
            [self.pool.ids[k] for k in left] + [ids[good[k]] for k in kept],
            Crystals.cat([self.pool.crystals[left], crystals[kept]]),
            [self.pool.provenance[k] for k in left] + list(provenance.values()),
        )
        before = dict.fromkeys(kept, math.inf)
        for stands, k in zip(same, pre_relaxed, strict=True):
            before[stands] = min(before[stands], self._enthalpies_of_pool[k])
        screened = [self._enthalpies_of_pool[k] for k in left] + list(before.values())
        now = [math.nan] * len(left) + per_atom[kept].tolist()
        return pool.take(select_round_robin(pool, self.settings.relaxed, screened, now))

    def distinct(self) -> tuple[Pool, list[float]]:
        """Distinct crystals that the first model relaxed to, by the ids of their candidates; its eV/atom."""
        ids, relaxed = self.store.relaxed("relax", self.screening_model.label)
        if len(ids) not in self._distinct:  # what is stored only grows
            good = relaxed.with_energy()
            crystals, per_atom = relaxed.crystals[good], self.per_atom(relaxed)[good]
            known = dict(zip(self.pool.ids, self.pool.provenance, strict=True))
            group = group_duplicates(crystals, per_atom)
            same = prefer_smallest_cell(group, crystals, per_atom).tolist()
            provenance = merge_provenance(same, [known[ids[k]] for k in good])
            kept = list(provenance)
            pool = Pool([ids[good[k]] for k in kept], crystals[kept], list(provenance.values()))
            self._distinct[len(ids)] = pool, per_atom[kept].tolist()
        return self._distinct[len(ids)]

    # -- refined by the last ----------------------------------------------------------------------

    def rescored(self) -> Pool:
        """The distinct crystals that the last model gives single points; none if it refines them all."""
        distinct, per_atom = self.distinct()
        if len(distinct.ids) <= self.settings.refined:
            return distinct.take([])
        return distinct.take(select_round_robin(distinct, RESCORED * self.settings.refined, per_atom))

    def refine_starts(self) -> Pool:
        """What the last model relaxes on, by the ids of their candidates."""
        rescored = self.rescored()
        if not rescored.ids:
            return self.distinct()[0]
        ids, evaluation = self.store.energies("rescore", self.ranking_model.label)
        crystals = rescored.crystals
        per_atom = self.enthalpies(crystals.ids(), crystals, ids, evaluation.energy)
        return rescored.take(select_round_robin(rescored, self.settings.refined, per_atom))

    @property
    def starts(self) -> Pool:
        """What the last model relaxes keeping symmetry, by the ids that `relaxed` gives."""
        return self.refine_starts() if len(self.models) > 1 else self.relax_starts()

    def relaxed(self) -> tuple[list[str], RelaxationResult]:
        """What the last model relaxed keeping symmetry, and the ids of the candidates."""
        if len(self.models) == 1:
            return self.store.relaxed("relax", self.ranking_model.label)
        starts = self.refine_starts()
        candidate = dict(zip(starts.crystals.ids(), starts.ids, strict=True))
        ids, relaxed = self.store.relaxed("refine", self.ranking_model.label)
        return [candidate[i] for i in ids], relaxed

    # -- ranked and rattled -----------------------------------------------------------------------

    def ranked(self, relaxed: RelaxationResult) -> tuple[list[int], Ranking]:
        """Those with an energy, and the ranking of them."""
        good = relaxed.with_energy()
        crystals, per_atom = relaxed.crystals[good], self.per_atom(relaxed)[good]
        same = prefer_smallest_cell(group_duplicates(crystals, per_atom), crystals, per_atom)
        return good, rank(per_atom, crystals.ids(), same, [relaxed.label] * len(good))

    def rattle_starts(self, relaxed: RelaxationResult) -> Rattled:
        """Rattled copies of the lowest distinct crystals; their `parent` is the place in `relaxed`."""
        good, ranking = self.ranked(relaxed)
        best = [good[k] for k in ranking.chosen[: self.settings.rattled].tolist()]
        crystals = relaxed.crystals[best]
        starts = rattle(crystals, operations(crystals), seed=self.settings.seed)
        return replace(starts, parent=[best[b] for b in starts.parent])

    # -- for all stages ---------------------------------------------------------------------------

    def per_atom(self, relaxed: RelaxationResult) -> Tensor:
        """float64 [B]: enthalpy per atom, eV; NaN where there is no energy."""
        crystals = relaxed.crystals
        return enthalpy(relaxed.energy, crystals.volumes, self.settings.pressure) / crystals.n_atoms

    def stored(self, stage: str, n: int, model: EnergyModel) -> bool:
        """Are all shards of a stage of n crystals stored, whoever did them?"""
        size = BY_NAME[stage].shard_on(model.device.type)
        return self.store.done(stage).issuperset(shard for shard, _ in shards(n, size, WHOLE))

    def enthalpies(
        self, wanted: Sequence[str], crystals: Crystals, ids: Sequence[str], energy: Tensor
    ) -> list[float]:
        """eV/atom of crystals from stored energies (eV per cell) by id; NaN where there is none."""
        known = dict(zip(ids, energy.tolist(), strict=True))
        found = torch.tensor([known.get(i, math.nan) for i in wanted], dtype=torch.float64)
        return (enthalpy(found, crystals.volumes, self.settings.pressure) / crystals.n_atoms).tolist()
