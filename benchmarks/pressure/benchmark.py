"""Is the phase that is known at a pressure among the first three of a search at that pressure?

The table of known phases has no coordinates: a crystal of the ranking is taken for the phase if it has its
space group and as many atoms in its primitive cell. That is a weaker test than a comparison of structures,
but the two together seldom agree by chance. The target's own composition is left out of the library.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.files import begin
from benchmarks.machine import machine
from csp.crystallography.symmetry import primitive
from csp.device import resolve_device
from csp.engine import predict
from csp.errors import InputError
from csp.files import write_json, write_text
from csp.search.prediction import Prediction
from csp.settings import SearchSettings
from csp.training.splits import hashed

__all__ = ["Found", "Known", "measure", "rank_of", "read_known", "summary"]

FIRST = 3
SYMPREC = 0.1  # Å


@dataclass(frozen=True, slots=True)
class Known:
    """A phase that is known.

    Attributes:
        pressure: GPa, in the middle of where it is known.
        n_atoms: In the primitive cell.
    """

    formula: str
    spacegroup: int
    pressure: float
    n_atoms: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found of it.

    Attributes:
        rank: None: it is not in the ranking.
        first: Space group of the first.
        seconds: Of the search.
    """

    formula: str
    spacegroup: int
    pressure: float
    rank: int | None
    first: int
    seconds: float


def read_known(path: Path) -> list[Known]:
    """The table: formula, spacegroup, Pmin, Pmax (GPa), nat.

    Raises:
        InputError: It is not such a table.
    """
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        return [
            Known(
                row["formula"],
                int(row["spacegroup"]),
                round((float(row["Pmin"]) + float(row["Pmax"])) / 2, 2),
                int(row["nat"]),
            )
            for row in rows
        ]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{path} is no table of known phases with formula, spacegroup, Pmin, Pmax, nat."
        ) from error


def measure(
    truths: Path,
    out: Path,
    settings: dict[str, Any],
    *,
    limit: int | None,
    device: str,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Search for the phases, in the order of a hash of them; what an earlier call searched is read.

    Writes `phases.jsonl` after each, and `summary.json`.

    Args:
        settings: Of the searches, their formula and pressure apart.
    """
    told = {name: str(value) for name, value in settings.items()}
    begin(out, told)
    known = sorted(read_known(truths), key=lambda one: hashed(f"{one.formula} {one.spacegroup}"))[:limit]
    path = out / "phases.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    done = {(one.formula, one.spacegroup): one for one in (Found(**json.loads(line)) for line in lines)}
    found: list[Found] = []
    for k, one in enumerate(known, start=1):
        if (one.formula, one.spacegroup) not in done:
            done[one.formula, one.spacegroup] = _searched(one, out, settings, device)
            text = "".join(json.dumps(asdict(x)) + "\n" for x in done.values())
            write_text(path, text)
        found.append(done[one.formula, one.spacegroup])
        say(f"{k:3d}/{len(known)}  {_line(found[-1])}")
        figures = summary(found)
        write_json(out / "summary.json", {**told, **figures, **machine(resolve_device(device))})
    return summary(found)


def summary(found: list[Found]) -> dict[str, Any]:
    """How many are among the first; what was not found counts."""
    ranks = [one.rank for one in found]
    return {
        "n": len(found),
        **{f"found_at_{n}": sum(r is not None and r <= n for r in ranks) for n in (1, FIRST, 10)},
        "found_at_any": sum(r is not None for r in ranks),
        "seconds_mean": round(sum(one.seconds for one in found) / len(found), 1) if found else None,
    }


def rank_of(known: Known, prediction: Prediction) -> int | None:
    """The rank of the first crystal with its space group and number of atoms; None if there is none."""
    sizes = primitive(prediction.crystals, SYMPREC).n_atoms.tolist()
    for result, size in zip(prediction.results, sizes, strict=True):
        if result.spacegroup_number == known.spacegroup and size == known.n_atoms:
            return result.rank
    return None


def _searched(known: Known, out: Path, settings: dict[str, Any], device: str) -> Found:
    started = time.perf_counter()
    asked = SearchSettings.read(formula=known.formula, pressure=known.pressure, **settings)
    folder = out / "runs" / f"{known.formula}-{known.spacegroup}"
    prediction = predict(asked, asked.target(), folder, device=device, resume=True)
    first = prediction.results[0].spacegroup_number if prediction.results else 0
    seconds = round(time.perf_counter() - started, 1)
    return Found(known.formula, known.spacegroup, known.pressure, rank_of(known, prediction), first, seconds)


def _line(one: Found) -> str:
    place = "not in the ranking" if one.rank is None else f"rank {one.rank}"
    return f"{one.formula:10} {one.spacegroup:3d} at {one.pressure:6.1f} GPa: {place}, {one.seconds:.0f} s"
