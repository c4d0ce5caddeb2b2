"""Screening, pre-relaxing and relaxing the proposals for held-out compositions, by models that are told of
symmetry and of pairs from earlier steps, against the same models untold, as the engine was before.

Each composition is searched as `csp predict` does, with a tenth of the numbers of a standard search. Every
energy that the search asks for is computed both ways, in turns, on the same crystals: so the two arms cannot
part, and what else runs on the machine meets both. A search that is done is a JSON file.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.files import begin
from benchmarks.machine import machine
from benchmarks.symmetry.turns import Seconds, Turns
from csp.crystallography.operations import operations
from csp.crystallography.orbits import Orbits
from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from csp.engine import Given, build
from csp.files import write_json, write_text
from csp.protocols import EnergyModel, Evaluation
from csp.relaxation.relax import relax
from csp.settings import SearchSettings
from surrogates.zoo import AUTO, choose_relaxer, load_model

__all__ = ["STAGES", "SymmetryBenchmark", "held_out", "summarised", "table"]

SURROGATE = "xs"
STAGES = ("screen", "pre_relax", "relax", "rescore", "refine")
TENTH = {"candidates": 50, "screened": 150, "relaxed": 16, "refined": 4}  # of a standard search
LARGE, PER_ORBIT = 40, 8  # atoms in the cell, atoms in an orbit on average; at least
LARGE_OF_EACH, LARGE_REFINED = 4, 1  # such proposals of a composition that are relaxed, and refined
COMPOSITIONS = Path(__file__).parents[1] / "deep41.csv"

Row = dict[str, Any]


def held_out(n: int) -> list[str]:
    """Formulas of the first compositions of `deep41.csv`, which no generator has learned from."""
    with COMPOSITIONS.open(encoding="utf-8", newline="") as lines:
        return [row["formula"] for row in csv.DictReader(lines)][:n]


@dataclass(frozen=True)
class SymmetryBenchmark:
    """Searches whose evaluations are timed both ways, in an out folder.

    Attributes:
        library: Of templates, the formula's own composition left out; None: the AFLOW prototypes.
        relaxer: Name of the potential that refines.
        numbers: Candidates of a generator, how many are screened, relaxed and refined.
    """

    out: Path
    library: Path | None
    relaxer: str
    seed: int
    numbers: dict[str, int]

    @classmethod
    def begin(
        cls,
        out: Path,
        *,
        library: Path | None = None,
        relaxer: str = AUTO,
        seed: int = 0,
        numbers: dict[str, int] = TENTH,
    ) -> SymmetryBenchmark:
        """Start, or go on with what is in `out`.

        Raises:
            InputError: It holds figures of other settings.
        """
        name = choose_relaxer()[0] if relaxer == AUTO else relaxer
        of = None if library is None else library.name
        begin(out, {"library": of, "relaxer": name, "seed": seed, "numbers": numbers})
        return cls(out, library, name, seed, numbers)

    def run(self, formulas: Sequence[str], say: Callable[[str], None]) -> dict[str, Any]:
        """Search for all, with one thread; write `summary.json` and `table.md` and return the summary."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        rows: list[Row] = []
        try:
            for formula in formulas:
                path = self.out / "compositions" / f"{formula}.json"
                if not path.is_file():
                    write_json(path, self._measured(formula))
                rows.append(json.loads(path.read_text(encoding="utf-8")))
                say(_line(rows[-1]))
            summary = summarised(rows) | machine(torch.device("cpu"))
        finally:
            torch.set_num_threads(threads)
        write_json(self.out / "summary.json", summary)
        write_text(self.out / "table.md", table(summary))
        return summary

    def _measured(self, formula: str) -> Row:
        models = {name: Turns(load_model(name)) for name in dict.fromkeys((SURROGATE, self.relaxer))}
        settings = SearchSettings(
            formula=formula,
            surrogate=SURROGATE,
            relaxer=self.relaxer,
            library=self.library,
            exclude_composition=True,
            offline=True,
            seed=self.seed,
            **self.numbers,
        )
        with TemporaryDirectory(prefix="csp-") as folder:
            given = Given(models=models)
            search, _ = build(settings, settings.target(), Path(folder), device="cpu", given=given)
            search.propose()
            search.filter()
            proposed = search.funnel.pool.crystals
            for model in models.values():
                _warm(model, proposed[:1])
            stages = {stage: spent(getattr(search, stage), models.values()) for stage in STAGES}
        return {
            "formula": formula,
            "proposed": len(proposed),
            "stages": stages,
            "large": large_cells(proposed, models[SURROGATE], models[self.relaxer], settings),
            "energy_difference": {name: model.energy_difference for name, model in models.items()},
            "force_difference": {name: model.force_difference for name, model in models.items()},
        }


