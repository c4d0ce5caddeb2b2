"""Does a search whose library holds its composition keep what is known of it?

Every entry of the composition that StructureMatcher tells apart should be relaxed by the ranking potential,
and the lowest of them by DFT should lead the ranking, or lie within what potentials err of its first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.files import begin
from benchmarks.machine import machine
from csp.device import resolve_device
from csp.engine import build
from csp.files import write_json, write_text
from csp.library.energies import read_energies
from csp.library.library import Library
from csp.matching.matcher import Matcher
from csp.search.prediction import Prediction
from csp.search.search import Search
from csp.settings import SearchSettings

__all__ = ["FORMULAS", "Kept", "lowest_of", "measure", "summary"]

FORMULAS = ("MoS2", "PbI2", "TaS2", "TiS2", "WS2", "GaSe", "ZnS", "SiC", "TiO2", "SiO2")
NEAR = 0.005  # eV/atom; what potentials and DFT err between polymorphs


@dataclass(frozen=True, slots=True)
class Kept:
    """One composition.

    Attributes:
        entries: Of the composition in the library, in cells that the search takes (`max_atoms`).
        larger: Entries in larger cells.
        distinct: Of these, by StructureMatcher.
        relaxed: Of the distinct ones, by the ranking potential; one that lies in the same group counts.
        lowest: Id of the entry with the least formation energy by DFT; "" if none has one.
        rank: Of the first ranked crystal that is this entry or one of its group; None: there is none.
        above_first: Energy of that crystal above the first, eV/atom.
        seconds: Of the search.
    """

    formula: str
    entries: int
    larger: int
    distinct: int
    relaxed: int
    lowest: str
    rank: int | None
    above_first: float | None
    seconds: float


def measure(
    library: Path,
    energies: Path,
    formulas: tuple[str, ...],
    out: Path,
    settings: dict[str, Any],
    *,
    device: str,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Search for the compositions with all that the library has; what an earlier call searched is read.

    Writes `compositions.jsonl` after each, and `summary.json`.

    Args:
        energies: Parquet table of formation energies by DFT, eV/atom.
        settings: Of the searches, their formula and library apart.

    Raises:
        InputError: `out` holds a run with other settings.
    """
    known = Library.open(library)
    told = {"library": known.fingerprint, **{name: str(value) for name, value in settings.items()}}
    begin(out, told)
    energy_of, path = read_energies(energies), out / "compositions.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    done = {one.formula: one for one in (Kept(**json.loads(line)) for line in lines)}
    for k, formula in enumerate(formulas, start=1):
        if formula not in done:
            asked = SearchSettings.read(formula=formula, library=library, **settings)
            done[formula] = _searched(asked, known, energy_of, out / "runs" / formula, device)
            write_text(path, "".join(json.dumps(asdict(one)) + "\n" for one in done.values()))
        say(f"{k:3d}/{len(formulas)}  {_line(done[formula])}")
        found = summary([done[name] for name in formulas[:k]])
        write_json(out / "summary.json", {**told, **found, **machine(resolve_device(device))})
    return summary([done[name] for name in formulas])


def summary(kept: list[Kept]) -> dict[str, Any]:
    """How many keep all distinct entries, and the lowest of them first or near it."""
    near = sum(one.rank == 1 or (one.above_first is not None and one.above_first <= NEAR) for one in kept)
    return {
        "n": len(kept),
        "entries": sum(one.entries for one in kept),
        "entries_larger": sum(one.larger for one in kept),
        "distinct": sum(one.distinct for one in kept),
        "distinct_relaxed": sum(one.relaxed for one in kept),
        "lowest_first": sum(one.rank == 1 for one in kept),
        "lowest_first_or_within_5_mev": near,
        "lowest_without_rank": sum(one.rank is None for one in kept),
        "seconds_mean": round(sum(one.seconds for one in kept) / len(kept), 1) if kept else None,
    }


def lowest_of(ids: list[str], energies: Mapping[str, float]) -> int | None:
    """The place of the entry with the least formation energy by DFT; None: none is known."""
    found = np.array([energies.get(name, np.nan) for name in ids])
    return int(np.nanargmin(found)) if np.isfinite(found).any() else None


def _searched(
    asked: SearchSettings, library: Library, energies: Mapping[str, float], folder: Path, device: str
) -> Kept:
    started, target = time.perf_counter(), asked.target()
    search, _ = build(asked, target, folder, device=device, resume=True)
    prediction = search.run()
    seconds = round(time.perf_counter() - started, 1)
    own = library.own_rows(target)
    rows = own[library.n_primitive(own) <= asked.max_atoms]
    ids = [str(name) for name in library.material_id[rows]]
    group = Matcher.DEFAULT.group(library.crystals(rows)).tolist()
    relaxed = _own_relaxed(search)
    lowest = lowest_of(ids, energies)
    rank, above = None, None
    if lowest is not None:
        same = {name for name, of in zip(ids, group, strict=True) if of == group[lowest]}
        rank, above = _place(prediction, same)
    return Kept(
        target.formula,
        len(ids),
        len(own) - len(ids),
        len(set(group)),
        len({of for name, of in zip(ids, group, strict=True) if name in relaxed}),
        "" if lowest is None else ids[lowest],
        rank,
        above,
        seconds,
    )


def _own_relaxed(search: Search) -> set[str]:
    """Ids in the library of the own entries that the ranking model has relaxed."""
    funnel = search.funnel
    stage = "refine" if len(funnel.models) > 1 else "relax"
    starts, _ = funnel.store.relaxed(stage, funnel.ranking_model.label)
    wanted = set(starts)
    members = zip(funnel.pool.ids, funnel.pool.provenance, strict=True)
    return {one.template_id for id_, proposed in members if id_ in wanted for one in proposed if one.own}


def _place(prediction: Prediction, ids: set[str]) -> tuple[int | None, float | None]:
    """Rank of the first crystal that is one of these entries, and its energy above the first's."""
    results = prediction.results
    for one in results:
        if ids & {entry.id for entry in one.known_as}:
            above = one.above_lowest_ev_per_atom - results[0].above_lowest_ev_per_atom
            return one.rank, round(above, 5)
    return None, None


def _line(one: Kept) -> str:
    place = "not in the ranking" if one.rank is None else f"rank {one.rank}"
    if one.above_first:
        place += f", {1000 * one.above_first:+.1f} meV/atom"
    entries = f"{one.relaxed} of {one.distinct} distinct entries relaxed"
    return f"{one.formula:8} {entries}, {one.lowest or 'lowest unknown'}: {place}, {one.seconds:.0f} s"
