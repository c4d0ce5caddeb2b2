"""Who passes each stage of a search: worked out from what its store holds, the same on every worker.

What is cheap (filtering, the choices) is computed anew whenever it is asked for, from the same input to the
same result; what is dear (energies, relaxations) is read from the store.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from csp.crystallography.neighbours import CLOSEST, plausible
from csp.crystallography.operations import operations
from csp.crystals import Crystals
from csp.errors import InputError
from csp.matching.duplicates import SAME_ENERGY, group_duplicates, prefer_smallest_cell, representatives
from csp.matching.fingerprints import unique
from csp.matching.matcher import Matcher
from csp.protocols import EnergyModel, Learner, Provenance
from csp.ranking.rank import Ranking, rank
from csp.relaxation.rattle import Rattled, rattle
from csp.relaxation.relax import RelaxationResult, enthalpy
from csp.search.adaptation import Adaptation
from csp.search.holes import Holes
from csp.search.pool import Pool, merge_provenance, order_by_score, round_robin, select_round_robin
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


@dataclass(frozen=True, slots=True)
class Distinct:
    """Distinct crystals that the first model relaxed to and that are no entries of the target itself.

    Attributes:
        pool: By the ids of the candidates that they come from.
        per_atom: Of each, eV/atom by the first model.
        led_to: Of entries of the target, by id, where all that relaxed to them came from.
    """

    pool: Pool
    per_atom: list[float]
    led_to: dict[str, tuple[Provenance, ...]]


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
    _distinct: dict[int, Distinct] = field(default_factory=dict, repr=False)
    # stage → candidate → who stands for it
    _joined: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)

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
        found[[k for k, one in enumerate(self.built.provenance) if one.own]] = True  # they exist
        return found.nonzero().flatten()

    @cached_property
    def pool(self) -> Pool:
        """The candidates that are plausible, each structure once. Read after `propose`."""
        built, kept = self.built, self.plausible
        self.progress("filter", 0, len(built.ids))
        proposed = [built.provenance[k] for k in kept.tolist()]
        ids = [built.ids[k] for k in kept.tolist()]
        same = _own_apart(unique(built.crystals[kept]).tolist(), ids, proposed)
        provenance = merge_provenance(same, [(one,) for one in proposed])
        index = [int(kept[k]) for k in provenance]
        self._joined["filter"] = {i: ids[k] for i, k in zip(ids, same, strict=True)}
        self.progress("filter", len(built.ids), len(built.ids))
        return Pool([built.ids[k] for k in index], built.crystals[index], list(provenance.values()))

    @cached_property
    def own(self) -> list[int]:
        """Members of the pool that are entries of the target itself. The last model relaxes them all."""
        return [k for k, proposed in enumerate(self.pool.provenance) if any(one.own for one in proposed)]

    @cached_property
    def _own_ids(self) -> frozenset[str]:
        return frozenset(self.pool.ids[k] for k in self.own)

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
        self._joined["pre_relax"] = {ids[k]: ids[good[j]] for k, j in zip(good, same, strict=True)}
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
        chosen = select_round_robin(pool, self.settings.relaxed, screened, now)
        first = [k for k, i in enumerate(pool.ids) if i in self._own_ids]
        others = [k for k in chosen if pool.ids[k] not in self._own_ids]
        return pool.take([*first, *others[: max(0, self.settings.relaxed - len(first))]])

    def distinct(self) -> Distinct:
        """What the first model relaxed to, each crystal once, beside the entries of the target itself."""
        ids, relaxed = self.store.relaxed("relax", self.screening_model.label)
        if len(ids) not in self._distinct:  # what is stored only grows
            good = relaxed.with_energy()
            crystals, per_atom = relaxed.crystals[good], self.per_atom(relaxed)[good]
            known = dict(zip(self.pool.ids, self.pool.provenance, strict=True))
            group = group_duplicates(crystals, per_atom)
            same = prefer_smallest_cell(group, crystals, per_atom).tolist()
            provenance = merge_provenance(same, [known[ids[k]] for k in good])
            entries = self._unmoved_own([ids[k] for k in good], crystals)
            entry_of = {same[place]: entry for place, entry in reversed(entries.items())}
            kept = [k for k in provenance if k not in entry_of]
            self._joined["relax"] = {
                ids[k]: ids[k] if ids[k] in self._own_ids else entry_of.get(j, ids[good[j]])
                for k, j in zip(good, same, strict=True)
            }
            self._distinct[len(ids)] = Distinct(
                Pool([ids[good[k]] for k in kept], crystals[kept], [provenance[k] for k in kept]),
                per_atom[kept].tolist(),
                {entry: provenance[k] for k, entry in entry_of.items()},
            )
        return self._distinct[len(ids)]

    def _unmoved_own(self, ids: Sequence[str], relaxed: Crystals) -> dict[int, str]:
        """Place to id of the relaxed entries of the target itself that are still the crystals they were; what
        the first model's error makes of the others is a crystal like any."""
        start = {self.pool.ids[k]: self.pool.crystals[[k]] for k in self.own}
        return {
            place: i
            for place, i in enumerate(ids)
            if i in start and Matcher.DEFAULT.fits(start[i], relaxed[[place]]).all()
        }

    # -- refined by the last ----------------------------------------------------------------------

    def rescored(self) -> Pool:
        """The distinct crystals that the last model gives single points; none if it refines them all."""
        distinct, n = self.distinct(), self._refined_beside_own
        if len(distinct.pool.ids) <= n:
            return distinct.pool.take([])
        return distinct.pool.take(select_round_robin(distinct.pool, RESCORED * n, distinct.per_atom))

    @property
    def _refined_beside_own(self) -> int:
        """How many that are not the target's own entries; of many of these, half as many as are asked for."""
        return max(self.settings.refined - len(self.own), math.ceil(self.settings.refined / 2))

    def refine_starts(self) -> Pool:
        """What the last model relaxes on, by the ids of their candidates: all entries of the target itself as
        they were, which no other model's error shall lose, and the best of the others."""
        rescored = self.rescored()
        if not rescored.ids:
            return self._after_own(self.distinct().pool)
        ids, evaluation = self.store.energies("rescore", self.ranking_model.label)
        crystals = rescored.crystals
        per_atom = self.enthalpies(crystals.ids(), crystals, ids, evaluation.energy)
        return self._after_own(
            rescored.take(select_round_robin(rescored, self._refined_beside_own, per_atom))
        )

    def _after_own(self, others: Pool) -> Pool:
        own, led_to = self.pool.take(self.own), self.distinct().led_to
        return Pool(
            own.ids + others.ids,
            Crystals.cat([own.crystals, others.crystals]),
            [led_to.get(i, of) for i, of in zip(own.ids, own.provenance, strict=True)] + others.provenance,
        )

    @property
    def starts(self) -> Pool:
        """What the last model relaxes keeping symmetry, by the ids that `relaxed` gives."""
        return self.refine_starts() if len(self.models) > 1 else self.relax_starts()

    def relaxed(self) -> tuple[list[str], RelaxationResult]:
        """What the last model relaxed keeping symmetry, and the ids of the candidates.

        Raises:
            InputError: The run was begun by an engine that chose otherwise.
        """
        if len(self.models) == 1:
            return self.store.relaxed("relax", self.ranking_model.label)
        starts = self.refine_starts()
        candidate = dict(zip(starts.crystals.ids(), starts.ids, strict=True))
        ids, relaxed = self.store.relaxed("refine", self.ranking_model.label)
        if not candidate.keys() >= set(ids):
            raise InputError(
                "This engine would have refined other crystals than the run holds, which another "
                "version began; begin it anew."
            )
        begun = [candidate[i] for i in ids]
        real = {k for k, i in enumerate(begun) if i in self._own_ids}
        return begun, self.holes.marked(relaxed, relaxed, real)

    @cached_property
    def holes(self) -> Holes:
        """Those of the last model, as the first knows them."""
        return Holes(self.screening_model)

    def without_holes(self, relaxed: RelaxationResult) -> RelaxationResult:
        """What the last model relaxed after it had refined; what is in a hole of it has no energy."""
        if len(self.models) == 1:
            return relaxed
        return self.holes.marked(relaxed, self.store.relaxed("refine", self.ranking_model.label)[1])

    # -- ranked and rattled -----------------------------------------------------------------------

    def ranked(self, relaxed: RelaxationResult) -> tuple[list[int], Ranking]:
        """Those with an energy, and the ranking of them."""
        good = relaxed.with_energy()
        crystals, per_atom = relaxed.crystals[good], self.per_atom(relaxed)[good]
        same = representatives(crystals, per_atom)
        return good, rank(per_atom, crystals.ids(), same, [relaxed.label] * len(good))

    def rattle_starts(self, relaxed: RelaxationResult) -> Rattled:
        """Rattled copies of the lowest distinct crystals; their `parent` is the place in `relaxed`."""
        good, ranking = self.ranked(relaxed)
        best = [good[k] for k in ranking.chosen[: self.settings.rattled].tolist()]
        crystals = relaxed.crystals[best]
        starts = rattle(crystals, operations(crystals), seed=self.settings.seed)
        return replace(starts, parent=[best[b] for b in starts.parent])

    # -- who stands for whom ----------------------------------------------------------------------

    def times_found(self) -> Counter[str]:
        """How many plausible candidates, itself included, each stands for that the last model relaxes."""
        self.relax_starts()
        stages = ["filter", "pre_relax"]
        if len(self.models) > 1:
            self.distinct()
            stages.append("relax")
        found: Counter[str] = Counter()
        for k in self.plausible.tolist():
            stands = self.built.ids[k]
            for stage in stages:
                stands = self._joined[stage].get(stands, stands)
            found[stands] += 1
        return found

    # -- for all stages ---------------------------------------------------------------------------

    def per_atom(self, relaxed: RelaxationResult) -> Tensor:
        """float64 [B]: enthalpy per atom, eV; NaN where there is no energy."""
        return self.enthalpy_per_atom(relaxed.energy, relaxed.crystals)

    def enthalpy_per_atom(self, energy: Tensor, crystals: Crystals) -> Tensor:
        """float64 [B], eV/atom, of crystals with energies [B], eV per cell."""
        return enthalpy(energy, crystals.volumes, self.settings.pressure) / crystals.n_atoms

    def enthalpies(
        self, wanted: Sequence[str], crystals: Crystals, ids: Sequence[str], energy: Tensor
    ) -> list[float]:
        """eV/atom of crystals from stored energies (eV per cell) by id; NaN where there is none."""
        known = dict(zip(ids, energy.tolist(), strict=True))
        found = torch.tensor([known.get(i, math.nan) for i in wanted], dtype=torch.float64)
        return self.enthalpy_per_atom(found, crystals).tolist()


def _own_apart(same: Sequence[int], ids: Sequence[str], provenance: Sequence[Provenance]) -> list[int]:
    """Which candidate stands for each. Entries of the target itself are one only if they are one entry or
    equal to the last digit: polytypes have like fingerprints."""
    first: dict[str, int] = {}
    apart = list(same)
    for k, one in enumerate(provenance):
        if one.own:
            names = (ids[k], one.template_id)
            apart[k] = next((first[name] for name in names if name in first), k)
            first |= dict.fromkeys(names, apart[k])
    return [k if provenance[place].own else apart[k] for place, k in enumerate(apart)]
