"""Known crystals of held-out compositions against the hull of the library's crystals, all by one potential.

Drawn are crystals that are published to be on the convex hull, and as many that are above it, one of a
composition. Each is relaxed as a reference is, without a search, and its energy counted from the hull of what
the library has in its chemical system, its own composition included. The published distances choose which
crystals are references, as they do for a library that was pulled. (The published hull has corrections to its
energies and the potential's has none, or as its label says; and the potential has probably seen these
crystals.)
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.files import begin
from benchmarks.machine import machine
from benchmarks.targets import held_out_rows
from csp.crystallography.symmetry import primitive
from csp.files import write_json, write_text
from csp.library.energies import read_distances
from csp.library.library import Library
from csp.protocols import EnergyModel
from csp.ranking.references import References
from csp.relaxation.relax import relax_symmetric
from csp.target import Target
from csp.training.splits import hashed

__all__ = ["Judged", "draw", "measure", "summary"]

MAX_ATOMS = 20  # in the primitive cell
STEPS = 100
WITHIN = 0.025  # eV/atom of the hull


@dataclass(frozen=True, slots=True)
class Judged:
    """One crystal.

    Attributes:
        id: Of the library's entry.
        formula: Its reduced formula.
        published: eV/atom above the published hull.
        above: eV/atom above the potential's; None: `why_not`.
        phases: Compositions on or above the hull.
        seconds: That it took, references that were relaxed for it included.
    """

    id: str
    formula: str
    published: float
    above: float | None
    phases: int
    seconds: float
    why_not: str = ""


def measure(
    library: Path,
    stability: Path,
    out: Path,
    model: EnergyModel,
    *,
    limit: int,
    seed: int,
    say: Callable[[str], None],
    cache: Path | None = None,
) -> dict[str, Any]:
    """Judge `limit` stable and as many unstable crystals; what an earlier call judged is read.

    Writes `crystals.jsonl` after each crystal, and `summary.json`.

    Args:
        cache: Folder of relaxed references; None: the user's, which searches share.

    Raises:
        InputError: `out` holds a run with other settings.
    """
    distances = read_distances(stability)
    known = _with_distances(Library.open(library), distances)
    settings = {"library": known.fingerprint, "label": str(model.label), "seed": seed}
    begin(out, settings)
    rows = [*chain.from_iterable(zip(*(islice(some, limit) for some in draw(known, seed)), strict=False))]
    done = _read(out / "crystals.jsonl")
    for k, row in enumerate(rows, start=1):
        name = str(known.material_id[row])
        if name not in done:
            done[name] = _judge(known, row, model, cache)
            write_text(out / "crystals.jsonl", "".join(json.dumps(asdict(x)) + "\n" for x in done.values()))
        say(f"{k:3d}/{len(rows)}  {_line(done[name])}")
        found = summary([done[str(known.material_id[row])] for row in rows[:k]])
        write_json(out / "summary.json", {**settings, **found, **machine(model.device)})
    return summary([done[str(known.material_id[row])] for row in rows])


def draw(library: Library, seed: int) -> tuple[Iterator[int], Iterator[int]]:
    """Rows of stable crystals and of unstable ones, in the order of a hash of name and seed: one of each
    held-out composition, of at most 20 atoms, whose distance from the hull is known."""
    held = held_out_rows(library).items()
    names = {row: name for name, members in held if " " in name for row in members}  # no elements
    rows = np.array(sorted(names), np.int64)
    rows = rows[np.isfinite(library.distances(rows)) & (library.n_atoms[rows] <= 8 * MAX_ATOMS)]
    rows = rows[library.n_primitive(rows) <= MAX_ATOMS]
    first: dict[str, int] = {}
    for row in sorted(rows.tolist(), key=lambda row: hashed(f"{seed} {library.material_id[row]}")):
        first.setdefault(names[row], row)
    drawn = np.array(list(first.values()), np.int64)
    stable = library.distances(drawn) == 0
    return iter(drawn[stable].tolist()), iter(drawn[~stable].tolist())


def summary(judged: list[Judged]) -> dict[str, Any]:
    """Stable crystals near the hull, crystals without one in the denominator; rank correlations of the
    unstable ones' distances with the published."""
    from scipy.stats import kendalltau, spearmanr

    stable = [x for x in judged if x.published == 0]
    unstable = [x for x in judged if x.published > 0]
    near = sum(x.above is not None and x.above <= WITHIN for x in stable)
    pairs = np.array([(x.published, x.above) for x in unstable if x.above is not None]).reshape(-1, 2)
    off = 1000 * np.abs(pairs[:, 1] - pairs[:, 0])
    enough = len(pairs) > 2
    return {
        "stable": len(stable),
        "stable_within_25_mev": near,
        "stable_within_25_mev_share": round(near / len(stable), 3) if stable else None,
        "unstable": len(unstable),
        "unstable_with_hull": len(pairs),
        "unstable_spearman": round(float(spearmanr(*pairs.T).statistic), 3) if enough else None,
        "unstable_kendall": round(float(kendalltau(*pairs.T).statistic), 3) if enough else None,
        "unstable_median_difference_mev": round(float(np.median(off)), 1) if enough else None,
        "without_hull": sum(x.above is None for x in judged),
        "seconds_median": round(float(np.median([x.seconds for x in judged])), 1) if judged else None,
    }


def _judge(library: Library, row: int, model: EnergyModel, cache: Path | None) -> Judged:
    started = time.perf_counter()
    crystal = primitive(library.crystals([row]))
    target = Target.parse(crystal.structures()[0].composition.reduced_formula)
    references = References.of(target, library, cache)
    above, phases, why_not = None, 0, references.why_not
    if not why_not:
        ids, relaxed = references.relax(range(len(references)), model, pressure=0.0)
        hull, notes = references.hull(ids, relaxed, relaxed.energy / relaxed.crystals.n_atoms, model.label)
        _, energy, good = relax_symmetric(crystal, model, STEPS)
        if hull is None:
            why_not = notes[-1]
        elif not good:
            why_not = "It could not be relaxed."
        else:
            above = float(energy[0]) / int(crystal.n_atoms[0]) - hull.energy
            phases = len(hull.phases)
    return Judged(
        str(library.material_id[row]),
        target.formula,
        round(float(library.distances(np.array([row]))[0]), 4),
        None if above is None else round(above, 5),
        phases,
        round(time.perf_counter() - started, 1),
        why_not,
    )


def _with_distances(library: Library, distances: Mapping[str, float]) -> Library:
    known = np.array([distances.get(str(name)) for name in library.material_id], dtype=object)
    return replace(library, about={**library.about, "e_above_hull": known})


def _read(path: Path) -> dict[str, Judged]:
    if not path.is_file():
        return {}
    found = [Judged(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    return {one.id: one for one in found}


def _line(one: Judged) -> str:
    ours = one.why_not if one.above is None else f"{1000 * one.above:7.1f} meV/atom"
    published = f"published {1000 * one.published:7.1f}"
    return f"{one.id:12} {one.formula:16} {published}, here {ours}, {one.seconds:.0f} s"
