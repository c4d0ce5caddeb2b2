"""Known crystals to be found again: a folder of CIFs with, if known, published marks beside them, or a table
of ids whose crystals the Materials Project is asked for."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ase.data import chemical_symbols

from csp.crystallography.symmetry import primitive
from csp.crystals import Crystals
from csp.errors import CrystalError, CspError, InputError, MissingError
from csp.library.cif import read_cif
from csp.library.library import Library
from csp.library.optimade import Client
from csp.library.providers import PROVIDERS, Provider
from csp.library.pulling import pull
from csp.target import Target

__all__ = [
    "PUBLISHED_METHODS",
    "PUBLISHED_TOTALS",
    "TARGETS35",
    "Problem",
    "Truth",
    "Truths",
    "read_truths",
]

TARGETS35 = Path(__file__).parent / "targets35.csv"
"""The 35 of KAKENHI 20K19866, table 1, by their ids and space groups (symprec 0.05 Å) in the Materials
Project. For MnFe2O4 it now has a spinel with a slight distortion, and Fe3O4 is its undistorted one."""
TABLE_COLUMNS = ("name", "formula", "material_id", "spacegroup")
MARKS_FILE = "table1.csv"
MAX_ATOMS = 400  # of a formula unit
SYMPREC = 0.05  # Å

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

    Attributes:
        name: Of its file, without .cif.
        formula: Reduced; all that a search is told.
        crystal: One crystal, in its primitive cell.
        published: method → was it found (1) or not (0); empty where nothing is published.
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
        """Those with these names, the first `limit` of them.

        Raises:
            InputError: A name is not there.
        """
        known = {truth.name for truth in self.truths}
        for name in names or ():
            if name not in known:
                raise InputError(f"There is no truth {name!r} in {self.folder}.")
        return [truth for truth in self.truths if names is None or truth.name in names][:limit]


def read_truths(folder: Path, provider: Provider = PROVIDERS["mp"], cache: Path | None = None) -> Truths:
    """Read every `*.cif` of a folder; `table1.csv` beside them (printed_formula, cif, one column of
    0 and 1 for each method) gives published marks. Or, if `folder` is a CSV file (name, formula, material_id,
    spacegroup and perhaps the columns of marks), ask the provider for these ids; its answer is kept.

    A file that is no single ordered crystal is a `Problem`, as are all files of a formula that has
    several: which of them is the truth? So is an id that the provider does not have, or has in another space
    group.

    Raises:
        MissingError: There is no folder or table.
        InputError: Nothing is left.
        ProviderError: The provider cannot be asked.
    """
    if folder.suffix == ".csv" and folder.is_file():
        return _from_table(folder, provider, cache)
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


def _from_table(table: Path, provider: Provider, cache: Path | None) -> Truths:
    with table.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    if not rows or any(name not in rows[0] for name in TABLE_COLUMNS):
        raise InputError(f"{table} is no table of targets: it needs the columns {', '.join(TABLE_COLUMNS)}.")
    library = _asked([row["material_id"] for row in rows], provider, cache)
    place = {str(name): k for k, name in enumerate(library.material_id)}
    marked = set(PUBLISHED_METHODS) <= rows[0].keys()
    truths, problems = [], []
    for row in rows:
        entry = place.get(provider.entry_id(row["material_id"]))
        if entry is None:
            problems.append(Problem(row["name"], f"{provider.title} has no {row['material_id']}"))
            continue
        group = int(library.space_group[entry])
        if str(group) != row["spacegroup"]:
            problems.append(Problem(row["name"], f"{row['material_id']} is in space group {group} now"))
            continue
        formula = Target.parse(row["formula"], max_atoms=MAX_ATOMS).formula
        crystal = primitive(library.crystals([entry]), SYMPREC)
        truths.append(Truth(row["name"], formula, crystal, _marks(row, table) if marked else {}))
    if not truths:
        raise InputError(f"No target of {table} can be had ({'; '.join(map(str, problems))}).")
    return Truths(table, truths, problems)


def _asked(names: Sequence[str], provider: Provider, cache: Path | None) -> Library:
    """The provider's entries of these ids, from the user's cache folder if they were asked for before."""
    from platformdirs import user_cache_path

    query = " OR ".join(f'id="{name}"' for name in names)
    digest = hashlib.blake2b(f"{provider.base_url}\n{query}".encode(), digest_size=8).hexdigest()
    kept = (cache or user_cache_path("csp-engine")) / "truths" / f"{digest}.parquet"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with Client(provider) as client:
            pull(client, query, kept)
    return Library.open(kept)


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
    if any("cif" not in row for row in rows):
        raise InputError(f"{path} is no table of published marks: it has no column cif.")
    return {row["cif"]: _marks(row, path) for row in rows}


def _marks(row: Mapping[str, str], table: Path) -> dict[str, int]:
    """Method → mark."""
    try:
        return {method: int(row[method]) for method in PUBLISHED_METHODS}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{table} is no table of published marks: {error}.") from error
