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

A deep search then goes on in rounds before it rattles: it draws more, looks again where it went low, makes
moves on what is low, and estimates what it has not seen, until that is little or its time is over
(`csp.search.rounds`).

Each stage is a function of what the stages before it left in the store and works through its shards of fixed
size, writing each in one transaction. A search that was killed and is started again finds the shards that are
done and goes on. `csp.search.funnel` has which candidates reach a stage, `csp.search.stages` in which order
and portions the stages run, `csp.search.conclude` what follows from it all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from csp.crystallography.neighbours import CLOSEST
from csp.diffraction.sample import Sample
from csp.errors import InputError
from csp.protocols import EnergyModel, Evaluation, Generator, Labeller, Learner
from csp.ranking.differences import DifferenceErrors
from csp.ranking.known import KnownCrystals
from csp.ranking.probability import AnswerProbability
from csp.ranking.references import References
from csp.search.adaptation import labelling_stage
from csp.search.conclude import Conclusion, comparing_stage
from csp.search.dynamics import MOST_ROUNDS, Dynamics
from csp.search.funnel import Funnel, Progress, screening_stage
from csp.search.history import Heard
from csp.search.prediction import Prediction
from csp.search.proposing import Proposing
from csp.search.results import prediction
from csp.search.rounds import Rounds
from csp.search.stages import BY_NAME, PHONON_STEPS, STAGES, STEPS, WHOLE, Share, shards
from csp.search.work import Told, Work
from csp.settings import SearchSettings
from csp.store.store import PROPOSALS, Store
from csp.target import Target

__all__ = ["PRE_RELAX_STEPS", "Search", "check_elements"]

