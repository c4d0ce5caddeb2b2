"""The targets of the comparison: drawn by a seed, committed as a table of ids."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.deep.targets import of_ids
from benchmarks.ground_truth import TARGETS35, Truth, read_truths
from benchmarks.targets import held_out_rows
from csp.errors import InputError
from csp.files import write_text
from csp.library.energies import read_distances
from csp.library.library import Library
from csp.training.splits import hashed
from surrogates.potentials.catalogue import ELEMENTS

__all__ = ["MAX_ATOMS", "TARGETS18", "draw", "read"]

TARGETS18 = Path(__file__).parents[1] / "targets18.csv"
"""12 compositions that no training of ours uses and 6 of the 35, by `draw` with seed 0."""

COLUMNS = ("name", "formula", "material_id", "spacegroup")
HELD_OUT, OF_THE_35 = 12, 6
MAX_ATOMS = 16  # in the primitive cell
STABLE = 0.0  # eV/atom above the hull by DFT, at most


def read(targets: Path, libraries: Sequence[Path], seed: int, max_atoms: int) -> list[Truth]:
    """The ground truths of a folder of CIFs or a table of ids, those of at most so many atoms.

    Args:
        libraries: Have the crystals of a table; none: the Materials Project is asked for them.

    Raises:
        InputError, MissingError, ProviderError: As `read_truths` does, or nothing is left.
    """
    if libraries and not targets.is_dir():
        opened = [Library.open(library) for library in libraries]
        truths = [truth for one in opened for truth in of_ids(targets, one, max_atoms, seed, all_folds=True)]
    else:
        truths = read_truths(targets).truths
    small = [truth for truth in truths if int(truth.crystal.n_atoms[0]) <= max_atoms]
    if not small:
        raise InputError(f"No target of {targets} has at most {max_atoms} atoms; raise `max_atoms`.")
    return small


def draw(library: Path, library35: Path, stability: Path, seed: int) -> str:
    """The table as CSV: of each held-out composition a crystal on the hull by DFT, of at most 16 atoms.

    Held-out compositions are taken in the order of a hash of the seed and their name, of the 35 those of at
    most 16 atoms in the order of a hash of the seed and theirs.

    Args:
        library, library35: Known crystals; without the compositions of the 35, and with theirs.
        stability: Parquet table of the distances from the hull by DFT.
    """
    opened = Library.open(library)
    rows = [*islice(_held_out(opened, read_distances(stability), seed), HELD_OUT)]
    opened35 = Library.open(library35)
    rows35 = [*islice(_of_the_35(opened35, seed), OF_THE_35)]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for one, row in [*((opened, row) for row in rows), *((opened35, row) for row in rows35)]:
        formula = one.crystals([row]).structures()[0].composition.reduced_formula
        table.writerow([formula, formula, str(one.material_id[row]), int(one.space_group[row])])
    return text.getvalue()


def _held_out(library: Library, distances: Mapping[str, float], seed: int) -> Iterator[int]:
    of_name = held_out_rows(library)
    for name in sorted(of_name, key=lambda name: hashed(f"{seed} {name}")):
        ids = {str(library.material_id[row]): row for row in of_name[name]}
        known = [(distances[one], row) for one, row in ids.items() if one in distances]
        if known and min(known)[0] <= STABLE and _fits(library, min(known)[1]):
            yield min(known)[1]


def _of_the_35(library: Library, seed: int) -> Iterator[int]:
    with TARGETS35.open(encoding="utf-8", newline="") as lines:
        ids = {row["material_id"]: row["name"] for row in csv.DictReader(lines)}
    place = {str(name): row for row, name in enumerate(library.material_id)}
    for one in sorted(ids, key=lambda one: hashed(f"{seed} {ids[one]}")):
        if one in place and _fits(library, place[one]):
            yield place[one]


def _fits(library: Library, row: int) -> bool:
    """Small enough, of elements that the potentials know?"""
    numbers = library.crystals([row]).numbers.tolist()
    return int(library.n_primitive(np.array([row]))[0]) <= MAX_ATOMS and ELEMENTS.issuperset(numbers)


if __name__ == "__main__":
    structures, of_the_35, distances = map(Path, sys.argv[1:])
    write_text(TARGETS18, draw(structures, of_the_35, distances, seed=0))
