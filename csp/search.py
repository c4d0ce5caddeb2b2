"""The whole algorithm: from a target to ranked crystals. Read this first.

    generators ─▶ candidates ─▶ plausible ─▶ unique ─▶ screened ─▶ improved ─▶ relaxed ─▶ judged ─▶ finished
                                                              references ─▶ hull ─▶ ranked ◀─ rattled ◀┘

What no template vouches for is improved: a few steps downhill before it is chosen or not, because single
points of drawn coordinates say little. With one model, it does everything and nothing is left to judge or
finish. With two, the first (a fast surrogate) screens, improves and relaxes; the second (a slower potential)
judges what came out by single points, finishes the best of it, and the ranking is by its energies alone. With
a learner, some candidates are labelled after the screening, the first model is adapted to the labels, and the
candidates are screened again with it. With references, known crystals that the target could decompose into,
the last model relaxes them too, and what is ranked gets its energy above their convex hull.

Each stage is a function of what the stages before it left in the store and works through its
shards of fixed size, writing each in one transaction. A search that was killed and is started again
finds the shards that are done and goes on; what is cheap (plausible, unique, the choices) is
computed anew, from the same input to the same result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from csp.adaptation import Adaptation, labelling
from csp.answer import Answer
from csp.crystals import Crystals
from csp.dedup import unique
from csp.ends import RANKED, SAME_ENERGY, same_crystal, simplest
from csp.errors import InputError
from csp.geometry import plausible
from csp.last_order import LastOrder
from csp.pool import Pool, all_ways, by_score, interleave, together
from csp.prediction import Prediction
from csp.protocols import EnergyModel, Evaluation, Generator, Labeller, Learner
from csp.rank import Ranking, enthalpy, rank
from csp.rattle import Rattled, rattle
from csp.references import References
from csp.relax import Relaxed, relax
from csp.settings import SearchSettings
from csp.store import PROPOSALS, Candidates, Store
from csp.surroundings import Surroundings
from csp.symmetry import operations
from csp.target import Target

__all__ = ["STAGES", "WHOLE", "Progress", "Search", "Share", "check_elements"]

PROPOSAL_SHARD = 256
# crystals in one shard: what a kill may cost; 40 relax a quarter to a third faster than 16 at a time
MODEL_SHARD = {
    "screen": 256,
    "label": 1,
    "improve": 120,
    "relax": 40,
    "judge": 40,
    "finish": 10,
    "rattle": 8,
    "hull": 1,
}
ON_GPU = 32  # times as many
JUDGED = 4  # times as many as are finished, at most; a single point costs about a fiftieth of finishing
IMPROVED = 3  # times as many as are relaxed, at most
IMPROVING_STEPS = 20
KEPT_SYMPREC = 1e-4  # Å; what a relaxation has kept is exact but for rounding, and nothing else is meant
RATTLED_MAX_FORCE = 0.02  # eV/Å; along a soft mode forces are small before anything is gained
STAGES = ("propose", "screen", "label", "improve", "relax", "judge", "finish", "rattle", "hull")

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""

Share = tuple[int, int]
"""(k, n): every n-th shard of a stage from the k-th, so that n workers do a stage between them."""

WHOLE: Share = (0, 1)


@dataclass(frozen=True)
class Search:
    """One search: its settings, the parts it is made of, and the store that holds what is done.

    models           the first screens and relaxes, the last finishes and ranks; one may do it all
    volume_per_atom  expected volume, Å³, that plausibility is judged by
    learner          labels candidates and adapts the first model to the labels; None: it stays as it is
    references       what energies above the hull are counted from; None: there are none
    last_order       what tells probabilities from energies and provenance; None: only energies rank
    """

    settings: SearchSettings
    generators: Sequence[Generator]
    models: Sequence[EnergyModel]
    volume_per_atom: float
    store: Store
    progress: Progress = lambda stage, done, total: None
    learner: Learner | None = None
    references: References | None = None
    last_order: LastOrder | None = None

    def run(self) -> Prediction:
        """Run all stages, or finish them, and rank. Raises InputError for elements a model lacks."""
        for model in self.models:
            check_elements(self.settings.target(), model)
        for stage in STAGES:
            getattr(self, stage)()
        return self.conclude()

    @property
    def model(self) -> EnergyModel:
        """The last model, whose energies rank."""
        return self.models[-1] if len(self.models) > 1 else self.first

    @property
    def first(self) -> EnergyModel:
        """The model that screens and relaxes, adapted to the labels there are."""
        return self._adapted(self.settings.rounds)

    @cached_property
    def adaptation(self) -> Adaptation:
        return Adaptation(self.models[0], self.learner, self.store)

    def _adapted(self, rounds: int) -> EnergyModel:
        """The first model after so many rounds of labels."""
        return self.adaptation.after(rounds, lambda: self.pool)

    # -- stages -----------------------------------------------------------------------------------

    def propose(self, share: Share = WHOLE) -> None:
        """Candidates of every generator into the store."""
        target, n = self.settings.target(), self.settings.candidates
        for k, generator in enumerate(self.generators):
            written = self.store.done(PROPOSALS, generator.name)
            for shard, part in _shards(n, PROPOSAL_SHARD, share):
                self.progress("propose", k * n + part.start, len(self.generators) * n)
                if shard not in written:
                    proposals = generator.propose(
                        target, len(part), seed=self.settings.seed, start=part.start
                    )
                    self.store.write_proposals(generator.name, shard, proposals)
        self.progress("propose", len(self.generators) * n, len(self.generators) * n)

    def screen(self, share: Share = WHOLE) -> None:
        """Single-point energies of the first distinct candidates of each generator."""
        self._screen(0, share)

    def label(self, share: Share = WHOLE) -> None:
        """In rounds: label some of the screened, adapt the first model to all labels, screen with it again.

        Each round needs the one before, so the first of several workers does it.
        """
        if not self.learner or share[0]:
            return
        made = 0
        for done in range(self.settings.rounds):
            chosen = self._to_label(done)
            written = self.store.done(labelling(done))
            for shard, part in _shards(len(chosen), MODEL_SHARD["label"], WHOLE):
                self.progress("label", made + part.start, self.settings.labels)
                if shard not in written:
                    some = self.pool.take([chosen[k] for k in part])
                    found = Evaluation(self.learner.label, self.learner.compute(some.crystals).energy)
                    self.store.write_energies(labelling(done), shard, some.ids, found)
            made += len(chosen)
            self._screen(done + 1, WHOLE)
        self.progress("label", self.settings.labels, self.settings.labels)

    def improve(self, share: Share = WHOLE) -> None:
        """Relax screened candidates without a template for a few steps, keeping their symmetry."""
        drawn, max_force = self._drawn(), self.settings.max_force
        self._relax_in_shards(
            "improve", self.first, drawn.ids, drawn.crystals, max_force, share, max_steps=IMPROVING_STEPS
        )

    def relax(self, share: Share = WHOLE) -> None:
        """Relax the chosen candidates, keeping the symmetry that each was proposed with."""
        chosen, max_force = self._chosen(), self.settings.max_force
        self._relax_in_shards("relax", self.first, chosen.ids, chosen.crystals, max_force, share)

    def judge(self, share: Share = WHOLE) -> None:
        """Single points by the last model of what the first relaxed, unless all of it is finished anyway."""
        if len(self.models) == 1:
            return
        judged, model = self._judged(), self.model
        written = self.store.done("judge")
        for shard, part in _shards(len(judged.ids), _shard_size("judge", model), share):
            self.progress("judge", part.start, len(judged.ids))
            if shard not in written:
                some = judged.crystals[part.start : part.stop]
                self.store.write_energies("judge", shard, some.ids(), _single_points(model, some))
        self.progress("judge", len(judged.ids), len(judged.ids))

    def finish(self, share: Share = WHOLE) -> None:
        """Relax the best of what the first model relaxed on with the last model, if that is another."""
        if len(self.models) > 1:
            starts, max_force = self._finishing().crystals, self.settings.max_force
            self._relax_in_shards("finish", self.model, starts.ids(), starts, max_force, share)

    def rattle(self, share: Share = WHOLE) -> None:
        """Rattle the best distinct crystals, also in doubled cells, and relax them without symmetry."""
        starts = self.rattled(self.relaxed()[1]).crystals
        max_force = min(RATTLED_MAX_FORCE, self.settings.max_force)
        if self._relax_in_shards("rattle", self.model, starts.ids(), starts, max_force, share):
            self.store.finish()

    def hull(self, share: Share = WHOLE) -> None:
        """Relax the references, or take what an earlier search relaxed, a composition or more in a shard."""
        if self.references is None:
            return
        written, n = self.store.done("hull"), len(self.references)
        for shard, part in _shards(n, _shard_size("hull", self.model), share):
            self.progress("hull", part.start, n)
            if shard not in written:
                ids, ends = self.references.relax(
                    part,
                    self.model,
                    max_steps=self.settings.max_steps,
                    max_force=self.settings.max_force,
                    pressure=self.settings.pressure,
                )
                self.store.write_relaxed("hull", shard, ids, ends)
        self.progress("hull", n, n)

    # -- what follows from the store --------------------------------------------------------------

    def relaxed(self) -> tuple[list[str], Relaxed]:
        """The ends of the relaxations by the last model that keep symmetry, and whose candidates they are."""
        if len(self.models) == 1:
            return self.store.relaxed("relax", self.model.label)
        starts = self._finishing()
        candidate = dict(zip(starts.crystals.ids(), starts.ids, strict=True))
        ids, ends = self.store.relaxed("finish", self.model.label)
        return [candidate[i] for i in ids], ends

    @property
    def starts(self) -> Pool:
        """What the last model relaxes keeping symmetry, by the ids that `relaxed` gives their ends."""
        return self._finishing() if len(self.models) > 1 else self._chosen()

    @cached_property
    def pool(self) -> Pool:
        """The stored candidates that are plausible, each structure once. Read after `propose`."""
        built, kept = self.built, self.plausible
        self.progress("filter", 0, len(built.ids))
        same = unique(built.crystals[kept]).tolist()
        provenance = together(same, [(built.provenance[k],) for k in kept.tolist()])
        index = [int(kept[k]) for k in provenance]
        self.progress("filter", len(built.ids), len(built.ids))
        return Pool([built.ids[k] for k in index], built.crystals[index], list(provenance.values()))

    @cached_property
    def built(self) -> Candidates:
        return self.store.candidates()

    @cached_property
    def plausible(self) -> Tensor:
        """int64: the plausible ones of the built candidates."""
        return plausible(self.built.crystals, self.volume_per_atom).nonzero().flatten()

    @property
    def _screened(self) -> list[int]:
        """Members of the pool that get a single point; none where all of them would be relaxed."""
        if self.settings.screened <= self.settings.relaxed and not self.learner:
            return []
        return interleave(by_score(self.pool).values(), self.settings.screened)

    def _screen(self, rounds: int, share: Share) -> None:
        """Store the energies of the screened candidates by the first model after so many rounds of labels."""
        index, model, stage = self._screened, self._adapted(rounds), _screening(rounds)
        written = self.store.done(stage)
        for shard, part in _shards(len(index), _shard_size("screen", model), share):
            if not rounds:
                self.progress("screen", part.start, len(index))
            if shard not in written:
                some = self.pool.take([index[k] for k in part])
                self.store.write_energies(stage, shard, some.ids, model.evaluate(some.crystals))
        if not rounds:
            self.progress("screen", len(index), len(index))

    def _energies(self, rounds: int) -> list[float]:
        """Enthalpies, eV/atom, of the pool's members by the first model after so many rounds; NaN if not
        screened."""
        ids, evaluation = self.store.energies(_screening(rounds), self._adapted(rounds).label)
        known = dict(zip(ids, evaluation.energy.tolist(), strict=True))
        energy = torch.tensor([known.get(i, math.nan) for i in self.pool.ids], dtype=torch.float64)
        crystals = self.pool.crystals
        return (enthalpy(energy, crystals.volumes, self.settings.pressure) / crystals.n_atoms).tolist()

    @cached_property
    def _screened_energies(self) -> list[float]:
        """As `_energies` after all rounds. Read when all are stored."""
        return self._energies(self.settings.rounds if self.learner else 0)

    def _drawn(self) -> Pool:
        """Screened candidates without a template, as many as are improved."""
        per_atom = self._screened_energies
        index = [
            k
            for k, proposed in enumerate(self.pool.provenance)
            if math.isfinite(per_atom[k]) and not any(one.template_id for one in proposed)
        ]
        drawn = self.pool.take(index)
        return drawn.take(all_ways(drawn, IMPROVED * self.settings.relaxed, [per_atom[k] for k in index]))

    def _chosen(self) -> Pool:
        """What the first model relaxes: candidates, the improved as they are now, ends that meet once.

        The improved ones compete by the energies that they had and by those that they have: many a wrong
        crystal relaxes to a lower energy than an answer that was drawn right.
        """
        ids, ends = self.store.relaxed("improve", self.first.label)
        good = [k for k, status in enumerate(ends.status) if status in RANKED]
        crystals, per_atom = ends.crystals[good], self.per_atom(ends)[good]
        of_pool = {i: k for k, i in enumerate(self.pool.ids)}
        improved = [of_pool[ids[k]] for k in good]
        same = unique(crystals, energies=per_atom, energy_tolerance=SAME_ENERGY).tolist()
        provenance = together(same, [self.pool.provenance[k] for k in improved])
        kept, left = list(provenance), sorted(set(of_pool.values()) - set(improved))
        pool = Pool(
            [self.pool.ids[k] for k in left] + [ids[good[k]] for k in kept],
            Crystals.cat([self.pool.crystals[left], crystals[kept]]),
            [self.pool.provenance[k] for k in left] + list(provenance.values()),
        )
        before = dict.fromkeys(kept, math.inf)
        for stands, k in zip(same, improved, strict=True):
            before[stands] = min(before[stands], self._screened_energies[k])
        screened = [self._screened_energies[k] for k in left] + list(before.values())
        now = [math.nan] * len(left) + per_atom[kept].tolist()
        return pool.take(all_ways(pool, self.settings.relaxed, screened, now))

    def _to_label(self, done: int) -> list[int]:
        """Members of the pool that are labelled after so many rounds; the labels are shared out evenly."""
        assert self.learner is not None
        energies = self._energies(done)
        known = [k for k in range(len(energies)) if math.isfinite(energies[k])]
        before = set(self.adaptation.labels(done)[0])
        chosen = self.learner.choose(
            self._adapted(done),
            self.pool.crystals[known],
            torch.tensor([energies[k] for k in known], dtype=torch.float64),
            [b for b, k in enumerate(known) if self.pool.ids[k] in before],
            math.ceil((self.settings.labels - len(before)) / (self.settings.rounds - done)),
            self.settings.seed + done,
        )
        return [known[b] for b in chosen]

    def _distinct(self) -> tuple[Pool, list[float]]:
        """Distinct ends of the first model, with the ids of their candidates, and its eV/atom."""
        ids, ends = self.store.relaxed("relax", self.first.label)
        if len(ids) not in self._ends:
            good = [k for k, status in enumerate(ends.status) if status in RANKED]
            crystals, per_atom = ends.crystals[good], self.per_atom(ends)[good]
            known = dict(zip(self.pool.ids, self.pool.provenance, strict=True))
            same = simplest(same_crystal(crystals, per_atom), crystals.n_atoms, per_atom).tolist()
            provenance = together(same, [known[ids[k]] for k in good])
            kept = list(provenance)
            pool = Pool([ids[good[k]] for k in kept], crystals[kept], list(provenance.values()))
            self._ends[len(ids)] = pool, per_atom[kept].tolist()
        return self._ends[len(ids)]

    @cached_property
    def _ends(self) -> dict[int, tuple[Pool, list[float]]]:
        """What `_distinct` found, by the number of stored ends, which only grows."""
        return {}

    def _judged(self) -> Pool:
        """The distinct ends that the last model judges; none if it finishes them all."""
        distinct, per_atom = self._distinct()
        if len(distinct.ids) <= self.settings.finished:
            return distinct.take([])
        return distinct.take(all_ways(distinct, JUDGED * self.settings.finished, per_atom))

    def _finishing(self) -> Pool:
        """What the last model is to relax on: ends of the first model, with the ids of their candidates."""
        judged = self._judged()
        if not judged.ids:
            return self._distinct()[0]
        ids, evaluation = self.store.energies("judge", self.model.label)
        energy = dict(zip(ids, evaluation.energy.tolist(), strict=True))
        crystals = judged.crystals
        energies = torch.tensor([energy.get(i, math.nan) for i in crystals.ids()], dtype=torch.float64)
        per_atom = enthalpy(energies, crystals.volumes, self.settings.pressure) / crystals.n_atoms
        return judged.take(all_ways(judged, self.settings.finished, per_atom.tolist()))

    def _best(self, relaxed: Relaxed) -> list[int]:
        """The lowest distinct crystals, which are rattled."""
        good, ranking = self.ranked(relaxed)
        return [good[k] for k in ranking.chosen[: self.settings.rattled].tolist()]

    def rattled(self, relaxed: Relaxed) -> Rattled:
        """Rattled starts of the best; `parent` says which of `relaxed` each comes from."""
        best = self._best(relaxed)
        crystals = relaxed.crystals[best]
        starts = rattle(crystals, operations(crystals), seed=self.settings.seed)
        return replace(starts, parent=[best[b] for b in starts.parent])

    def ranked(self, relaxed: Relaxed) -> tuple[list[int], Ranking]:
        """Those with an energy, and the ranking of them."""
        good = [k for k, status in enumerate(relaxed.status) if status in RANKED]
        crystals, per_atom = relaxed.crystals[good], self.per_atom(relaxed)[good]
        groups = same_crystal(crystals, per_atom)
        return good, rank(per_atom, crystals.ids(), groups, [relaxed.label] * len(good))

    def per_atom(self, relaxed: Relaxed) -> Tensor:
        """float64 [B]: enthalpy per atom, eV; NaN where there is no energy."""
        crystals = relaxed.crystals
        return enthalpy(relaxed.energy, crystals.volumes, self.settings.pressure) / crystals.n_atoms

    def _relax_in_shards(
        self,
        stage: str,
        model: EnergyModel,
        ids: list[str],
        starts: Crystals,
        max_force: float,
        share: Share,
        max_steps: int | None = None,
    ) -> bool:
        """Relax and store what is not yet stored; whether the whole stage is stored now.

        max_steps: at most, less where the settings say less; None: as they say.
        """
        max_steps = min(max_steps or self.settings.max_steps, self.settings.max_steps)
        written, size = self.store.done(stage), _shard_size(stage, model)
        self.progress(stage, 0, len(ids))
        for shard, part in _shards(len(ids), size, share):
            if shard in written:
                continue
            crystals = starts[part.start : part.stop]

            def on_step(moving: int, step: int, stop: int = part.stop) -> None:
                self.progress(stage, stop - moving, len(ids))

            ends = relax(
                crystals.to(model.device),
                model,
                max_steps=max_steps,
                max_force=max_force,
                pressure=self.settings.pressure,
                symmetry=None if stage == "rattle" else operations(crystals).to(model.device),
                on_step=on_step,
            )
            self.store.write_relaxed(stage, shard, ids[part.start : part.stop], ends)
        self.progress(stage, len(ids), len(ids))
        return self.stored(stage, len(ids), model)

    def stored(self, stage: str, n: int, model: EnergyModel) -> bool:
        """Are all shards of a stage stored, whoever did them?"""
        shards = _shards(n, _shard_size(stage, model), WHOLE)
        return self.store.done(stage).issuperset(shard for shard, _ in shards)

    # -- the answer -------------------------------------------------------------------------------

    def conclude(self) -> Prediction:
        """Rank what the store holds; after an interruption too, when relaxations are missing."""
        return Answer(self).prediction()


def check_elements(
    target: Target, model: EnergyModel | Labeller, advice: str = "choose another --relaxer"
) -> None:
    """Raise InputError, one sentence that ends in `advice`, if the model lacks an element of the target."""
    unknown = [z for z in target.numbers if z not in model.elements]
    if unknown:
        from ase.data import chemical_symbols

        names = ", ".join(chemical_symbols[z] for z in unknown)
        raise InputError(f"{model.name} does not know {names}; {advice}.")


def _single_points(model: EnergyModel, crystals: Crystals) -> Evaluation:
    """Energies of crystals whose symmetry was kept in a relaxation.

    To find it again takes 0.6 ms for 10 atoms: worth it for a potential, not for the surrogate.
    """
    known = operations(crystals, KEPT_SYMPREC)
    exact = known.symmetrize(crystals)
    return model.evaluate(exact, surroundings=Surroundings.of(exact, known))


def _screening(rounds: int) -> str:
    """The stage of energies by the first model after so many rounds of labels."""
    return f"screen {rounds}" if rounds else "screen"


def _shard_size(stage: str, model: EnergyModel) -> int:
    return MODEL_SHARD[stage] * (1 if model.device.type == "cpu" else ON_GPU)


def _shards(n: int, size: int, share: Share) -> Iterator[tuple[int, range]]:
    """(shard number, its range) of n things in shards of `size`; those of the share only."""
    mine, shares = share
    for shard in range(mine, math.ceil(n / size), shares):
        yield shard, range(shard * size, min(n, (shard + 1) * size))
