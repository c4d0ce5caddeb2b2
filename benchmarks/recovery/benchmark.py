"""How many known crystals does the engine find from the formula alone?

Each truth of a folder is searched for with the real search (`csp.search.search`), its composition left out of
the library. A target that is finished is a JSON file; one that was interrupted goes on from the store of
its search. READ `Recovery.run` FIRST.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from benchmarks.files import Clock, changed
from benchmarks.ground_truth import TARGETS35, Truth, Truths, read_truths
from benchmarks.leakage import Leak, leak, learned_by, seen_by
from benchmarks.machine import machine
from benchmarks.recovery.budgets import BUDGETS
from benchmarks.recovery.outcome import Chance, Outcome, read_outcomes
from benchmarks.recovery.plot import plot
from benchmarks.recovery.scoring import TOLERANCES, Run, Score, groups, score
from benchmarks.recovery.summary import summarise
from benchmarks.recovery.table import table
from csp.crystallography.neighbours import plausible
from csp.crystallography.operations import operations
from csp.crystals import Crystals
from csp.device import resolve_device
from csp.engine import build
from csp.errors import InputError
from csp.files import write_json, write_text
from csp.library.chosen import chosen
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.protocols import EnergyModel
from csp.relaxation.relax import relax
from csp.search.funnel import Progress
from csp.search.search import Search, check_elements
from csp.search.stages import asked_for
from csp.settings import AUTO_LIBRARY, DEFAULT_GENERATORS, LibraryFile, Names, SearchSettings
from csp.wrong_values import first_wrong
from generators.random_symmetric.generator import RandomGenerator
from surrogates.zoo import AUTO, choose_relaxer, load_model

__all__ = ["Recovery", "RecoverySettings"]

SCHEMA = 1
SETTINGS_FILE = "benchmark.json"
WHOLE_RANKING = 10_000  # `top`: no rank is left out
CHANCE_SEED = 1  # added to the seed of the search


class RecoverySettings(BaseModel):
    """What a recovery benchmark is run with; saved with its results."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    targets: Annotated[Path, BeforeValidator(lambda given: given or TARGETS35)] = Field(
        TARGETS35,
        title="Targets",
        description="Folder of CIFs of known crystals, or a CSV table of their ids in the Materials Project",
    )
    library: LibraryFile = Field(
        None,
        title="Library",
        description="Parquet file of known crystals; auto: yours (csp library use); none: the AFLOW "
        "prototypes",
    )
    generators: Names = Field(
        DEFAULT_GENERATORS,
        min_length=1,
        title="Generators",
        description="Which generators propose candidates",
    )
    budget: Literal["small", "standard", "full"] = Field(
        "standard", title="Budget", description="Work spent on a target (see docs/benchmarks/commands.md)"
    )
    surrogate: str = Field(
        SearchSettings.model_fields["surrogate"].default,
        min_length=1,
        title="Surrogate",
        description="Fast model that screens and relaxes first; none: the relaxer does all",
    )
    relaxer: str = Field(
        AUTO,
        min_length=1,
        title="Relaxer",
        description="Potential that refines and ranks; auto: the best that can be had; none: the surrogate "
        "does all",
    )
    beside: tuple[tuple[str, Path], ...] = Field(
        (),
        title="Beside",
        description="By a name each, out folders of the same benchmark with other generators or models, to "
        "stand beside this one",
    )
    seed: int = Field(0, ge=0, le=2**31 - 2, title="Seed", description="Same seed, same result")

    @classmethod
    def read(cls, **values: Any) -> RecoverySettings:
        """Validated settings.

        Raises:
            InputError: One sentence, for the first thing that is wrong.
        """
        try:
            settings = cls(**values)
        except ValidationError as error:
            raise first_wrong(error) from error
        settings.search("Si", settings.generators)  # what the settings of a search refuse
        return settings

    @property
    def library_file(self) -> Path | None:
        """The library; None: the embedded prototypes."""
        return chosen() if self.library == AUTO_LIBRARY else self.library

    @property
    def library_note(self) -> str:
        """What people should know of the library; "" where it is the one that they asked for."""
        if self.library == AUTO_LIBRARY and self.library_file is None:
            return "No library is chosen (csp library use): templates are the embedded AFLOW prototypes."
        return ""

    def search(self, formula: str, generators: tuple[str, ...]) -> SearchSettings:
        """The search for one target."""
        return SearchSettings.read(
            formula=formula,
            generators=generators,
            library=self.library_file,
            exclude_composition=True,
            surrogate=self.surrogate,
            relaxer=self.relaxer,
            seed=self.seed,
            top=WHOLE_RANKING,
            hull=False,
            **BUDGETS[self.budget].as_dict(),
        )

    def record(self) -> dict[str, Any]:
        """As JSON values, the budget spelt out; folders by name alone, they may move."""
        values = self.model_dump(mode="json", exclude={"beside"})  # no part of what is measured
        values["targets"] = self.targets.name
        values["library"] = file.name if (file := self.library_file) else None
        return {**values, "budget": {"name": self.budget, **BUDGETS[self.budget].as_dict()}}


