"""Targets of the benchmark of deep searches: a folder of CIFs, or ids of crystals that are held out."""

from __future__ import annotations

import csv
from pathlib import Path

from benchmarks.ground_truth import Truth, read_truths
from csp.crystallography.symmetry import primitive
from csp.errors import InputError, MissingError
from csp.library.library import Library
from csp.target import Target
from csp.training.splits import HELD_OUT, composition_name, fold, hashed

__all__ = ["in_folder", "of_ids"]

SYMPREC = 0.05  # Å


def in_folder(folder: Path, max_atoms: int) -> list[Truth]:
    """The crystals of a folder of CIFs of at most so many atoms in the primitive cell."""
    return [truth for truth in read_truths(folder).truths if int(truth.crystal.n_atoms[0]) <= max_atoms]


def of_ids(
    table: Path, library: Library, max_atoms: int, seed: int, *, all_folds: bool = False
) -> list[Truth]:
    """The crystals of a library that a CSV file names in its column `material_id`, in the order of a hash of
    the seed and their name.

    Args:
        table: The CSV file.
        library: Has the crystals.
        max_atoms: Larger primitive cells are left out.
        seed: Decides the order.
        all_folds: Those, too, whose compositions are not of the fold that no training uses.

    Raises:
        MissingError: There is no such table.
        InputError: It has no such column, or nothing in it is left.
    """
    if not table.is_file():
        raise MissingError(f"There is no table of targets {table}.")
    with table.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    if not rows or "material_id" not in rows[0]:
        raise InputError(f"{table} has no column material_id.")
    place = {name: k for k, name in enumerate(library.material_id.astype(str).tolist())}
    truths = []
    for name in sorted((row["material_id"] for row in rows), key=lambda name: hashed(f"{seed} {name}")):
        if name not in place:
            continue
        crystal = primitive(library.crystals([place[name]]), SYMPREC)
        if int(crystal.n_atoms[0]) > max_atoms:
            continue
        target = Target.parse(crystal.structures()[0].composition.reduced_formula)
        if all_folds or fold(composition_name(target.numbers, target.counts)) == HELD_OUT:
            truths.append(Truth(name, target.formula, crystal, {}))
    if not truths:
        raise InputError(f"No crystal that {table} names can be a target with `max_atoms` {max_atoms}.")
    return truths
