"""Which searches find known crystals from the formula alone, in equal time of one core, and when first?

All relax by the same potential, one after the other on the same machine, and are told nothing but the formula
and, ours apart, how many atoms a primitive cell has at most.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.baselines.by_ase import MAX_FORCE, MAX_STEPS
from benchmarks.baselines.record import Record
from benchmarks.equal_time.arms import ARMS, check_arms, run
from benchmarks.equal_time.outcome import SAME, Outcome, judge
from benchmarks.equal_time.targets import MAX_ATOMS, TARGETS18, read
from benchmarks.files import begin
from benchmarks.ground_truth import Truth
from benchmarks.machine import machine
from benchmarks.recovery.benchmark import relaxed_truth
from csp.device import resolve_device
from csp.files import write_json, write_text
from csp.settings import SearchSettings
from csp.wrong_values import first_wrong
from surrogates.zoo import AUTO, choose_relaxer, load_model

__all__ = ["EqualTime", "EqualTimeSettings", "summarise", "table"]

LINES = "outcomes.jsonl"


class EqualTimeSettings(BaseModel):
    """What the benchmark is run with; saved with its results."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    targets: Path = Field(TARGETS18, description="Folder of CIFs, or a table of ids")
    libraries: tuple[Path, ...] = Field((), description="Parquet files that have the crystals of a table")
    arms: tuple[str, ...] = Field(tuple(ARMS), min_length=1, description="Searches")
    minutes: float = Field(10.0, gt=0, description="Of one core, for a search")
    relaxer: str = Field(AUTO, min_length=1, description="Potential that all relax by")
    max_atoms: int = Field(MAX_ATOMS, ge=1, description="Primitive cell of a truth, and of others' crystals")
    seed: int = Field(0, ge=0, le=2**31 - 2)

    @classmethod
    def read(cls, **values: Any) -> EqualTimeSettings:
        """Validated settings.

        Raises:
            InputError, MissingError: One sentence, for what is wrong or not there.
        """
        try:
            settings = cls(**values)
        except ValidationError as error:
            raise first_wrong(error) from error
        check_arms(settings.arms)
        if settings.relaxer == AUTO:
            settings = settings.model_copy(update={"relaxer": choose_relaxer()[0]})
        load_model(settings.relaxer)
        return settings

    def record(self) -> dict[str, Any]:
        """What outcomes depend on, JSON values; which arms and where files lie does not matter."""
        asked = {"minutes": self.minutes, "max_atoms": self.max_atoms, "seed": self.seed}
        return {"targets": self.targets.name, "relaxer": self.relaxer, **asked}


