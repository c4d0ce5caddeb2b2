"""The whole algorithm: from a target to ranked crystals. Read this first.

    generators ─▶ propose ─▶ filter ─▶ screen ─▶ pre_relax ─▶ relax ─▶ rescore ─▶ refine ─▶ rattle ─▶ ranked
                                                                            references ─▶ hull ──────────┤
                                                                          other models ─▶ compare ───────┘

What no template vouches for is pre-relaxed: a few steps downhill before it is chosen or not, because single
points of drawn coordinates are a poor guide. With one model, it does everything and nothing is left to
rescore or refine. With two, the first (a fast surrogate) screens, pre-relaxes and relaxes; the second (a
slower potential) rescores what came out by single points, refines the best of it, and the ranking is by its
energies alone. With a learner, some candidates are labelled after the screening, the first model is adapted
to the labels, and the candidates are screened again with it. With references, known crystals that the target
could decompose into, the last model relaxes them too, and what is ranked gets its energy above their convex
hull. The first model, and another potential if there is a second opinion, give energies to what is ranked:
how far they disagree tells how sure the differences are.

Each stage is a function of what the stages before it left in the store and works through its shards of fixed
size, writing each in one transaction. A search that was killed and is started again finds the shards that are
done and goes on. `csp.search.funnel` has which candidates reach a stage, `csp.search.stages` in which order
and portions the stages run, `csp.search.conclude` what follows from it all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from csp.crystallography.neighbours import CLOSEST
from csp.crystallography.operations import operations
from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from csp.errors import InputError
from csp.protocols import EnergyModel, Evaluation, Generator, Labeller, Learner, Proposals
from csp.ranking.differences import DifferenceErrors
from csp.ranking.known import KnownCrystals
from csp.ranking.probability import AnswerProbability
from csp.ranking.references import References
from csp.relaxation.relax import relax
from csp.search.adaptation import labelling_stage
from csp.search.conclude import Conclusion, comparing_stage
from csp.search.funnel import Funnel, Progress, screening_stage
from csp.search.prediction import Prediction
from csp.search.stages import BY_NAME, STAGES, WHOLE, Share, shards
from csp.settings import SearchSettings
from csp.store.store import PROPOSALS, Store
from csp.target import Target

__all__ = ["PRE_RELAX_STEPS", "Search", "check_elements"]

PRE_RELAX_STEPS = 20
KEPT_SYMPREC = 1e-4  # Å; what a relaxation has kept is exact but for rounding, and nothing else is meant
RATTLED_MAX_FORCE = 0.02  # eV/Å; along a soft mode forces are small before anything is gained


@dataclass(frozen=True)
class Search:
    """One search: its settings, the parts it is made of, and the store that holds what is done.

    Attributes:
        settings: Everything that decides the outcome, machine and files aside.
        target: What the settings ask for.
        generators: They propose, in this order.
        models: The first screens and relaxes, the last refines and ranks; one may do it all.
        volume_per_atom: Expected volume, Å³, at the target's pressure, that plausibility is measured by.
        store: Holds what is done.
        progress: Called with (stage, done, total).
        relaxer_why: Why the last model is that one, a clause for people.
        compression: Volume that proposals start with, in units of that at no pressure, which is what
            generators know.
        second: Gives a second opinion on the energies of what is ranked; None: there is none.
        difference_errors: How sure energy differences are; None: it is not known.
        learner: Labels candidates and adapts the first model to the labels; None: it stays as it is.
        references: What energies above the hull are counted from; None: there are none.
        answer_probability: Gives probabilities from energies and provenance; None: only energies rank.
        known: Says which of the ranked crystals are known; None: that is not asked.
    """

    settings: SearchSettings
    target: Target
    generators: Sequence[Generator]
    models: Sequence[EnergyModel]
    volume_per_atom: float
    store: Store
    progress: Progress = lambda stage, done, total: None
    learner: Learner | None = None
    references: References | None = None
    answer_probability: AnswerProbability | None = None
    compression: float = 1.0
    relaxer_why: str = ""
    second: EnergyModel | None = None
    difference_errors: DifferenceErrors | None = None
    known: KnownCrystals | None = None

    def run(self) -> Prediction:
        """Run all stages, or finish them, and rank.

        Raises:
            InputError: For elements that a model lacks.
        """
        for model in (*self.models, *([self.second] if self.second else [])):
            check_elements(self.target, model)
        for stage in STAGES:
            getattr(self, stage.name)()
        return self.conclude()

    def conclude(self) -> Prediction:
        """Rank what the store holds; after an interruption too, when relaxations are missing."""
        return self.conclusion.prediction()

    @property
    def conclusion(self) -> Conclusion:
        """What can be concluded from what the store holds now."""
        return Conclusion(
            self.target,
            self.funnel,
            self.references,
            self.answer_probability,
            self.relaxer_why,
            self.second,
            self.difference_errors,
            self.known,
        )

    @cached_property
    def funnel(self) -> Funnel:
        """Who passes each stage."""
        return Funnel(
            self.settings,
            self.models,
            self.volume_per_atom,
            self.store,
            self.learner,
            self.progress,
            min_distance=CLOSEST * self.compression ** (1 / 3),
        )

    # -- stages, in the order of csp.search.stages --------------------------------------------------

    def propose(self, share: Share = WHOLE) -> None:
        """Candidates of every generator into the store."""
        n = self.settings.candidates
        for k, generator in enumerate(self.generators):
            written = self.store.done(PROPOSALS, generator.name)
            for shard, part in shards(n, BY_NAME["propose"].shard, share):
                self.progress("propose", k * n + part.start, len(self.generators) * n)
                if shard not in written:
                    proposals = generator.propose(
                        self.target, len(part), seed=self.settings.seed, start=part.start
                    )
                    self.store.write_proposals(generator.name, shard, self._compressed(proposals))
        self.progress("propose", len(self.generators) * n, len(self.generators) * n)

    def filter(self, share: Share = WHOLE) -> None:
        """Drop what is crowded or there twice; every worker does it for itself."""
        assert self.funnel.pool is not None

    def screen(self, share: Share = WHOLE) -> None:
        """Single-point energies of the first distinct candidates of each generator."""
        self._screen(0, share)

    def label(self, share: Share = WHOLE) -> None:
        """In rounds: label some of the screened, adapt the first model to all labels, screen with it again.

        Each round needs the one before, so the first of several workers does it.
        """
        if not self.learner or share[0]:
            return
        pool, made = self.funnel.pool, 0
        for done in range(self.settings.rounds):
            chosen, stage = self.funnel.to_label(done), labelling_stage(done)
            written = self.store.done(stage)
            for shard, part in shards(len(chosen), BY_NAME["label"].shard, WHOLE):
                self.progress("label", made + part.start, self.settings.labels)
                if shard not in written:
                    some = pool.take([chosen[k] for k in part])
                    found = Evaluation(self.learner.label, self.learner.compute(some.crystals).energy)
                    self.store.write_energies(stage, shard, some.ids, found)
            made += len(chosen)
            self._screen(done + 1, WHOLE)
        self.progress("label", self.settings.labels, self.settings.labels)

    def pre_relax(self, share: Share = WHOLE) -> None:
        """Relax screened candidates without a template for a few steps, keeping their symmetry."""
        starts, model = self.funnel.pre_relax_starts(), self.funnel.screening_model
        steps = min(PRE_RELAX_STEPS, self.settings.max_steps)
        self._relax_in_shards("pre_relax", model, starts.ids, starts.crystals, share, max_steps=steps)

    def relax(self, share: Share = WHOLE) -> None:
        """Relax the chosen candidates, keeping the symmetry that each was proposed with."""
        starts = self.funnel.relax_starts()
        self._relax_in_shards("relax", self.funnel.screening_model, starts.ids, starts.crystals, share)

    def rescore(self, share: Share = WHOLE) -> None:
        """Single points by the last model of what the first relaxed, unless all of it is refined anyway."""
        if len(self.models) == 1:
            return
        rescored, model = self.funnel.rescored(), self.funnel.ranking_model
        written, n = self.store.done("rescore"), len(rescored.ids)
        for shard, part in shards(n, BY_NAME["rescore"].shard_on(model.device.type), share):
            self.progress("rescore", part.start, n)
            if shard not in written:
                some = rescored.crystals[part.start : part.stop]
                self.store.write_energies("rescore", shard, some.ids(), _single_points(model, some))
        self.progress("rescore", n, n)

    def refine(self, share: Share = WHOLE) -> None:
        """Relax the best of what the first model relaxed on with the last model, if that is another."""
        if len(self.models) > 1:
            starts = self.funnel.refine_starts().crystals
            self._relax_in_shards("refine", self.funnel.ranking_model, starts.ids(), starts, share)

    def rattle(self, share: Share = WHOLE) -> None:
        """Rattle the best distinct crystals, also in doubled cells, and relax them without symmetry."""
        starts = self.funnel.rattle_starts(self.funnel.relaxed()[1]).crystals
        max_force = min(RATTLED_MAX_FORCE, self.settings.max_force)
        model = self.funnel.ranking_model
        if self._relax_in_shards("rattle", model, starts.ids(), starts, share, max_force=max_force):
            self.store.finish()

    def compare(self, share: Share = WHOLE) -> None:
        """Single points of what is ranked by the models that do not rank."""
        conclusion = self.conclusion
        if not conclusion.others:
            return
        crystals, n = conclusion.ranked_crystals, len(conclusion.others)
        for k, model in enumerate(conclusion.others):
            stage = comparing_stage(model)
            written = self.store.done(stage)
            for shard, part in shards(len(crystals), BY_NAME["compare"].shard_on(model.device.type), share):
                self.progress("compare", k * len(crystals) + part.start, n * len(crystals))
                if shard not in written:
                    some = crystals[part.start : part.stop]
                    found = model.evaluate(some.to(model.device))
                    self.store.write_energies(stage, shard, some.ids(), found)
        self.progress("compare", n * len(crystals), n * len(crystals))

    def hull(self, share: Share = WHOLE) -> None:
        """Relax the references, or take what an earlier search relaxed, a composition or more in a shard."""
        if self.references is None:
            return
        model = self.funnel.ranking_model
        written, n = self.store.done("hull"), len(self.references)
        for shard, part in shards(n, BY_NAME["hull"].shard_on(model.device.type), share):
            self.progress("hull", part.start, n)
            if shard not in written:
                ids, relaxed = self.references.relax(part, model, pressure=self.settings.pressure)
                self.store.write_relaxed("hull", shard, ids, relaxed)
        self.progress("hull", n, n)

    def _compressed(self, proposals: Proposals) -> Proposals:
        """The proposals at the volume that the pressure leaves them."""
        if self.compression == 1.0:
            return proposals
        crystals = proposals.crystals
        return replace(proposals, crystals=crystals.scaled_to(self.compression * crystals.volumes))

    # -- how they are done ------------------------------------------------------------------------

    def _screen(self, rounds: int, share: Share) -> None:
        """Store the energies of the screened candidates by the first model after so many rounds of labels."""
        index, model, stage = self.funnel.screened, self.funnel.adapted(rounds), screening_stage(rounds)
        written = self.store.done(stage)
        for shard, part in shards(len(index), BY_NAME["screen"].shard_on(model.device.type), share):
            if not rounds:
                self.progress("screen", part.start, len(index))
            if shard not in written:
                some = self.funnel.pool.take([index[k] for k in part])
                self.store.write_energies(stage, shard, some.ids, model.evaluate(some.crystals))
        if not rounds:
            self.progress("screen", len(index), len(index))

    def _relax_in_shards(
        self,
        stage: str,
        model: EnergyModel,
        ids: list[str],
        starts: Crystals,
        share: Share,
        *,
        max_steps: int | None = None,
        max_force: float | None = None,
    ) -> bool:
        """Relax and store what is not yet stored; whether the whole stage is stored now.

        `max_steps` and `max_force` are those of the settings where None.
        """
        written = self.store.done(stage)
        self.progress(stage, 0, len(ids))
        for shard, part in shards(len(ids), BY_NAME[stage].shard_on(model.device.type), share):
            if shard in written:
                continue
            crystals = starts[part.start : part.stop]

            def on_step(moving: int, step: int, stop: int = part.stop) -> None:
                self.progress(stage, stop - moving, len(ids))

            relaxed = relax(
                crystals.to(model.device),
                model,
                max_steps=self.settings.max_steps if max_steps is None else max_steps,
                max_force=self.settings.max_force if max_force is None else max_force,
                pressure=self.settings.pressure,
                symmetry=None if stage == "rattle" else operations(crystals).to(model.device),
                on_step=on_step,
            )
            self.store.write_relaxed(stage, shard, ids[part.start : part.stop], relaxed)
        self.progress(stage, len(ids), len(ids))
        return self.funnel.stored(stage, len(ids), model)


def _single_points(model: EnergyModel, crystals: Crystals) -> Evaluation:
    """Energies of crystals whose symmetry was kept in a relaxation.

    To find it again takes 0.6 ms for 10 atoms: worth it for a potential, not for the surrogate.
    """
    known = operations(crystals, KEPT_SYMPREC)
    exact = known.symmetrize(crystals)
    return model.evaluate(exact, surroundings=Surroundings.of(exact, known))


def check_elements(
    target: Target, model: EnergyModel | Labeller, advice: str = "choose another `relaxer`"
) -> None:
    """Does the model know all elements of the target?

    Raises:
        InputError: One sentence, with `advice` last, if it lacks one.
    """
    unknown = [z for z in target.numbers if z not in model.elements]
    if unknown:
        from ase.data import chemical_symbols

        names = ", ".join(chemical_symbols[z] for z in unknown)
        raise InputError(f"{model.name} does not know {names}; {advice}.")
