"""Targets of benchmarks and their answers: of a folder, or of the fold that no training uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ground_truth import read_truths
from csp.crystallography.symmetry import primitive
from csp.crystals import Crystals
from csp.files import write_json, write_text
from csp.library.energies import read_energies, read_stable
from csp.library.library import Library
from csp.matching.matcher import Matcher
from csp.target import Target
from csp.training.splits import HELD_OUT, composition_name, fold, hashed
from generators.templates.assignments import Assignments

__all__ = ["Known", "held_out", "in_folder", "reachable", "write_alike", "write_held_out"]

MAX_ATOMS = 100
SYMPREC = 0.05


@dataclass(frozen=True, slots=True)
class Known:
    """A target and its answer, a primitive cell."""

    target: Target
    crystal: Crystals


def in_folder(library: Library, folder: Path, limit: int | None) -> tuple[Library, list[Known]]:
    """The truths of a folder of CIFs, and the library without all their compositions."""
    truths = read_truths(folder).truths
    targets = [Target.parse(t.formula, max_atoms=max(MAX_ATOMS, int(t.crystal.n_atoms[0]))) for t in truths]
    known = [Known(target, truth.crystal) for target, truth in zip(targets, truths, strict=True)]
    return library.excluding(*targets), known[:limit]


def held_out(
    library: Library,
    energies: Path | None,
    seed: int,
    max_atoms: int = MAX_ATOMS,
    entries: int = 1,
    within: float | None = None,
) -> tuple[Library, Iterator[Known]]:
    """Compositions of the held-out fold with their answers, and the library without any of the fold.

    The answer is the entry of the lowest known formation energy; where none is known, the only entry. A
    composition with several entries and no energy has no answer and is no target. Targets come in the
    order of the hash of their name and the seed; answers of more than `max_atoms` a cell and compositions
    with fewer `entries` are left out, and with `within` answers that are not known to be at most so far,
    eV/atom, above the convex hull (`energies` must tell that then).
    """
    rows = library.all_rows()
    numbers, counts = library.compositions(rows)
    names = [composition_name(z, n) for z, n in zip(numbers.tolist(), counts.tolist(), strict=True)]
    of_name: dict[str, list[int]] = {}
    for row, name in zip(rows.tolist(), names, strict=True):
        if fold(name) == HELD_OUT:
            of_name.setdefault(name, []).append(row)
    known_energy = read_energies(energies) if energies is not None else {}
    stable = read_stable(energies, within) if energies is not None and within is not None else None
    hidden = np.array([row for members in of_name.values() for row in members])

    def known() -> Iterator[Known]:
        for name in sorted(of_name, key=lambda name: hashed(f"{seed} {name}")):
            answer = _answer(library, of_name[name], known_energy)
            if answer is None or len(of_name[name]) < entries or library.n_atoms[answer] > max_atoms:
                continue
            if stable is None or str(library.material_id[answer]) in stable:
                crystal = primitive(library.crystals([answer]), SYMPREC)
                formula = crystal.structures()[0].composition.reduced_formula
                yield Known(Target.parse(formula, max_atoms=MAX_ATOMS), crystal)

    return library.hiding(np.union1d(library.hidden, hidden)), known()


def write_held_out(
    library: Path | None,
    energies: Path | None,
    out: Path,
    n: int,
    max_atoms: int,
    entries: int,
    seed: int,
    within: float | None = None,
) -> int:
    """Write the answers of the first n held-out compositions (`held_out`) as FORMULA.cif; their number."""
    from pymatgen.io.cif import CifWriter

    found = held_out(Library.open(library), energies, seed, max_atoms, entries, within)[1]
    known = list(islice(found, n))
    for one in known:
        write_text(out / f"{one.target.formula}.cif", str(CifWriter(one.crystal.structures()[0])))
    asked = {"max_atoms": max_atoms, "entries": entries, "within": within, "seed": seed}
    write_json(out / "summary.json", {"n": len(known), **asked})
    return len(known)


def reachable(known: Known, library: Library) -> bool:
    """Is any entry of the target's ratio, with its elements in any order in its places, the answer?"""
    return any(len(rows) for rows in _alike(known, library, Matcher.DEFAULT))


def write_alike(library: Path | None, targets: Path, out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Write the names of all entries with the structure of a target, whatever their elements, to `ids.txt`,
    how many to `summary.json` (loose tolerances). A model that has not seen them has to invent it."""
    opened, known = in_folder(Library.open(library), targets, None)
    alike: set[str] = set()
    counts: dict[str, Any] = {"library": opened.fingerprint, "n": len(known)}
    for one in known:
        rows = np.unique(np.concatenate([*_alike(one, opened, Matcher.LOOSE), np.zeros(0, np.int64)]))
        alike |= set(opened.material_id[rows].astype(str).tolist())
        counts[f"entries.{one.target.formula}"] = len(rows)
        say(f"{one.target.formula:20} {len(rows):6d} entries")
    counts["entries"] = len(alike)
    write_text(out / "ids.txt", "".join(f"{name}\n" for name in sorted(alike)))
    write_json(out / "summary.json", counts)
    return counts


def _alike(known: Known, library: Library, matcher: Matcher) -> Iterator[NDArray[np.int64]]:
    """Rows of the entries that are the answer once their elements are exchanged, for each order of these."""
    anonymous = known.target.anonymous
    rows = library.rows(anonymous)
    fits = library.n_atoms[rows] % int(known.crystal.n_atoms[0]) == 0
    rows, elements = rows[fits], library.elements(anonymous)[fits]
    assignments = Assignments.of(known.target)
    for numbers in assignments.elements[assignments.orders]:
        entries = library.crystals(rows)
        places = (entries.numbers.numpy()[:, None] == elements[entries.batch.numpy()]).argmax(1)
        placed = Crystals(
            entries.cell, entries.frac, entries.numbers.new_tensor(numbers[places]), entries.offsets
        )
        yield rows[matcher.fits(known.crystal, placed).numpy()]


def _answer(library: Library, rows: list[int], energies: Mapping[str, float]) -> int | None:
    known = [(energies[name], row) for row in rows if (name := str(library.material_id[row])) in energies]
    if known:
        return min(known)[1]
    return rows[0] if len(rows) == 1 else None
