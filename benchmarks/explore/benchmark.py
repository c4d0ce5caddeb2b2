"""Explorations of systems whose compounds are left out of the library, judged by the known stable phases.

A known phase is found if a crystal of the exploration is it by StructureMatcher and lies within 25 meV/atom
of the exploration's hull. A phase that is told to be stable is told falsely if it lies more than 50 meV/atom
above the published hull: the published stable crystals, relaxed by the model that the exploration's energies
are of (a crystal that nobody has published has no published energy).

The arm `gain` spreads its searches by the gain that is expected of them; `even` makes as many, each by the
model of the hull, one for each composition. Quick searches cost a quarter of these, so that `even` works for
longer: `equal` is `even` after as much work as `gain` did, by the costs that searches are reckoned with.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.explore.systems import Drawn, draw, with_distances
from benchmarks.files import begin
from benchmarks.machine import machine
from csp.crystallography.symmetry import primitive
from csp.errors import InputError
from csp.files import write_json, write_text
from csp.formula import read_formula
from csp.library.energies import read_distances
from csp.library.library import Library
from csp.matching.matcher import Matcher
from csp.ranking.references import References
from csp.systems.acquisition import LEVELS
from csp.systems.answer import Answer
from csp.systems.diagram import Diagram
from csp.systems.exploration import Exploration
from csp.systems.files import write_answer
from csp.systems.known import library_phases
from csp.systems.phases import SystemPhase
from csp.systems.settings import ExploreSettings
from csp.wrong_values import first_wrong

__all__ = ["ExploreBenchmark", "ExploreBenchmarkSettings", "Judged", "summarise", "table"]

WITHIN = 0.025  # eV/atom of the hull: a known phase that is found
FALSE = 0.050  # eV/atom above the published hull: a phase that is not stable
ARMS = ("gain", "even")
EQUAL = "equal"
SPREAD = {
    "gain": "By expected gain",
    "even": "Evenly",
    EQUAL: "Evenly, after as much work as by expected gain",
}
COST = {level.name: level.cost for level in LEVELS}


class ExploreBenchmarkSettings(BaseModel):
    """What the benchmark is run with; saved with its results."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    library: Path
    stability: Path
    binaries: int = Field(10, ge=0)
    ternaries: int = Field(5, ge=0)
    arms: tuple[str, ...] = ARMS
    searches: int = Field(30, ge=1)
    max_atoms: int = Field(16, ge=2)
    largest_cell: int = Field(32, ge=1)
    depth: str = "standard"
    surrogate: str = "xs"
    relaxer: str = "auto"
    seed: int = Field(0, ge=0)

    @classmethod
    def read(cls, **values: Any) -> ExploreBenchmarkSettings:
        """Validated settings.

        Raises:
            InputError: One sentence, for the first thing that is wrong.
        """
        try:
            settings = cls(**values)
        except ValidationError as error:
            raise first_wrong(error) from error
        if unknown := set(settings.arms) - set(ARMS):
            raise InputError(f"There is no arm {sorted(unknown)[0]!r}; there are {' and '.join(ARMS)}.")
        settings.exploration("Al-Ni", "gain")
        return settings

    def exploration(self, name: str, arm: str) -> ExploreSettings:
        """Of one system."""
        return ExploreSettings.read(
            system=name,
            exclude=(name,),
            spread=arm,
            searches=self.searches,
            minutes=100_000,
            least_gain=0.0,
            max_atoms=self.max_atoms,
            largest_cell=self.largest_cell,
            depth=self.depth,
            surrogate=self.surrogate,
            relaxer=self.relaxer,
            library=self.library,
            offline=True,
            seed=self.seed,
        )

    def record(self) -> dict[str, Any]:
        """As JSON values; files by name alone, they may move."""
        values = self.model_dump(mode="json", exclude={"binaries", "ternaries", "arms"})
        return {**values, "library": self.library.name, "stability": self.stability.name}


class Judged(BaseModel):
    """One exploration.

    system, arm        which, and how its searches were spread
    known              stable phases that are to be found, by the ids of the library
    found              those of them that a crystal is, whatever its energy
    near               of these, those within 25 meV/atom of the hull
    told               compounds of all its elements that are told to be stable
    false              those of them more than 50 meV/atom above the published hull
    unjudged           those of which that cannot be said: an element has no published crystal
    searches, seconds  what it took, and
    work               in quick searches, by the costs that they are reckoned with
    """

    system: str
    arm: str
    known: list[str]
    found: list[str]
    near: list[str]
    told: list[str]
    false: list[str]
    unjudged: list[str] = []
    searches: int
    seconds: float
    work: float

    def line(self) -> str:
        """For a terminal."""
        return (
            f"{self.system:10} {self.arm:5} {len(self.near)} of {len(self.known)} known phases near the hull "
            f"({len(self.found)} found), {len(self.false)} of {len(self.told)} told falsely, "
            f"{self.searches} searches, {self.seconds:.0f} s"
        )