def large_cells(proposed: Crystals, surrogate: Turns, relaxer: Turns, settings: SearchSettings) -> Row:
    """Proposals with at least `LARGE` atoms in the cell and `PER_ORBIT` in an orbit: how many there are, and
    for the first of them the seconds of an evaluation with forces, and of a relaxation as a search does it,
    by the surrogate from the proposal and by the relaxer from there."""
    proposed = proposed[proposed.n_atoms >= LARGE]
    known = operations(proposed)
    n_sites = Orbits.of(proposed, known).n_sites
    found = (proposed.n_atoms >= PER_ORBIT * n_sites).nonzero().flatten()
    row: Row = {"found": len(found), "atoms": 0, "sites": 0, "stages": {}}
    if not len(found):
        return row
    chosen = found[:LARGE_OF_EACH]
    crystals = proposed[chosen]
    row |= {"atoms": int(crystals.n_atoms.sum()), "sites": int(n_sites[chosen].sum())}
    for name, model, n in (("surrogate", surrogate, LARGE_OF_EACH), ("relaxer", relaxer, LARGE_REFINED)):
        some = crystals[:n]
        row["stages"][f"evaluate.{name}"] = spent(lambda s=some, m=model: _evaluated(s, m), [model])
        ends: list[Crystals] = []
        row["stages"][f"relax.{name}"] = spent(
            lambda s=some, m=model: ends.append(_relaxed(s, m, settings)), [model]
        )
        crystals = ends[0]
    return row


def _evaluated(crystals: Crystals, model: EnergyModel) -> Evaluation:
    known = operations(crystals)
    exact = known.symmetrize(crystals)
    return model.evaluate(exact, forces=True, surroundings=Surroundings.of(exact, known))


def _relaxed(crystals: Crystals, model: EnergyModel, settings: SearchSettings) -> Crystals:
    found = relax(
        crystals,
        model,
        max_steps=settings.max_steps,
        max_force=settings.max_force,
        symmetry=operations(crystals),
    )
    return found.crystals[found.with_energy()]


def _warm(model: EnergyModel, crystals: Crystals) -> None:
    """What is done at the first evaluation only."""
    model.evaluate(crystals, forces=True)


def spent(work: Callable[[], object], models: Iterable[Turns]) -> dict[str, float]:
    """Seconds of a core in evaluations of the models, told and untold, and in all else that the work does."""
    models = list(models)
    before = [model.seconds for model in models]
    began = time.process_time()
    work()
    total = time.process_time() - began
    seconds = sum((model.seconds - then for model, then in zip(models, before, strict=True)), Seconds())
    return {"told": seconds.told, "untold": seconds.untold, "other": total - seconds.both}


def summarised(rows: Sequence[Row]) -> dict[str, Any]:
    """Of all searches: for each stage and all together `.s`, `.before_s` and their `.ratio`, the same of the
    evaluations alone (`.evaluations_ratio`), and how far told and untold differ at most."""
    found: dict[str, Any] = {"n": len(rows), "proposed": sum(row["proposed"] for row in rows)}
    of_searches = {stage: _sum(row["stages"][stage] for row in rows) for stage in STAGES}
    found |= _ratios("", {**of_searches, "all": _sum(of_searches.values())})
    large = [row["large"] for row in rows]
    names = dict.fromkeys(name for one in large for name in one["stages"])
    found |= {f"large.{what}": sum(one[what] for one in large) for what in ("found", "atoms", "sites")}
    found |= _ratios(
        "large.", {name: _sum(one["stages"][name] for one in large if one["stages"]) for name in names}
    )
    for what in ("energy_difference", "force_difference"):
        for name in dict.fromkeys(name for row in rows for name in row[what]):
            found[f"{what}.{name}"] = max(row[what][name] for row in rows)
    return found


def _sum(parts: Iterable[dict[str, float]]) -> dict[str, float]:
    total = {"told": 0.0, "untold": 0.0, "other": 0.0}
    for part in parts:
        total = {name: value + part[name] for name, value in total.items()}
    return total


def _ratios(prefix: str, seconds: Mapping[str, dict[str, float]]) -> dict[str, float]:
    found = {}
    for stage, of in seconds.items():
        now, before = of["other"] + of["told"], of["other"] + of["untold"]
        found |= {
            f"{prefix}{stage}.s": round(now, 3),
            f"{prefix}{stage}.before_s": round(before, 3),
            f"{prefix}{stage}.ratio": round(before / now, 3),
            f"{prefix}{stage}.evaluations_ratio": round(of["untold"] / max(of["told"], 1e-9), 3),
        }
    return found


def table(summary: Mapping[str, Any]) -> str:
    """The stages as Markdown."""
    lines = [
        "| | core s | core s, untold | ratio | of the evaluations alone |",
        "|---|---:|---:|---:|---:|",
    ]
    for key in summary:
        stage, dot, last = key.rpartition(".")
        if dot and last == "s":
            now, before, ratio, alone = (
                summary[f"{stage}.{what}"] for what in ("s", "before_s", "ratio", "evaluations_ratio")
            )
            name = stage.replace("_", " ").replace(".", ", ")
            lines.append(f"| {name} | {now:.1f} | {before:.1f} | {ratio:.2f} | {alone:.2f} |")
    return "\n".join([*lines, ""])


def _line(row: Row) -> str:
    of = _ratios("", {"all": _sum(row["stages"].values())})
    return (
        f"{row['formula']:<14} {row['proposed']:4d} proposals  {of['all.s']:6.1f} s  "
        f"{of['all.before_s']:6.1f} s untold  ratio {of['all.ratio']:.2f}  large cells {row['large']['found']}"
    )
