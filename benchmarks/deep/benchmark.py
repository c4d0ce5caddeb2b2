"""Are known crystals found by a search that goes on in rounds, and is what it says of itself true?

Each truth is searched for from its formula, its composition left out of the library. A target that is
finished is a JSON file; one that was interrupted goes on from the store of its search, with its minutes anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.deep.outcome import DeepOutcome
from benchmarks.deep.summary import summarise, table
from benchmarks.deep.targets import in_folder, of_ids
from benchmarks.files import Clock, changed
from benchmarks.ground_truth import Truth
from benchmarks.leakage import leak, learned_by, seen_by
from benchmarks.machine import machine
from benchmarks.recovery.benchmark import relaxed_truth
from csp.crystals import Crystals
from csp.device import resolve_device
from csp.engine import build
from csp.errors import InputError
from csp.files import write_json, write_text
from csp.library.library import Library
from csp.matching.matcher import Matcher
from csp.protocols import EnergyModel
from csp.search.conclude import Conclusion
from csp.search.funnel import Progress
from csp.settings import DEFAULT_GENERATORS, Names, SearchSettings
from csp.wrong_values import first_wrong
from surrogates.zoo import AUTO, choose_relaxer, load_model

__all__ = ["DeepBenchmark", "DeepSettings"]

SETTINGS_FILE = "benchmark.json"
WHOLE_RANKING = 10_000  # `top`: no rank is left out


class DeepSettings(BaseModel):
    """What the benchmark is run with; saved with its results."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    targets: Path = Field(description="Folder of CIFs, or a CSV file with a column material_id")
    library: Path | None = Field(
        None, description="Parquet file of known crystals; none: the AFLOW prototypes"
    )
    generators: Names = Field(DEFAULT_GENERATORS, min_length=1, description="Which generators propose")
    minutes: float = Field(10.0, gt=0, description="For a target")
    max_rounds: int = Field(10_000, ge=0, description="For a target, at most")
    until: float = Field(0.9, gt=0, le=1, description="Share told at which a search ends; 1: never")
    candidates: int = Field(500, ge=1, description="Per generator, before all rounds")
    max_atoms: int = Field(20, ge=1, description="Largest primitive cell of a truth")
    largest_cell: int = Field(40, ge=1, description="That is proposed")
    all_folds: bool = Field(False, description="Of a CSV file those, too, that generators learned from")
    surrogate: str = Field("xs", min_length=1)
    relaxer: str = Field(AUTO, min_length=1)
    seed: int = Field(0, ge=0, le=2**31 - 2)

    @classmethod
    def read(cls, **values: Any) -> DeepSettings:
        """Validated settings.

        Raises:
            InputError: One sentence, for the first thing that is wrong.
        """
        try:
            settings = cls(**values)
        except ValidationError as error:
            raise first_wrong(error) from error
        settings.search("Si")  # what the settings of a search refuse
        return settings

    def search(self, formula: str) -> SearchSettings:
        """The search for one target."""
        return SearchSettings.read(
            formula=formula,
            effort="deep",
            generators=self.generators,
            library=self.library,
            exclude_composition=True,
            minutes=self.minutes,
            max_rounds=self.max_rounds,
            until=self.until,
            candidates=self.candidates,
            max_atoms=self.largest_cell,
            surrogate=self.surrogate,
            relaxer=self.relaxer,
            order="energy",
            hull=False,
            top=WHOLE_RANKING,
            seed=self.seed,
        )

    def record(self) -> dict[str, Any]:
        """As JSON values; files by name alone, they may move."""
        values = self.model_dump(mode="json")
        values["targets"] = self.targets.name
        values["library"] = self.library.name if self.library else None
        return values


