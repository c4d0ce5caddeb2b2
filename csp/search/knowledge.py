"""What a deep search knows after so many rounds, and who passes the stages of a round.

All of it is worked out from the store, the same on every worker: from the rounds that are closed, one after
the other, and from what is stored of the one after them. Only the latest is remembered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from csp.crystallography.neighbours import plausible
from csp.matching.duplicates import SAME_ENERGY
from csp.matching.fingerprints import unique
from csp.protocols import Provenance, Skeleton
from csp.relaxation.relax import RelaxationResult
from csp.search.basins import WORTH_A_LOOK, Basins
from csp.search.completeness import completeness
from csp.search.funnel import Funnel
from csp.search.history import Round
from csp.search.pool import Pool, merge_provenance
from csp.search.skeletons import Skeletons

__all__ = ["NO_DRAWS", "Knowledge", "Known", "stage_of"]

NO_DRAWS = ("skeletons", "moves")  # generators whose proposals look at what was found
RELAXED = 3  # of a round's candidates one in so many is relaxed to the end, at most
NEAR = 0.3  # eV/atom above the lowest; what is farther after a few steps does not become low
RESCORED, REFINED = 32, 6  # a round, at most


def stage_of(number: int, step: str) -> str:
    """The name in the store of a stage of a round."""
    return f"round {number} {step}"


@dataclass
class Known:
    """Attributes:
    basins: The distinct crystals.
    skeletons: What was found of each skeleton.
    history: The rounds so far, round 0 first.
    """

    basins: Basins = field(default_factory=Basins)
    skeletons: Skeletons = field(default_factory=Skeletons)
    history: list[Round] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Starts:
    """The plausible candidates of a round, each structure once.

    Attributes:
        pool: They.
        drawn: Of each by how many draws it was proposed.
        found: Of each how often it was proposed in all.
        proposed: Candidates that were asked for.
        plausible: Of these.
    """

    pool: Pool
    drawn: list[int]
    found: list[int]
    proposed: int
    plausible: int


@dataclass(frozen=True, slots=True)
class _Briefly:
    """What became of the starts after a few steps.

    Attributes:
        left: What is relaxed to the end.
        stands: Of the id of each start with an energy that of the one that stands for it.
        arrived: Of those that stand for others and are known crystals by now the places of these.
    """

    left: Pool
    stands: Mapping[str, str]
    arrived: Mapping[str, int]


@dataclass
class Knowledge:
    """Of one search.

    Attributes:
        funnel: The search before all rounds.
    """

    funnel: Funnel
    _known: dict[int, Known] = field(default_factory=dict)
    _merged: dict[int, Known] = field(default_factory=dict)
    _starts: dict[int, _Starts] = field(default_factory=dict)

    # -- after a round ------------------------------------------------------------------------------

    def after(self, number: int) -> Known:
        """What is known after so many rounds, all of them closed; 0: before the first."""
        if number not in self._known:
            earlier = max((k for k in self._known if k < number), default=-1)
            for k in range(earlier + 1, number + 1):
                self._known[k] = self._with(k) if k else self._before()
                self._known.pop(k - 2, None)  # a stage that is done again may need the one before
        return self._known[number]

    def _before(self) -> Known:
        funnel, known = self.funnel, Known()
        label = funnel.screening_model.label
        distinct = funnel.distinct()
        known.basins.add(distinct.pool, torch.tensor(distinct.per_atom, dtype=torch.float64), 0)
        self._learn(known.basins, "rescore", "refine")
        self._add_own(known.basins)
        of_pool = dict(zip(funnel.pool.ids, funnel.pool.provenance, strict=True))
        briefly, fully = funnel.store.relaxed("pre_relax", label), funnel.store.relaxed("relax", label)
        known.skeletons.add(self._of_skeletons(of_pool, briefly, fully))
        n = len(briefly[0]) + len(fully[0])
        proposed = sum(tally.requested for tally in funnel.store.tally().values())
        counts = proposed, n, len(funnel.plausible), len(funnel.pool.ids)
        known.history.append(self._round(known.basins, 0, *counts))
        return known

    def _add_own(self, basins: Basins) -> None:
        """The entries of the target itself that the first model leaves what they are. The model that ranks
        has relaxed them from where they were, so their energies are there by other ids."""
        funnel, led_to = self.funnel, self.funnel.distinct().led_to
        ids, ends = funnel.store.relaxed("relax", funnel.screening_model.label)
        own = [k for k, i in enumerate(ids) if i in led_to]
        if not own:
            return
        entries = [ids[k] for k in own]
        pool = Pool(entries, ends.crystals[own], [led_to[i] for i in entries])
        places = basins.add(pool, funnel.per_atom(ends)[own], 0)
        if len(funnel.models) == 1:
            basins.single = basins.refined = basins.first
            return
        refined = dict(zip(funnel.relaxed()[0], funnel.per_atom(funnel.relaxed()[1]).tolist(), strict=True))
        known = [(place, refined[i]) for place, i in zip(places, entries, strict=True) if i in refined]
        basins.learn(
            "refined", [basins.ids[place] for place, _ in known], torch.tensor([e for _, e in known])
        )

    def _with(self, number: int) -> Known:
        store, label, starts = self.funnel.store, self.funnel.screening_model.label, self.starts(number)
        known = self.relaxed(number)
        known = Known(known.basins.copy(), known.skeletons.copy(), list(known.history))
        self._learn(known.basins, stage_of(number, "rescore"), stage_of(number, "refine"))
        briefly = store.relaxed(stage_of(number, "pre_relax"), label)
        fully = store.relaxed(stage_of(number, "relax"), label)
        provenance = dict(zip(starts.pool.ids, starts.pool.provenance, strict=True))
        known.skeletons.add(self._of_skeletons(provenance, briefly, fully))
        before = known.history[-1]
        proposed = before.proposed + starts.proposed
        relaxed = before.relaxed + len(briefly[0]) + len(fully[0])
        counts = proposed, relaxed, starts.plausible, len(starts.pool.ids)
        known.history.append(self._round(known.basins, number, *counts))
        known.basins.forget()
        self._starts.pop(number, None)
        self._merged.pop(number, None)
        return known

    def _round(
        self, basins: Basins, number: int, proposed: int, relaxed: int, plausible: int, fresh: int
    ) -> Round:
        low, draws, last = basins.low(), basins.draws, basins.last
        drawn = [k for k in low if draws[k]]
        below = [k for k in low if not drawn or last[k] < last[drawn].min()]
        refined = basins.refined[basins.refined.isfinite()]
        return Round(
            number,
            proposed,
            relaxed,
            plausible,
            fresh,
            float(refined.min()) if len(refined) else None,
            len(low),
            completeness([int(draws[k]) for k in low], len(below)),
        )

    # -- within a round -----------------------------------------------------------------------------

    def starts(self, number: int) -> _Starts:
        """The candidates of a round that are relaxed. Read after it proposed."""
        if number not in self._starts:
            stage, funnel = stage_of(number, "propose"), self.funnel
            built = funnel.store.candidates(stage)
            kept = plausible(built.crystals, funnel.volume_per_atom, min_distance=funnel.min_distance)
            index = kept.nonzero().flatten().tolist()
            same = unique(built.crystals[index]).tolist()
            merged = merge_provenance(same, [(built.provenance[k],) for k in index])
            chosen = [index[k] for k in merged]
            drawn, found = dict.fromkeys(merged, 0), dict.fromkeys(merged, 0)
            for k, leader in zip(index, same, strict=True):
                drawn[leader] += built.provenance[k].generator not in NO_DRAWS
                found[leader] += 1
            pool = Pool([built.ids[k] for k in chosen], built.crystals[chosen], list(merged.values()))
            proposed = sum(tally.requested for tally in funnel.store.tally(stage).values())
            self._starts = {number: _Starts(pool, [*drawn.values()], [*found.values()], proposed, len(index))}
        return self._starts[number]

    def briefly(self, number: int) -> _Briefly:
        """What became of them after a few steps: those that met are one, and those that have arrived at a
        known crystal, or are far above the lowest, go no further."""
        starts, funnel = self.starts(number), self.funnel
        ids, ends = funnel.store.relaxed(stage_of(number, "pre_relax"), funnel.screening_model.label)
        good, of_id = ends.with_energy(), dict(zip(starts.pool.ids, starts.pool.provenance, strict=True))
        found, per_atom = [ids[k] for k in good], funnel.per_atom(ends)[good]
        pool = Pool(found, ends.crystals[good], [of_id[i] for i in found])
        same = unique(pool.crystals, energies=per_atom, energy_tolerance=SAME_ENERGY).tolist()
        leaders = sorted(set(same))
        basins = self.after(number - 1).basins
        places = basins.known(pool.crystals[leaders], per_atom[leaders])
        arrived = {found[k]: place for k, place in zip(leaders, places, strict=True) if place >= 0}
        lowest = min([*basins.first.tolist(), *per_atom.tolist()], default=0.0)
        left = [k for k in leaders if found[k] not in arrived and float(per_atom[k]) <= lowest + NEAR]
        left.sort(key=lambda k: (round(float(per_atom[k]), 5), found[k]))
        left = left[: max(1, starts.proposed // RELAXED)]
        stands = {found[k]: found[leader] for k, leader in enumerate(same)}
        return _Briefly(pool.take(left), stands, arrived)

    def relaxed(self, number: int) -> Known:
        """With the crystals that a round relaxed to, and the draws that led to each. Read after `relax`."""
        if number not in self._merged:
            before, starts, briefly = self.after(number - 1), self.starts(number), self.briefly(number)
            basins = before.basins.copy()
            ids, ends = self.funnel.store.relaxed(
                stage_of(number, "relax"), self.funnel.screening_model.label
            )
            good, of_id = ends.with_energy(), dict(zip(starts.pool.ids, starts.pool.provenance, strict=True))
            found = [ids[k] for k in good]
            pool = Pool(found, ends.crystals[good], [of_id[i] for i in found])
            places = basins.add(pool, self.funnel.per_atom(ends)[good], number)
            at = {**briefly.arrived, **dict(zip(found, places, strict=True))}
            draws, times = basins.draws.clone(), basins.times.clone()
            for i, drawn, all_ in zip(starts.pool.ids, starts.drawn, starts.found, strict=True):
                if (place := at.get(briefly.stands.get(i, ""))) is not None:
                    draws[place] += drawn
                    times[place] += all_
            basins.draws, basins.times = draws, times
            self._merged = {number: Known(basins, before.skeletons, before.history)}
        return self._merged[number]

    def to_rescore(self, number: int) -> tuple[Basins, list[int]]:
        """The crystals after the relaxations of a round, and those that get a single point."""
        basins = self.relaxed(number).basins
        unknown = torch.where(basins.last.isnan(), basins.first, torch.nan)
        worth = float(basins.first.min()) + WORTH_A_LOOK if len(basins) else math.inf
        chosen = basins.lowest_first(unknown, math.inf, RESCORED)
        return basins, [k for k in chosen if float(basins.first[k]) <= worth]

    def to_refine(self, number: int) -> tuple[Basins, list[int]]:
        """The same with those that are refined. Read after `rescore`."""
        basins = self.relaxed(number).basins.copy()
        self._learn(basins, stage_of(number, "rescore"), "")
        refined = basins.refined.isfinite()
        return basins, [k for k in basins.low() if not refined[k]][:REFINED]

    # -- from the store -----------------------------------------------------------------------------

    def _learn(self, basins: Basins, rescored: str, refined: str) -> None:
        """Take up what the model that ranks says of crystals, in these stages."""
        funnel = self.funnel
        if len(funnel.models) == 1:
            basins.single = basins.refined = basins.first
            return
        if rescored:
            ids, evaluation = funnel.store.energies(rescored, funnel.ranking_model.label)
            there = dict(zip(basins.ids, range(len(basins)), strict=True))
            known = [(i, k) for k, i in enumerate(ids) if i in there]
            crystals = basins.crystals[[there[i] for i, _ in known]]
            energy = evaluation.energy[[k for _, k in known]]
            basins.learn("single", [i for i, _ in known], funnel.enthalpy_per_atom(energy, crystals))
        if refined:
            ids, ends = funnel.store.relaxed(refined, funnel.ranking_model.label)
            ends = funnel.without_holes(ends)
            good = ends.with_energy()
            basins.learn("refined", [ids[k] for k in good], funnel.per_atom(ends)[good])

    def _of_skeletons(
        self,
        provenance: Mapping[str, Sequence[Provenance]],
        briefly: tuple[list[str], RelaxationResult],
        fully: tuple[list[str], RelaxationResult],
    ) -> list[tuple[Skeleton, float]]:
        """Each geometry drawn for a skeleton, and the lowest energy that it was relaxed to."""
        lowest: dict[str, float] = {}
        for ids, ends in (briefly, fully):
            energies = self.funnel.per_atom(ends).tolist()
            for k in ends.with_energy():
                lowest[ids[k]] = min(lowest.get(ids[k], math.inf), energies[k])
        found = []
        for i, per_atom in lowest.items():
            drawn = next((p for p in provenance[i] if p.wyckoff and not p.template_id), None)
            if drawn is not None:
                found.append((Skeleton(drawn.space_group, drawn.wyckoff), per_atom))
        return found
