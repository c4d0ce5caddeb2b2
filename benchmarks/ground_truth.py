"""Known crystals to be found again: a folder of CIFs, beside them, if known, published marks."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ase.data import chemical_symbols

from csp.crystallography.symmetry import primitive
from csp.crystals import Crystals
from csp.errors import CrystalError, CspError, InputError, MissingError
from csp.library.cif import read_cif
from csp.target import Target

__all__ = [
    "DEFAULT_FOLDER",
    "PUBLISHED_METHODS",
    "PUBLISHED_TOTALS",
    "Problem",
    "Truth",
    "Truths",
    "read_truths",
]

DEFAULT_FOLDER = Path(__file__).parents[2] / "shared" / "data" / "benchmark35"
MARKS_FILE = "table1.csv"

PUBLISHED_METHODS = {
    "space_group_aware": "space-group-aware",
    "metric_learning": "metric learning",
    "template": "template",
    "uspex": "USPEX",
}

PUBLISHED_TOTALS = {"space_group_aware": 17, "metric_learning": 21, "template": 33, "uspex": 14}
"""Of 35 (KAKENHI 20K19866, table 1). The marks sum to 17, 20, 33 and 14, the table's last line prints
17, 21, 31 and 13; quoted is the higher of each."""


@dataclass(frozen=True, slots=True)
class Truth:
    """One known crystal.

    name       of its file, without .cif
    formula    reduced; all that a search is told
    crystal    one crystal, in its primitive cell
    published  method → was it found (1) or not (0); empty where nothing is published
    """

    name: str
    formula: str
    crystal: Crystals
    published: dict[str, int]


@dataclass(frozen=True, slots=True)
class Problem:
    """A file or a target that is left out, and why, in one clause."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


@dataclass(frozen=True, slots=True)
class Truths:
    """The truths of a folder, in the order of the published table, others by name after them."""

    folder: Path
    truths: list[Truth]
    problems: list[Problem]

    def choose(self, names: Sequence[str] | None = None, limit: int | None = None) -> list[Truth]:
        """Those with these names, the first `limit` of them; InputError for a name that is not there."""
        known = {truth.name for truth in self.truths}
        for name in names or ():
            if name not in known:
                raise InputError(f"There is no truth {name!r} in {self.folder}.")
        return [truth for truth in self.truths if names is None or truth.name in names][:limit]


def read_truths(folder: Path) -> Truths:
    """Read every `*.cif` of a folder; `table1.csv` beside them (printed_formula, cif, one column of
    0 and 1 for each method) gives published marks.

    A file that is no single ordered crystal is a `Problem`, as are all files of a formula that has
    several: which of them is the truth? Raises MissingError where there is no folder and InputError
    where nothing is left.
    """
    if not folder.is_dir():
        raise MissingError(f"There is no folder {folder} of `targets`.")
    files = sorted(folder.glob("*.cif"), key=lambda path: path.name)
    if not files:
        raise InputError(f"There are no CIF files in {folder}.")
    marks = _read_marks(folder / MARKS_FILE)
    truths, problems = [], []
    for path in files:
        try:
            truths.append(_read_truth(path, marks.get(path.name, {})))
        except InputError as error:
            problems.append(Problem(path.name, str(error)))
    truths, ambiguous = _without_ambiguous(truths)
    problems += ambiguous
    if not truths:
        raise InputError(f"No CIF in {folder} can be used ({'; '.join(map(str, problems))}).")
    place = {name.removesuffix(".cif"): k for k, name in enumerate(marks)}
    truths.sort(key=lambda truth: (place.get(truth.name, len(place)), truth.name))
    return Truths(folder, truths, problems)


def _read_truth(path: Path, published: dict[str, int]) -> Truth:
    """Raises InputError, one clause, for what cannot be a truth."""
    try:
        crystal = read_cif(path)
    except CrystalError as error:
        raise InputError(error.clause) from error
    numbers, counts = crystal.numbers.unique(return_counts=True)
    amounts = zip(numbers.tolist(), counts.tolist(), strict=True)
    try:
        target = Target.parse("".join(f"{chemical_symbols[z]}{n}" for z, n in amounts))
    except CspError as error:
        raise InputError(f"its composition cannot be a target ({error})") from error
    return Truth(path.stem, target.formula, primitive(crystal), published)


def _without_ambiguous(truths: list[Truth]) -> tuple[list[Truth], list[Problem]]:
    of_formula: dict[str, list[Truth]] = defaultdict(list)
    for truth in truths:
        of_formula[truth.formula].append(truth)
    problems = [
        Problem(
            " and ".join(f"{truth.name}.cif" for truth in several),
            f"several truths for {formula}; keep one",
        )
        for formula, several in of_formula.items()
        if len(several) > 1
    ]
    return [several[0] for several in of_formula.values() if len(several) == 1], problems


def _read_marks(path: Path) -> dict[str, dict[str, int]]:
    """CIF file → method → mark, in the order of the table; empty where there is no table."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    try:
        return {row["cif"]: {method: int(row[method]) for method in PUBLISHED_METHODS} for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no table of published marks: {error}.") from error