@dataclass(frozen=True)
class ExploreBenchmark:
    """A benchmark in its out folder: `systems/NAME-ARM.json` of those done, explorations in `runs`."""

    settings: ExploreBenchmarkSettings
    out: Path
    device: str = "auto"

    @classmethod
    def begin(cls, settings: ExploreBenchmarkSettings, out: Path, device: str = "auto") -> ExploreBenchmark:
        """Start a benchmark or go on with it.

        Raises:
            InputError: The folder holds one with other settings.
            MissingError: A library or a table is not there.
        """
        benchmark = cls(settings, out.absolute(), device)
        benchmark.library  # noqa: B018  what is missing is told now
        begin(out, settings.record())
        return benchmark

    @cached_property
    def library(self) -> Library:
        """With the published distances."""
        distances = read_distances(self.settings.stability)
        return with_distances(Library.open(self.settings.library), distances)

    @cached_property
    def systems(self) -> list[Drawn]:
        """Binaries, then ternaries."""
        settings = self.settings
        drawn = [
            draw(self.library, n, count, settings.max_atoms, settings.seed)
            for n, count in ((2, settings.binaries), (3, settings.ternaries))
            if count
        ]
        return [one for some in drawn for one in some]

    def run(self, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
        """Explore and judge each system; what is done already is only read."""
        for arm in self.settings.arms:
            for drawn in self.systems:
                if self._read(drawn, arm) is None:
                    self._explore(drawn, arm)
                told = [self._read(drawn, one) for one in ((arm, EQUAL) if arm == "even" else (arm,))]
                for one in filter(None, told):
                    say(one.line())
                self.write(self.judged)
        return self.write(self.judged)

    @property
    def judged(self) -> list[Judged]:
        """What is done, by arms."""
        found = [self._read(drawn, arm) for arm in SPREAD for drawn in self.systems]
        return [one for one in found if one is not None]

    def _path(self, drawn: Drawn, arm: str) -> Path:
        return self.out / "systems" / f"{drawn.name}-{arm}.json"

    def _read(self, drawn: Drawn, arm: str) -> Judged | None:
        path = self._path(drawn, arm)
        return Judged.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else None

    def write(self, judged: Sequence[Judged]) -> dict[str, Any]:
        """Write `table.md` and `summary.json`; returns the summary."""
        summary = {**self.settings.record(), **summarise(judged)}
        write_text(self.out / "table.md", table(judged, self.settings.record()))
        write_json(self.out / "summary.json", {**summary, **machine(self._device)})
        return summary

    @property
    def _device(self) -> Any:
        from csp.device import resolve_device

        return resolve_device(self.device)

    def _explore(self, drawn: Drawn, arm: str) -> None:
        """One system in one arm, judged; of `even` also what it had after the work of `gain`."""
        folder = self.out / "runs" / f"{drawn.name}-{arm}"
        clock = folder / "seconds.json"
        before = json.loads(clock.read_text())["seconds"] if clock.is_file() else 0.0
        started = time.perf_counter()
        exploration = Exploration.begin(
            self.settings.exploration(drawn.name, arm), folder, device=self.device, resume=True
        )

        def keep(*_: Any) -> None:
            write_json(clock, {"seconds": round(before + time.perf_counter() - started, 1)})

        answer = Answer(exploration, exploration.run(heard=keep))
        seconds = before + time.perf_counter() - started
        write_answer(answer)
        gain = self._read(drawn, "gain")
        if arm == "even" and gain is not None:
            first = _first(exploration, gain.work)
            spent = sum(one.seconds for one in first.searches)
            self._write(drawn, self._judge(drawn, EQUAL, Answer(first), spent))
        self._write(drawn, self._judge(drawn, arm, answer, seconds))

    def _write(self, drawn: Drawn, judged: Judged) -> None:
        write_text(self._path(drawn, judged.arm), judged.model_dump_json(indent=1) + "\n")

    def _judge(self, drawn: Drawn, arm: str, answer: Answer, seconds: float) -> Judged:
        exploration = answer.exploration
        found, near = self._found(drawn, answer)
        elements = set(exploration.system.elements)
        told = [one.phase for one in answer.stable if set(read_formula(one.phase.formula).counts) == elements]
        published = self._published(exploration)
        far = [] if published is None else [p for p in told if published.above(p) > FALSE]
        return Judged(
            system=drawn.name,
            arm=arm,
            known=[str(self.library.material_id[row]) for row in drawn.rows],
            found=found,
            near=near,
            told=[phase.name for phase in told],
            false=[phase.name for phase in far],
            unjudged=[phase.name for phase in told] if published is None else [],
            searches=exploration.made,
            seconds=round(seconds, 1),
            work=sum(COST[one.level] for one in exploration.searches),
        )

    def _found(self, drawn: Drawn, answer: Answer) -> tuple[list[str], list[str]]:
        """Known phases that a crystal of a search is, and those of them near the hull."""
        diagram, found, near = answer.diagram, list[str](), list[str]()
        crystals = answer.knowledge.crystals(answer.exploration.labels[1])
        for row in drawn.rows:
            truth = primitive(self.library.crystals([row]))
            formula = _formula(truth)
            own = [p for p in crystals if p.found and p.formula == formula]
            same = [p for p in own if bool(Matcher.DEFAULT.fits(truth, p.crystal)[0])]
            name = str(self.library.material_id[row])
            found += [name] if same else []
            if diagram is not None and any(diagram.above(p) <= WITHIN for p in same):
                near.append(name)
        return found, near

    def _published(self, exploration: Exploration) -> Diagram | None:
        """The hull of the published crystals by the exploration's model; None where an element has none."""
        model = list(exploration.models.values())[-1]
        references = References.of(exploration.system.target, self.library, partial=True)
        phases: list[SystemPhase] = library_phases(references, model, 0.0, lambda done, total: None)
        elements = exploration.system.elements
        phases += [p for p in exploration.knowledge().crystals(str(model.label)) if p.formula in elements]
        return None if Diagram.lacking(elements, phases) else Diagram(elements, phases)


def _first(exploration: Exploration, work: float) -> Exploration:
    """An exploration as it was after so much work."""
    spent = accumulate(COST[one.level] for one in exploration.searches)
    return replace(
        exploration,
        searches=[one for one, so_far in zip(exploration.searches, spent, strict=True) if so_far <= work],
    )


def _formula(crystal: Any) -> str:
    from csp.formula import reduced_formula

    return reduced_formula(crystal.numbers.tolist())


def summarise(judged: Sequence[Judged]) -> dict[str, Any]:
    """Flat counts by arm."""
    summary: dict[str, Any] = {}
    for arm in SPREAD:
        own = [one for one in judged if one.arm == arm]
        if not own:
            continue
        known, told = sum(len(one.known) for one in own), sum(len(one.told) for one in own)
        near, false = sum(len(one.near) for one in own), sum(len(one.false) for one in own)
        summary |= {
            f"{arm}.systems": len(own),
            f"{arm}.known": known,
            f"{arm}.found": sum(len(one.found) for one in own),
            f"{arm}.near": near,
            f"{arm}.near_share": round(near / known, 3) if known else None,
            f"{arm}.told": told,
            f"{arm}.false": false,
            f"{arm}.unjudged": sum(len(one.unjudged) for one in own),
            f"{arm}.false_share": round(false / told, 3) if told else None,
            f"{arm}.searches": sum(one.searches for one in own),
            f"{arm}.work": sum(one.work for one in own),
            f"{arm}.seconds": round(sum(one.seconds for one in own), 1),
        }
    return summary


def table(judged: Sequence[Judged], settings: dict[str, Any]) -> str:
    """The systems as Markdown."""
    lines = [
        "| system | spread | known | found | within 25 meV/atom | told stable | falsely | searches | work "
        "| s |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {one.system} | {one.arm} | {len(one.known)} | {len(one.found)} | {len(one.near)} "
        f"| {len(one.told)} | {len(one.false)} | {one.searches} | {one.work:g} | {one.seconds:.0f} |"
        for one in judged
    ]
    counts = summarise(judged)
    said = [f"{_in_words(arm, counts)}\n" for arm in SPREAD if f"{arm}.systems" in counts]
    asked = ", ".join(f"{name} {value}" for name, value in settings.items())
    return "\n".join([*lines, "", *said, f"Settings: {asked}.", ""])


def _in_words(arm: str, counts: dict[str, Any]) -> str:
    """What an arm came to, in one sentence."""
    n = {name.removeprefix(f"{arm}."): value for name, value in counts.items() if name.startswith(f"{arm}.")}
    unjudged = f" ({n['unjudged']} cannot be judged)" if n["unjudged"] else ""
    return (
        f"{SPREAD[arm]}: of {n['known']} known stable phases in {n['systems']} systems {n['found']} are "
        f"found as crystals, {n['near']} ({_share(n['near'], n['known'])}) within {1000 * WITHIN:g} meV/atom "
        f"of the hull; of {n['told']} phases told to be stable {n['false']} "
        f"({_share(n['false'], n['told'])}) lie more than {1000 * FALSE:g} meV/atom above the published "
        f"hull{unjudged}; {n['searches']} searches, {n['seconds'] / 60:.1f} minutes."
    )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "none"