@dataclass(frozen=True)
class EqualTime:
    """A benchmark in its out folder: `outcomes.jsonl` has a line for each search that is done, the searches
    are in `runs/NAME/ARM`. Those that failed are run again when the benchmark is begun again."""

    settings: EqualTimeSettings
    truths: Sequence[Truth]
    out: Path

    @classmethod
    def begin(cls, settings: EqualTimeSettings, out: Path) -> EqualTime:
        """Start a benchmark or go on with it.

        Raises:
            InputError: The folder has one with other settings, or a target cannot be used.
        """
        truths = read(settings.targets, settings.libraries, settings.seed, settings.max_atoms)
        begin(out, settings.record())
        return cls(settings, truths, out.absolute())

    def run(self, say: Callable[[str], None], limit: int | None = None) -> dict[str, Any]:
        """All searches that are not done, target after target; the summary of all. Results are written after
        each search."""
        done = {(one.name, one.arm): one for one in self.outcomes() if not one.failed}
        chosen = self.truths[:limit]
        for k, truth in enumerate(chosen, start=1):
            energy = None
            for arm in self.settings.arms:
                if (truth.name, arm) not in done:
                    energy = self._energy(truth) if energy is None else energy
                    done[truth.name, arm] = self._searched(arm, truth, energy)
                    self._write(list(done.values()))
                say(f"{k:3d}/{len(chosen)}  {done[truth.name, arm].line()}")
        return self._write(list(done.values()))

    def outcomes(self) -> list[Outcome]:
        """Of the searches that are done, in the order in which they were."""
        path = self.out / LINES
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return [Outcome.model_validate_json(line) for line in lines]

    def _searched(self, arm: str, truth: Truth, truth_energy: float | None) -> Outcome:
        settings, folder = self.settings, self.out / "runs" / truth.name / arm
        ended = run(
            arm,
            truth.formula,
            folder,
            relaxer=settings.relaxer,
            minutes=settings.minutes,
            max_atoms=settings.max_atoms,
            seed=settings.seed,
        )
        judged = judge(Record.read(folder), truth.crystal, truth_energy, 60 * settings.minutes)
        about = {"arm": arm, "name": truth.name, "formula": truth.formula}
        return Outcome.model_validate(
            about
            | {"n_atoms": int(truth.crystal.n_atoms[0])}
            | judged
            | {name: getattr(ended, name) for name in ("core_seconds", "wall_seconds", "failed")}
        )

    def _energy(self, truth: Truth) -> float | None:
        """Of the truth, relaxed by the potential, eV/atom."""
        steps = SearchSettings.read(formula=truth.formula, max_steps=MAX_STEPS, max_force=MAX_FORCE)
        return relaxed_truth(truth.crystal, load_model(self.settings.relaxer), steps)

    def _write(self, outcomes: list[Outcome]) -> dict[str, Any]:
        write_text(self.out / LINES, "".join(one.model_dump_json() + "\n" for one in outcomes))
        write_text(self.out / "table.md", table(outcomes))
        found = {**self.settings.record(), **summarise(outcomes), **machine(resolve_device("cpu"))}
        write_json(self.out / "summary.json", found | {"machine.threads": 1})
        return found


def summarise(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Of each search: for how many targets it was run, how many it found, the median time to the first hit of
    those, crystals relaxed in the mean, how often it came as low as the truth, and how often it failed. What
    failed counts as not found unless it had found it before."""
    figures: dict[str, Any] = {}
    for arm in [name for name in ARMS if any(one.arm == name for one in outcomes)]:
        mine = [one for one in outcomes if one.arm == arm]
        hits = [one.first_hit_s for one in mine if one.first_hit_s is not None]
        low = [one for one in mine if one.lowest_above_truth is not None and one.lowest_above_truth <= SAME]
        figures |= {
            f"n.{arm}": len(mine),
            f"found.{arm}": sum(one.found for one in mine),
            f"found_lowest.{arm}": sum(
                one.hit_above_lowest is not None and one.hit_above_lowest <= SAME for one in mine
            ),
            f"first_hit_median_s.{arm}": round(statistics.median(hits), 1) if hits else None,
            f"as_low_as_truth.{arm}": len(low),
            f"relaxed_mean.{arm}": round(statistics.mean(one.relaxed for one in mine), 1),
            f"core_seconds_mean.{arm}": round(statistics.mean(one.core_seconds for one in mine), 1),
            f"failed.{arm}": sum(bool(one.failed) for one in mine),
        }
    return figures


def table(outcomes: Sequence[Outcome]) -> str:
    """Seconds to the first hit, of each target by each search, as Markdown; – where it was not found."""
    arms = [name for name in ARMS if any(one.arm == name for one in outcomes)]
    at = {(one.name, one.arm): one for one in outcomes}
    about = {one.name: one for one in outcomes}
    lines = ["| formula | atoms | " + " | ".join(arms) + " |", "|---|---:|" + "---:|" * len(arms)]
    for name, one in about.items():
        cells = [_cell(at.get((name, arm))) for arm in arms]
        lines.append(f"| {one.formula} | {one.n_atoms} | " + " | ".join(cells) + " |")
    found = [f"{sum(o.found for o in outcomes if o.arm == arm)}" for arm in arms]
    lines.append(f"| found of {len(about)} | | " + " | ".join(found) + " |")
    return "\n".join(lines) + "\n"


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    return "–" if outcome.first_hit_s is None else f"{outcome.first_hit_s:.0f}"