PRE_RELAX_STEPS = 20
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
        heard: Called with each round of a deep search when it is closed, and the one before it.
        since: When this process took it up, by the monotonic clock; from then on its minutes count.
        relaxer_why: Why the last model is that one, a clause for people.
        compression: Volume that proposals start with, in units of that at no pressure, which is what
            generators know.
        second: Gives a second opinion on the energies of what is ranked; None: there is none.
        difference_errors: How sure energy differences are; None: it is not known.
        sample: What a powder pattern was measured of; None: there is none.
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
    sample: Sample | None = None
    known: KnownCrystals | None = None
    heard: Heard = lambda now, before: None
    since: float = field(default_factory=time.monotonic)
    _vibrated: dict[int, Conclusion] = field(default_factory=dict, repr=False)

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
        return prediction(self.conclusion)

    @property
    def conclusion(self) -> Conclusion:
        """What can be concluded from what the store holds now."""
        return self._concluded(self.dynamics.closed if self.dynamics else 0)

    def _concluded(self, followed: int) -> Conclusion:
        """After so many rounds of phonons."""
        return Conclusion(
            self.target,
            self.funnel,
            references=self.references,
            answer_probability=self.answer_probability,
            relaxer_why=self.relaxer_why,
            second=self.second,
            difference_errors=self.difference_errors,
            known=self.known,
            sample=self.sample,
            rounds=self.deep,
            dynamics=self.dynamics,
            followed=followed,
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

    @cached_property
    def work(self) -> Work:
        """Does shards of stages."""
        return Work(self.settings, self.store)

    @cached_property
    def deep(self) -> Rounds | None:
        """The rounds of a deep search."""
        if self.settings.effort != "deep":
            return None
        proposing = Proposing(self.target, self.generators, self.funnel, self.compression)
        return Rounds(proposing, self.work, lambda done, total: self._tell_time())

    @cached_property
    def dynamics(self) -> Dynamics | None:
        """Phonons of the first of the ranking."""
        if not self.settings.phonons:
            return None
        return Dynamics(self.settings, self.store, self.funnel.ranking_model, self._told("phonons"))

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
                    self.store.write_proposals(generator.name, shard, proposals.scaled(self.compression))
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
        told = self._told("pre_relax")
        self.work.relax("pre_relax", model, starts.ids, starts.crystals, share, told, max_steps=steps)

    def relax(self, share: Share = WHOLE) -> None:
        """Relax the chosen candidates, keeping the symmetry that each was proposed with."""
        starts = self.funnel.relax_starts()
        model = self.funnel.screening_model
        self.work.relax("relax", model, starts.ids, starts.crystals, share, self._told("relax"))

    def rescore(self, share: Share = WHOLE) -> None:
        """Single points by the last model of what the first relaxed, unless all of it is refined anyway."""
        if len(self.models) == 1:
            return
        crystals, model = self.funnel.rescored().crystals, self.funnel.ranking_model
        self.work.rescore("rescore", model, crystals, share, self._told("rescore"))

    def refine(self, share: Share = WHOLE) -> None:
        """Relax the best of what the first model relaxed on with the last model, if that is another."""
        if len(self.models) > 1:
            starts, model = self.funnel.refine_starts().crystals, self.funnel.ranking_model
            self.work.relax("refine", model, starts.ids(), starts, share, self._told("refine"))

    def rounds(self, share: Share = WHOLE) -> None:
        """Search on in rounds until what is low is found, nothing is left to try or the time is over.

        One process does them all; several share out each step of each round (`further`).
        """
        self._in_rounds("rounds", STEPS)

    def _in_rounds(self, stage: str, steps: Sequence[str]) -> None:
        for number in self.further(stage):
            for step in steps:
                self.do(number, step)

    def do(self, number: int, step: str, share: Share = WHOLE) -> None:
        """A step of a round, see `csp.search.rounds` and `csp.search.dynamics`."""
        if step in PHONON_STEPS:
            assert self.dynamics is not None
            self.dynamics.do(number, step, self._after_phonons(number - 1).to_vibrate, share)
        else:
            assert self.deep is not None
            self.deep.do(number, step, share)

    def further(self, stage: str) -> Iterator[int]:
        """The numbers of a stage's rounds to do, each when the one before is done by all workers; none where
        they are not asked for."""
        yield from self._further_phonons() if stage == "phonons" else self._further_rounds()

    def _further_rounds(self) -> Iterator[int]:
        if self.deep is None:
            return
        for number in self.deep.to_do(lambda: self._minutes > self.settings.minutes):
            self._hear()
            yield number
        self._hear()
        self._tell_time(over=True)

    def rattle(self, share: Share = WHOLE) -> None:
        """Rattle the best distinct crystals, also in doubled cells, and relax them without symmetry."""
        conclusion, model = self.conclusion, self.funnel.ranking_model
        starts = self.funnel.rattle_starts(conclusion.symmetric[1]).crystals
        if self.work.relax(
            "rattle",
            model,
            starts.ids(),
            starts,
            share,
            self._told("rattle"),
            name=conclusion.rattling,
            max_force=min(RATTLED_MAX_FORCE, self.settings.max_force),
            symmetric=False,
        ):
            self.store.finish()

    def phonons(self, share: Share = WHOLE) -> None:
        """Phonons of the first of the ranking, and of what their imaginary modes lead to, in rounds."""
        self._in_rounds("phonons", PHONON_STEPS)

    def _further_phonons(self) -> Iterator[int]:
        while (
            self.dynamics is not None
            and (closed := self.dynamics.closed) < MOST_ROUNDS
            and len(self._after_phonons(closed).to_vibrate)
        ):
            yield closed + 1

    def _after_phonons(self, followed: int) -> Conclusion:
        """After so many rounds of phonons, all before them being done; kept, as it takes a ranking."""
        if followed not in self._vibrated:
            self._vibrated[followed] = self._concluded(followed)
        return self._vibrated[followed]

    def compare(self, share: Share = WHOLE) -> None:
        """Single points of what is ranked by the models that do not rank."""
        conclusion = self.conclusion
        if not conclusion.others:
            return
        crystals, n = conclusion.ranked_crystals, len(conclusion.others)
        for k, model in enumerate(conclusion.others):
            stage = comparing_stage(model, conclusion.closed, conclusion.followed)
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
        if n:
            self.progress("hull", n, n)

    # -- how they are done ------------------------------------------------------------------------

    @property
    def _minutes(self) -> float:
        """Since this process took up the search."""
        return (time.monotonic() - self.since) / 60

    def _told(self, stage: str) -> Told:
        return lambda done, total: self.progress(stage, done, total)

    def _tell_time(self, *, over: bool = False) -> None:
        total = round(60 * self.settings.minutes)
        self.progress("rounds", total if over else min(total, round(60 * self._minutes)), total)

    def _hear(self) -> None:
        """Tell of the round that was closed last."""
        assert self.deep is not None
        rounds = self.deep.history().rounds
        self.heard(rounds[-1], rounds[-2] if len(rounds) > 1 else None)

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