@dataclass(frozen=True)
class Recovery:
    """A benchmark in its out folder: `targets/NAME.json` of those done, the stores in `runs/NAME`."""

    settings: RecoverySettings
    truths: Truths
    out: Path
    device: str = "auto"

    @classmethod
    def begin(
        cls,
        settings: RecoverySettings,
        out: Path,
        *,
        device: str = "auto",
        resume: bool = False,
    ) -> Recovery:
        """Start a benchmark or go on with it.

        Raises:
            InputError, MissingError: Before any work, for targets, a library, a relaxer or a device that
                cannot be used, and for an out folder with another benchmark, or with any unless `resume`.
        """
        path = out / SETTINGS_FILE
        if settings.relaxer == AUTO:
            known = json.loads(path.read_text(encoding="utf-8")) if resume and path.is_file() else {}
            name = known.get("relaxer") or choose_relaxer()[0]
            settings = settings.model_copy(update={"relaxer": name})
        benchmark = cls(settings, read_truths(settings.targets), out.absolute(), device)
        benchmark.library, benchmark.models, benchmark.beside  # noqa: B018  what is missing is told now
        record = settings.record()
        if path.is_file():
            if not resume:
                raise InputError(
                    f"{out} already holds a benchmark; `resume` goes on with it, or choose another `out`."
                )
            if different := changed(path, record):
                raise InputError(
                    f"The benchmark in {out} was started with other settings: {', '.join(different)}."
                )
        else:
            write_json(path, record)
        return benchmark

    @cached_property
    def library(self) -> Library:
        return Library.open(self.settings.library_file)

    @cached_property
    def models(self) -> list[EnergyModel]:
        names = self.settings.search("Si", self.settings.generators).models
        return [load_model(name, resolve_device(self.device)) for name in names]

    @cached_property
    def beside(self) -> dict[str, list[Outcome]]:
        return {name: read_outcomes(folder) for name, folder in self.settings.beside}

    def outcomes(self) -> list[Outcome]:
        """Of the targets that are finished, in the order of the truths."""
        return [
            Outcome.model_validate_json(path.read_text(encoding="utf-8"))
            for truth in self.truths.truths
            if (path := self._record(truth)).is_file()
        ]

    def run(self, truth: Truth, progress: Progress = lambda stage, done, total: None) -> Outcome:
        """Search for one truth and score what came out; what is done already is only read."""
        path = self._record(truth)
        if not path.is_file():
            outcome = self._outcome(truth, progress)
            write_text(path, outcome.model_dump_json(indent=1) + "\n")
        return Outcome.model_validate_json(path.read_text(encoding="utf-8"))

    def write(self) -> dict[str, Any]:
        """Write `recovery.json`, `table.md`, `recovery.png` and `summary.json` of the targets that are
        finished, a part or all.

        Returns:
            The summary.
        """
        outcomes, settings = self.outcomes(), self.settings.record()
        problems = {problem.name: problem.why for problem in self.truths.problems}
        write_json(
            self.out / "recovery.json",
            {
                "schema": SCHEMA,
                "settings": settings,
                "problems": problems,
                "targets": [outcome.model_dump(mode="json") for outcome in outcomes],
            },
        )
        write_text(self.out / "table.md", table(outcomes, settings, problems, self.beside))
        plot(outcomes, self.out / "recovery.png")
        summary = {
            **summarise(outcomes, self.beside),
            "problems": len(problems),
            "budget": self.settings.budget,
            "seed": self.settings.seed,
            **machine(self.models[-1].device),
        }
        write_json(self.out / "summary.json", summary)
        return summary

    # -- one target -------------------------------------------------------------------------------

    def _outcome(self, truth: Truth, progress: Progress) -> Outcome:
        about: dict[str, Any] = {
            "name": truth.name,
            "formula": truth.formula,
            "n_atoms": int(truth.crystal.n_atoms),
            "space_groups_true": groups(truth.crystal),
            "published": truth.published,
        }
        try:
            settings = self.settings.search(truth.formula, self.settings.generators)
            target = settings.target()
            for model in self.models:
                check_elements(target, model)
        except InputError as error:
            return Outcome(**about, score=None, refused=str(error))
        folder = self.out / "runs" / truth.name
        clock = Clock(folder / "seconds.json")
        with clock("load"):
            search, _ = build(settings, target, folder, device=self.device, resume=True, progress=progress)
            search = replace(search, known=None)  # costs, and is not asked here
        result, funnel = _searched(search, truth, clock)
        with clock("score"):
            chance = self._chance(truth, search)
            truth_energy = relaxed_truth(truth.crystal, search.funnel.ranking_model, settings)
        return Outcome(
            **about,
            label=str(search.funnel.ranking_model.label),
            score=result,
            chance=chance,
            truth_ev_per_atom=truth_energy,
            funnel=funnel,
            seconds=clock.seconds,
            leak=self._leaks(truth, settings),
        )

    def _leaks(self, truth: Truth, settings: SearchSettings) -> dict[str, Leak]:
        """Of every model, and of every generator that has learned."""
        seen = {model.name: seen_by(name) for name, model in zip(settings.models, self.models, strict=True)}
        learned = {name: learned_by(name) for name in settings.generators}
        seen |= {name: compositions for name, compositions in learned.items() if compositions is not None}
        return {name: leak(truth.formula, compositions) for name, compositions in seen.items()}

    def _chance(self, truth: Truth, search: Search) -> Chance:
        """The plausible ones of as many random crystals as each generator is asked for, by another seed."""
        target = search.target
        generator = RandomGenerator(self.library.excluding(target), VolumePrior.load())
        wanted = search.settings.candidates
        crystals = generator.propose(target, wanted, seed=self.settings.seed + CHANCE_SEED).crystals
        crystals = crystals[plausible(crystals, search.volume_per_atom)]
        matched = {
            name: int(matcher.fits(truth.crystal, crystals).sum()) for name, matcher in TOLERANCES.items()
        }
        return Chance(n=len(crystals), **matched)

    def _record(self, truth: Truth) -> Path:
        return self.out / "targets" / f"{truth.name}.json"


def _searched(search: Search, truth: Truth, clock: Clock) -> tuple[Score, dict[str, int]]:
    """Run the stages that are left, rank, and score; the funnel of the search."""
    for stage in asked_for(search.settings):
        with clock(stage.name):
            getattr(search, stage.name)()
    with clock("score"):
        prediction = search.conclude()
        run = Run.read(search, prediction)
        return score(truth.crystal, run, search.settings.generators), prediction.funnel


def relaxed_truth(truth: Crystals, model: EnergyModel, settings: SearchSettings) -> float | None:
    """Energy of the relaxed truth, eV/atom, with the search's own steps: the lower of the end of a
    relaxation that keeps the symmetry and of a free one that goes on from there."""
    crystal = truth.to(model.device)
    energies: list[float] = []
    for symmetry in (operations(truth).to(model.device), None):
        end = relax(
            crystal,
            model,
            max_steps=settings.max_steps,
            max_force=settings.max_force,
            pressure=settings.pressure,
            symmetry=symmetry,
        )
        if end.status[0].has_energy:
            crystal = end.crystals
            energies.append(float(end.energy / crystal.n_atoms))
    return min(energies) if energies else None
