"""Screening, pre-relaxing and relaxing the proposals for held-out compositions, by models that are told of
symmetry and of pairs from earlier steps, against the same models untold, as the engine was before.

Each composition is searched as `csp predict` does, with a tenth of the numbers of a standard search. Every
energy that the search asks for is computed both ways, in turns, on the same crystals: so the two arms cannot
part, and what else runs on the machine meets both. A search that is done is a JSON file, with the large cells
among its proposals, which are measured together at the end.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.files import begin
from benchmarks.machine import machine, threads
from benchmarks.symmetry.turns import Seconds, Turns
from csp.crystallography.operations import operations
from csp.crystallography.orbits import Orbits
from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from csp.engine import Given, build
from csp.files import write_json, write_text
from csp.protocols import EnergyModel
from csp.relaxation.relax import relax
from csp.settings import SearchSettings
from surrogates.zoo import AUTO, choose_relaxer, load_model

__all__ = ["STAGES", "SymmetryBenchmark", "held_out", "summarised", "table"]

SURROGATE, NO_RELAXER = "xs", "none"
STAGES = ("screen", "pre_relax", "relax", "rescore", "refine")
TENTH = {"candidates": 50, "screened": 150, "relaxed": 16, "refined": 4}  # of a standard search
LARGE, PER_ORBIT = 40, 8  # atoms in the cell, atoms in an orbit on average; at least
LARGE_OF_EACH, LARGE_RELAXED, LARGE_REFINED = 4, 40, 4  # such proposals: of a composition, and in all
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
        rows: list[Row] = []
        with threads(1):
            for formula in formulas:
                path = self.out / "compositions" / f"{formula}.json"
                if not path.is_file():
                    write_json(path, self._measured(formula))
                rows.append(json.loads(path.read_text(encoding="utf-8")))
                say(_line(rows[-1]))
            cells = self.out / "large.json"
            of = [one for row in rows for one in row["large"]]
            if not cells.is_file() or json.loads(cells.read_text(encoding="utf-8"))["of"] != len(of):
                write_json(cells, self._of_large(of))
            large = json.loads(cells.read_text(encoding="utf-8"))
            summary = summarised(rows, large) | machine(torch.device("cpu"))
        write_json(self.out / "summary.json", summary)
        write_text(self.out / "table.md", table(summary))
        return summary

    def _models(self) -> dict[str, Turns]:
        """The surrogate first; then the relaxer, if there is one."""
        names = dict.fromkeys((SURROGATE, self.relaxer))
        return {name: Turns(load_model(name)) for name in names if name != NO_RELAXER}

    def _measured(self, formula: str) -> Row:
        models = self._models()
        settings = SearchSettings.read(
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
                model.evaluate(proposed[:1], forces=True)  # what is done only once is not counted
            stages = {stage: spent(getattr(search, stage), models.values()) for stage in STAGES}
        return {
            "formula": formula,
            "proposed": len(proposed),
            "stages": stages,
            "large": large_cells(proposed)[:LARGE_OF_EACH],
            "differences": _differences(models),
        }

    def _of_large(self, cells: Sequence[Row]) -> Row:
        """Seconds of an evaluation with forces, and of a relaxation as a search does it: by the surrogate
        from the proposals, by the relaxer from where some of these end."""
        row: Row = {"of": len(cells), "crystals": 0, "atoms": 0, "sites": 0, "stages": {}, "differences": {}}
        if not cells:
            return row
        spread = torch.linspace(0, len(cells) - 1, min(len(cells), LARGE_RELAXED)).long().tolist()
        chosen = [cells[k] for k in spread]
        row |= {"crystals": len(chosen), "sites": sum(one["sites"] for one in chosen)}
        row["atoms"] = sum(len(one["numbers"]) for one in chosen)
        models = self._models()
        columns = ("cell", "frac", "numbers")
        crystals = Crystals.from_arrays(*([np.array(one[of]) for one in chosen] for of in columns))
        for name, model in models.items():
            model.evaluate(crystals[:1], forces=True)
            row["stages"][f"evaluate.{name}"] = spent(partial(_evaluate, crystals, model), [model])
            ends = list[Crystals]()
            row["stages"][f"relax.{name}"] = spent(partial(_relax, crystals, model, ends), [model])
            some = torch.linspace(0, len(ends[0]) - 1, min(len(ends[0]), LARGE_REFINED)).long()
            crystals = ends[0][some]
        return row | {"differences": _differences(models)}


def large_cells(proposed: Crystals) -> list[Row]:
    """Those with at least `LARGE` atoms in the cell and `PER_ORBIT` in an orbit, for a JSON file."""
    proposed = proposed[proposed.n_atoms >= LARGE]
    n_sites = Orbits.of(proposed, operations(proposed)).n_sites
    return [
        {"cell": cell.tolist(), "frac": frac.tolist(), "numbers": numbers.tolist(), "sites": sites}
        for (cell, frac, numbers), sites in zip(proposed.arrays(), n_sites.tolist(), strict=True)
        if len(numbers) >= PER_ORBIT * sites
    ]


def _evaluate(crystals: Crystals, model: EnergyModel) -> None:
    known = operations(crystals)
    exact = known.symmetrize(crystals)
    model.evaluate(exact, forces=True, surroundings=Surroundings.of(exact, known))


def _relax(crystals: Crystals, model: EnergyModel, ends: list[Crystals]) -> None:
    """As by a search's default settings, all in one shard."""
    default = SearchSettings.read(formula="Si")
    found = relax(
        crystals,
        model,
        max_steps=default.max_steps,
        max_force=default.max_force,
        symmetry=operations(crystals),
    )
    ends.append(found.crystals[found.with_energy()])