@dataclass(frozen=True)
class DeepBenchmark:
    """A benchmark in its out folder: `targets/NAME.json` of those done, the stores in `runs/NAME`."""

    settings: DeepSettings
    out: Path
    device: str = "auto"

    @classmethod
    def begin(
        cls, settings: DeepSettings, out: Path, *, device: str = "auto", resume: bool = False
    ) -> DeepBenchmark:
        """Start a benchmark or go on with it.

        Raises:
            InputError: For an out folder with another benchmark, or with any unless `resume`.
            MissingError: For targets, a library or a model that is not there.
        """
        path = out / SETTINGS_FILE
        if settings.relaxer == AUTO:
            known = json.loads(path.read_text(encoding="utf-8")) if resume and path.is_file() else {}
            name = known.get("relaxer") or choose_relaxer()[0]
            settings = settings.model_copy(update={"relaxer": name})
        benchmark, record = cls(settings, out.absolute(), device), settings.record()
        benchmark.truths, benchmark.models  # noqa: B018  what is missing is told now
        if path.is_file() and not resume:
            raise InputError(f"{out} already holds a benchmark; `resume` goes on with it.")
        if different := changed(path, record):
            raise InputError(
                f"The benchmark in {out} was started with other settings: {', '.join(different)}."
            )
        write_json(path, record)
        return benchmark

    @cached_property
    def truths(self) -> list[Truth]:
        """The targets."""
        settings = self.settings
        if settings.targets.is_dir():
            return in_folder(settings.targets, settings.max_atoms)
        library = Library.open(settings.library)
        return of_ids(
            settings.targets, library, settings.max_atoms, settings.seed, all_folds=settings.all_folds
        )

    @cached_property
    def models(self) -> list[EnergyModel]:
        """Of the searches."""
        return [load_model(name, resolve_device(self.device)) for name in self.settings.search("Si").models]

    def run(self, truth: Truth, progress: Progress = lambda stage, done, total: None) -> DeepOutcome:
        """Search for one truth; what is done already is only read."""
        path = self.out / "targets" / f"{truth.name}.json"
        if not path.is_file():
            write_text(path, self._outcome(truth, progress).model_dump_json(indent=1) + "\n")
        return DeepOutcome.model_validate_json(path.read_text(encoding="utf-8"))

    def outcomes(self) -> list[DeepOutcome]:
        """Of the targets that are finished, in their order."""
        done = [(self.out / "targets" / f"{truth.name}.json") for truth in self.truths]
        return [
            DeepOutcome.model_validate_json(path.read_text(encoding="utf-8"))
            for path in done
            if path.is_file()
        ]

    def write(self) -> dict[str, Any]:
        """Write `deep.json`, `table.md` and `summary.json` of what is finished; returns the summary."""
        outcomes, settings = self.outcomes(), self.settings.record()
        rows = [one.model_dump(mode="json") for one in outcomes]
        write_json(self.out / "deep.json", {"settings": settings, "targets": rows})
        write_text(self.out / "table.md", table(outcomes, settings))
        summary = {**summarise(outcomes), "seed": self.settings.seed, **machine(self.models[-1].device)}
        write_json(self.out / "summary.json", summary)
        return summary

    def _outcome(self, truth: Truth, progress: Progress) -> DeepOutcome:
        settings, folder = self.settings.search(truth.formula), self.out / "runs" / truth.name
        target = settings.target()
        clock, cpu = Clock(folder / "seconds.json"), time.process_time()
        with clock("all"):
            search, _ = build(settings, target, folder, device=self.device, resume=True, progress=progress)
            search = replace(search, known=None)  # nobody asks what else the crystals are
            search.run()
        clock.seconds["cpu"] = round(clock.seconds.get("cpu", 0.0) + time.process_time() - cpu, 3)
        after = search.conclusion
        before = replace(after, rounds=None)  # but for rattling
        assert search.deep is not None
        history = search.deep.history()
        last = history.rounds[-1]
        return DeepOutcome(
            name=truth.name,
            formula=truth.formula,
            n_atoms=int(truth.crystal.n_atoms[0]),
            rank=_rank(truth.crystal, after),
            rank_before=_rank(truth.crystal, before),
            lowest=_lowest(after),
            lowest_before=_lowest(before),
            truth=relaxed_truth(truth.crystal, search.funnel.ranking_model, settings),
            rounds=last.number,
            candidates=last.proposed,
            ended=history.ended,
            share=last.completeness.share,
            share_95=last.completeness.interval,
            low=last.low,
            leak=self._leaks(truth),
            seconds=clock.seconds,
        )

    def _leaks(self, truth: Truth) -> dict[str, str]:
        """Of every model, and of every generator that has learned."""
        names = self.settings.search(truth.formula).models
        seen = {model.name: seen_by(name) for name, model in zip(names, self.models, strict=True)}
        learned = {name: learned_by(name) for name in self.settings.generators}
        seen |= {name: compositions for name, compositions in learned.items() if compositions is not None}
        return {name: str(leak(truth.formula, compositions)) for name, compositions in seen.items()}


def _rank(truth: Crystals, found: Conclusion) -> int | None:
    """From 1, of the first crystal that is the truth."""
    fits: Sequence[int] = Matcher.DEFAULT.fits(truth, found.ranked_crystals).nonzero().flatten().tolist()
    return fits[0] + 1 if fits else None


def _lowest(found: Conclusion) -> float | None:
    return min(found.per_atom.tolist(), default=None)
