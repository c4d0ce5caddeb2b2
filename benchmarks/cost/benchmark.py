"""Seconds, core seconds and memory of searches by atoms in the cell, effort and cores.

Each search is a process of its own, `csp predict`, so that its start and its page count and its memory is its
own. One that is done is a JSON file; what was interrupted begins anew.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.cost.search import evaluations, run
from benchmarks.files import begin
from benchmarks.machine import machine, threads
from csp.errors import InputError
from csp.files import write_json, write_text
from csp.target import Target
from surrogates.zoo import AUTO, choose_relaxer, load_model

__all__ = ["CASES", "EFFORTS", "CostBenchmark"]

# formula and formula units in the primitive cell
CASES = (
    ("GaAs", 1),  # 2 atoms
    ("SrTiO3", 1),  # 5
    ("CaCO3", 2),  # 10
    ("Al2O3", 4),  # 20
    ("LiFePO4", 4),  # 28
    ("CaMgSi2O6", 4),  # 40
    ("MgAl2O4", 8),  # 56
    ("Y3Al5O12", 4),  # 80
    ("Mg3Al2Si3O12", 6),  # 120
)
EFFORTS = ("quick", "standard", "deep")
SURROGATE = "xs"
NO_RELAXER = "none"  # the surrogate does it all
RELAXING = {"pre_relax": 0, "relax": 0, "refine": -1, "rattle": -1}  # stage → the first model or the last


@dataclass(frozen=True)
class CostBenchmark:
    """Searches that are timed, in an out folder.

    Attributes:
        library: Of templates, the formula's own composition left out; None: the AFLOW prototypes.
        minutes: Of a deep search.
        relaxer: Name of the potential that refines.
    """

    out: Path
    library: Path | None
    minutes: float
    relaxer: str
    seed: int

    @classmethod
    def begin(
        cls,
        out: Path,
        *,
        library: Path | None = None,
        minutes: float = 10.0,
        relaxer: str = AUTO,
        seed: int = 0,
    ) -> CostBenchmark:
        """Start, or go on with what is in `out`.

        Raises:
            InputError: It holds figures of other settings.
            MissingError: The library is not there.
        """
        name = choose_relaxer()[0] if relaxer == AUTO else relaxer
        of = None if library is None else library.name
        begin(out, {"library": of, "minutes": minutes, "relaxer": name, "seed": seed})
        return cls(out, None if library is None else library.absolute(), minutes, name, seed)

    def run(
        self,
        say: Callable[[str], None],
        *,
        efforts: Sequence[str] = EFFORTS[:2],
        cores: Sequence[int] = (1,),
        limit: int | None = None,
    ) -> dict[str, Any]:
        """Time all searches; write `summary.json` and `table.md` and return the summary.

        Raises:
            InputError: There is no such effort.
        """
        if unknown := sorted(set(efforts) - set(EFFORTS)):
            raise InputError(f"No effort is called {unknown[0]}; there are {', '.join(EFFORTS)}.")
        rows = []
        for effort, n, (formula, z) in product(efforts, cores, CASES[:limit]):
            name = f"{formula}-{effort}-{n}"
            path = self.out / "searches" / f"{name}.json"
            if not path.is_file():
                write_json(path, self._measured(name, formula, z, effort, n))
            rows.append(json.loads(path.read_text(encoding="utf-8")))
            say(_line(rows[-1]))
        summary: dict[str, Any] = {}
        for row in rows:
            key = f"{row['effort']}.{row['atoms']}_atoms.{row['threads']}_threads"
            summary |= {f"{key}.{what}": row[what] for what in ("seconds", "cpu_seconds", "gib")}
            summary |= {f"{key}.limit.{stage}": share for stage, share in row["limit"].items()}
        summary |= machine(torch.device("cpu"))
        write_json(self.out / "summary.json", summary)
        write_text(self.out / "table.md", table(rows))
        return summary

    def _measured(self, name: str, formula: str, z: int, effort: str, n: int) -> dict[str, Any]:
        folder = self.out / "runs" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        deep = ["--minutes", str(self.minutes)] if effort == "deep" else []
        cost = run(
            [
                *(formula, "--z", str(z), "--effort", effort, *deep, "--relaxer", self.relaxer),
                *("--surrogate", SURROGATE, "--library", str(self.library or "none")),
                *("--exclude-composition", "--seed", str(self.seed), "--device", "cpu"),
            ],
            folder,
            threads=n,
        )
        names = dict.fromkeys((SURROGATE, self.relaxer))
        models = [load_model(name) for name in names if name != NO_RELAXER]
        with threads(n):
            found = evaluations(folder, {stage: models[k] for stage, k in RELAXING.items()})
        return {
            "formula": formula,
            "atoms": z * Target.parse(formula).n_atoms,
            "effort": effort,
            "threads": n,
            **{key: round(value, 2) for key, value in asdict(cost).items() if key != "stages"},
            "stages": cost.stages,
            "evaluations": {stage: one.number for stage, one in found.items()},
            "limit": {stage: round(one.least / cost.stages[stage], 3) for stage, one in found.items()},
        }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The searches, and where the time of each went, as Markdown."""
    lines = [
        "| formula | atoms | effort | threads | s | core s | GiB | where the time went | least |",
        "|---|---:|---|---:|---:|---:|---:|---|---|",
    ]
    for row in rows:
        stages = _of_stages(row)
        stages["start and page"] = row["seconds"] - sum(stages.values())
        most = sorted(stages, key=lambda stage: -stages[stage])[:4]
        went = ", ".join(f"{stage} {100 * stages[stage] / row['seconds']:.0f} %" for stage in most)
        least = ", ".join(f"{stage} {100 * share:.0f} %" for stage, share in row["limit"].items())
        cells = [row["formula"], row["atoms"], row["effort"], row["threads"], f"{row['seconds']:.0f}"]
        cells += [f"{row['cpu_seconds']:.0f}", f"{row['gib']:.2f}", went, least]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(
        [
            *lines,
            "",
            "From the start of `csp predict` to its page. Least: how much of a stage's time the energies "
            "with forces take that its relaxations asked for, one for each crystal and step, by the time of "
            "one in a batch.",
            "",
        ]
    )


def _of_stages(row: dict[str, Any]) -> dict[str, float]:
    """Without the moments at which rounds were closed, which `run.json` has beside the stages' seconds."""
    return {stage: s for stage, s in row["stages"].items() if not stage.startswith("round ")}


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['formula']:<14} {row['atoms']:4d} atoms  {row['effort']:<8}  {row['threads']} threads  "
        f"{row['seconds']:6.0f} s  {row['cpu_seconds']:6.0f} core s  {row['gib']:.2f} GiB"
    )