def _differences(models: Mapping[str, Turns]) -> dict[str, dict[str, float]]:
    return {
        name: {"energy": of.energy_difference, "force": of.force_difference} for name, of in models.items()
    }


def spent(work: Callable[[], object], models: Iterable[Turns]) -> dict[str, float]:
    """Seconds of a core in evaluations of the models, told and untold, and in all else that the work does."""
    models = list(models)
    before = [model.seconds for model in models]
    began = time.process_time()
    work()
    total = time.process_time() - began
    seconds = sum((model.seconds - then for model, then in zip(models, before, strict=True)), Seconds())
    return {"told": seconds.told, "untold": seconds.untold, "other": total - seconds.both}


def summarised(rows: Sequence[Row], large: Row) -> dict[str, Any]:
    """Of all searches: for each stage and all together `.s`, `.before_s` and their `.ratio`, the same of the
    evaluations alone (`.evaluations_ratio`); of the large cells likewise; and how far told and untold differ
    at most, eV/atom and eV/Å."""
    found: dict[str, Any] = {"n": len(rows), "proposed": sum(row["proposed"] for row in rows)}
    stages = {stage: _sum(row["stages"][stage] for row in rows) for stage in STAGES}
    found |= _ratios("", {**stages, "all": _sum(stages.values())})
    each = [_ratios("", {"all": _sum(row["stages"].values())})["all.ratio"] for row in rows]
    found["compositions.ratio_median"] = round(median(each), 3)
    found |= {f"large.{what}": large[what] for what in ("crystals", "atoms", "sites")}
    found |= _ratios("large.", large["stages"])
    for name in dict.fromkeys(name for row in rows for name in row["differences"]):
        of = [row["differences"].get(name, {}) for row in (*rows, large)]
        for what in ("energy", "force"):
            found[f"difference.{what}.{name}"] = max(one.get(what, 0.0) for one in of)
    return found


def _sum(parts: Iterable[dict[str, float]]) -> dict[str, float]:
    total = {"told": 0.0, "untold": 0.0, "other": 0.0}
    for part in parts:
        total = {name: value + part[name] for name, value in total.items()}
    return total


def _ratios(prefix: str, seconds: Mapping[str, dict[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
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
        f"{of['all.before_s']:6.1f} s untold  ratio {of['all.ratio']:.2f}"
    )
