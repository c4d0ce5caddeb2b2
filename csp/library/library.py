"""The structure library: known crystals on disk, found by composition in milliseconds.

One Parquet file, one row for each crystal; the columns are those of `csp.library.schema`. Embedded are the
prototypes of the AFLOW encyclopedia (`csp.library.build_prototypes`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from csp.crystallography.primitive import lattice_points
from csp.crystals import Crystals
from csp.errors import InputError, MissingError
from csp.library.info import LibraryInfo
from csp.library.schema import ABOUT, ORIGIN, REQUIRED, library_schema
from csp.target import Target

__all__ = ["Library"]

Ints = NDArray[np.int64]

EMBEDDED = Path(__file__).parents[1] / "data" / "aflow_prototypes.parquet"
EMBEDDED_NAME = "AFLOW prototypes"
MAX_NUMBER = 118


@dataclass(frozen=True, slots=True, eq=False)
class Compositions:
    """The entries with k elements, elements in the order of (amount, atomic number).

    Attributes:
        rows: int [n], in the library.
        elements: int [n, k], atomic numbers.
        counts: int [n, k], coprime, ascending.
    """

    rows: Ints
    elements: Ints
    counts: Ints


@dataclass(frozen=True, eq=False)
class Library:
    """N crystals in columns. A row number names an entry, in a view (`excluding`) too.

    Attributes:
        name: Of the library.
        material_id: str [N], names of the entries.
        space_group: int [N], their numbers.
        n_atoms: int [N], atoms in the cell as stored, which need not be primitive.
        origin: Source and licence, str [N] each.
        hidden: int [H], rows that no query returns.
    """

    name: str
    material_id: NDArray[Any] = field(repr=False)
    space_group: Ints = field(repr=False)
    n_atoms: Ints = field(repr=False)
    origin: tuple[NDArray[Any], NDArray[Any]] = field(repr=False)  # source, licence; str [N]
    _cell: NDArray[np.float32] = field(repr=False)  # [N, 3, 3]
    _numbers: NDArray[np.uint8] = field(repr=False)  # [A]
    _frac: NDArray[np.float32] = field(repr=False)  # [A, 3]
    _n_primitive: Ints = field(repr=False)  # [N] what was looked up so far, else 0; shared with the views
    hidden: Ints = field(repr=False, default_factory=lambda: np.zeros(0, np.int64))
    about: Mapping[str, NDArray[Any]] = field(repr=False, default_factory=dict)  # further columns, object [N]
    extract_of: int = 0  # entries of the database of which this is all that concerns one target; 0: of none

    # -- opening ----------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: Path | None = None) -> Library:
        """Read a library file (None: the embedded prototypes of the AFLOW encyclopedia).

        Raises:
            MissingError: Where there is no such file.
            InputError: For a file that is no library, and for what is no path.
        """
        if path is None:
            return replace(_from_parquet(EMBEDDED), name=EMBEDDED_NAME)
        if not isinstance(path, (str, Path)):
            raise InputError(f"A library is opened by the path of its file, which {path!r} is not.")
        path = Path(path)
        if not path.is_file():
            raise MissingError(f"There is no library at {path}; make one with `csp library import`.")
        return _from_parquet(path)

    def __len__(self) -> int:
        """Entries that are not hidden."""
        return len(self.material_id) - len(self.hidden)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the crystals and of what is hidden, 16 hexadecimal digits."""
        digest = hashlib.blake2b(digest_size=8)
        ids = "\n".join(self.material_id).encode()
        for part in (ids, self.space_group, self.n_atoms, self._cell, self._numbers, self._frac, self.hidden):
            digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).data)
        return digest.hexdigest()

    # -- finding ----------------------------------------------------------------------------------

    def excluding(self, *targets: Target) -> Library:
        """A view without any entry of the targets' reduced compositions."""
        hidden = [self.hidden, *(self._composed_as(target) for target in targets)]
        return self.hiding(np.unique(np.concatenate(hidden)))

    def own_rows(self, target: Target) -> Ints:
        """The entries of the target's own composition; not those whose elements stand for others."""
        rows = self._composed_as(target)
        return rows[~self.stand_in(rows)]

    def stand_in(self, rows: Ints) -> NDArray[np.bool_]:
        """Of which rows the elements stand for others (see `library_schema`)?"""
        known = self.about.get("stand_in")
        return np.zeros(len(rows), bool) if known is None else known[rows].astype(bool)

    def duplicate(self, rows: Ints) -> NDArray[np.bool_]:
        """Which rows are a crystal that another source has too?"""
        known = self.about.get("duplicate_of")
        return np.array([known is not None and known[row] is not None for row in rows.tolist()], bool)

    def distances(self, rows: Ints) -> NDArray[np.float64]:
        """How far rows are above their source's own convex hull, eV/atom; NaN where it is not known."""
        known = self.about.get("e_above_hull")
        return np.full(len(rows), np.nan) if known is None else known[rows].astype(np.float64)

    @property
    def is_embedded(self) -> bool:
        """Is it the prototypes that come with the engine, not what is known of some compositions?"""
        return self.name == EMBEDDED_NAME

    def _composed_as(self, target: Target) -> Ints:
        """The visible entries whose atoms are the target's."""
        found = self._entries(target.anonymous)
        order = np.lexsort((target.numbers, target.counts))
        wanted = np.array(target.numbers)[order]
        return found.rows[(found.elements == wanted).all(axis=1)]

    @property
    def whole(self) -> Library:
        """The same library with nothing hidden."""
        return self.hiding(np.zeros(0, np.int64)) if len(self.hidden) else self

    def hiding(self, rows: Ints) -> Library:
        """A view without these rows, and no others."""
        view = replace(self, hidden=rows)
        for name in ("_offsets", "_compositions"):  # do not depend on what is hidden
            view.__dict__[name] = getattr(self, name)
        return view

    def rows(self, anonymous: tuple[int, ...]) -> Ints:
        """The entries whose coprime amounts, sorted, are these; whatever their formula units."""
        return self._entries(anonymous).rows

    def all_rows(self) -> Ints:
        """Every entry that is not hidden."""
        return np.setdiff1d(np.arange(len(self.material_id)), self.hidden)

    def elements(self, anonymous: tuple[int, ...]) -> Ints:
        """[n, k]: atomic numbers of `rows(anonymous)`, column j the element with amount anonymous[j].

        Elements with equal amounts are in the order of their atomic numbers.
        """
        return self._entries(anonymous).elements

    def compositions(self, rows: Ints) -> tuple[Ints, Ints]:
        """Atomic numbers and coprime amounts, [n, k] each, by ascending amount; amount 0 pads."""
        widest = max(self._compositions, default=0)
        numbers, counts = np.zeros((2, len(self.material_id), widest), np.int64)
        for k, table in self._compositions.items():
            numbers[table.rows, :k], counts[table.rows, :k] = table.elements, table.counts
        return numbers[rows], counts[rows]

    def crystals(self, rows: Ints | list[int]) -> Crystals:
        """The crystals of these rows, in this order, as stored."""
        rows = np.asarray(rows, np.int64)
        counts = self.n_atoms[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        atoms = np.arange(offsets[-1]) + np.repeat(self._offsets[rows] - offsets[:-1], counts)
        return Crystals(
            torch.from_numpy(self._cell[rows].astype(np.float64)),
            torch.from_numpy(self._frac[atoms].astype(np.float64)),
            torch.from_numpy(self._numbers[atoms].astype(np.int64)),
            torch.from_numpy(offsets.astype(np.int64)),
        )

    def n_primitive(self, rows: Ints) -> Ints:
        """Atoms in the primitive cells of these rows."""
        new = np.unique(rows[self._n_primitive[rows] == 0])
        self._n_primitive[new] = self.n_atoms[new] // lattice_points(self.crystals(new)).numpy()
        return self._n_primitive[rows]

    def group_z_counts(self, target: Target) -> tuple[Ints, Ints, Ints]:
        """How often the target's anonymous composition is in which symmetry and size.

        Returns:
            Space group, Z (formula units in the primitive cell) and number of entries, over what the target's
                constraints allow.
        """
        rows = self.rows(target.anonymous)
        z = self.n_primitive(rows) // target.n_atoms
        allowed = np.isin(z, target.formula_units)
        if target.space_groups is not None:
            allowed &= np.isin(self.space_group[rows], list(target.space_groups))
        pairs = np.stack([self.space_group[rows], z], axis=1)[allowed]
        kinds, counts = np.unique(pairs, axis=0, return_counts=True)
        return kinds[:, 0], kinds[:, 1], counts

    def info(self) -> LibraryInfo:
        """What is in it."""
        from pymatgen.core import Element

        rows = self.all_rows()
        sizes = self.n_atoms[rows]
        levels = {"5%": 0.05, "25%": 0.25, "50%": 0.5, "75%": 0.75, "95%": 0.95, "max": 1.0}
        tables = self._compositions.values()
        compounds = rows[~self.stand_in(rows)]
        of_compounds = [np.hstack([t.elements, t.counts])[np.isin(t.rows, compounds)] for t in tables]
        present = {int(z) for own in of_compounds for z in np.unique(own[:, : own.shape[1] // 2])}
        ratios = [t.counts[np.isin(t.rows, rows)] for t in tables]
        source, licence = self.origin
        return LibraryInfo(
            name=self.name,
            fingerprint=self.fingerprint,
            entries=len(rows),
            compositions=sum(len(np.unique(own, axis=0)) for own in of_compounds),
            anonymous_compositions=sum(len(np.unique(own, axis=0)) for own in ratios),
            space_groups=len(np.unique(self.space_group[rows])),
            elements=tuple(Element.from_Z(z).symbol for z in sorted(present)),
            sizes={k: int(np.quantile(sizes, q, method="lower")) for k, q in levels.items() if len(sizes)},
            provenance=dict(Counter(zip(source[rows].tolist(), licence[rows].tolist(), strict=True))),
            retrieved=self._retrieved(rows),
            energies=self._known("e_above_hull", rows),
            experimental=int(sum(x is True for x in self._about("experimental", rows))),
            duplicates=self._known("duplicate_of", rows),
        )

    def _about(self, column: str, rows: Ints) -> list[Any]:
        """A further column of rows; None where nothing is known."""
        known = self.about.get(column)
        return [None] * len(rows) if known is None else known[rows].tolist()

    def _known(self, column: str, rows: Ints) -> int:
        return sum(x is not None for x in self._about(column, rows))

    def _retrieved(self, rows: Ints) -> dict[str, tuple[str, str]]:
        days: dict[str, set[str]] = {}
        for source, day in zip(self.origin[0][rows].tolist(), self._about("retrieved", rows), strict=True):
            if day:
                days.setdefault(source, set()).add(day)
        return {source: (min(known), max(known)) for source, known in days.items()}

    # -- index ------------------------------------------------------------------------------------

    @cached_property
    def _offsets(self) -> Ints:
        return np.concatenate([[0], np.cumsum(self.n_atoms)])

    @cached_property
    def _compositions(self) -> dict[int, Compositions]:
        """The composition of every row, by the number of elements: a query is one comparison."""
        row = np.repeat(np.arange(len(self.n_atoms)), self.n_atoms)
        pairs, amounts = np.unique(row * (MAX_NUMBER + 1) + self._numbers, return_counts=True)
        row, element = np.divmod(pairs, MAX_NUMBER + 1)
        first = np.flatnonzero(np.diff(row, prepend=-1))  # one per entry: no entry is empty
        n_elements = np.diff(first, append=len(row))
        amounts = amounts // np.repeat(np.gcd.reduceat(amounts, first), n_elements) if len(row) else amounts
        order = np.lexsort((element, amounts, row))  # `row` and `first` stay as they are
        element, amounts = element[order], amounts[order]
        tables = {}
        for k in np.unique(n_elements).tolist():
            entries = np.flatnonzero(n_elements == k)
            places = first[entries][:, None] + np.arange(k)
            tables[k] = Compositions(entries, element[places], amounts[places])
        return tables

    def _entries(self, anonymous: tuple[int, ...]) -> Compositions:
        """The visible entries of one anonymous composition."""
        table = self._compositions.get(len(anonymous))
        if table is None:
            nothing = np.zeros((0, len(anonymous)), np.int64)
            return Compositions(np.zeros(0, np.int64), nothing, nothing)
        found = (table.counts == np.array(anonymous)).all(axis=1)
        found[found] = ~np.isin(table.rows[found], self.hidden)
        return Compositions(table.rows[found], table.elements[found], table.counts[found])


# -- reading ----------------------------------------------------------------------------------------


def _from_parquet(path: Path) -> Library:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        available = pq.read_schema(path)
        missing = [name for name in REQUIRED if name not in available.names]
        if missing:
            raise InputError(f"{path} is no structure library: it has no column {', '.join(missing)}.")
        columns = [name for name in (*REQUIRED, *ORIGIN, *ABOUT) if name in available.names]
        table = pq.read_table(path, columns=columns, memory_map=True)
        schema = library_schema()
        table = table.cast(pa.schema([schema.field(name) for name in columns]))
        note = (available.metadata or {}).get(b"source", path.stem.encode()).decode()
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or ["not understood"])[0].rstrip(".")
        raise InputError(f"The library {path} is damaged or no Parquet file: {reason}.") from error
    if any(table[name].null_count for name in REQUIRED):
        raise InputError(
            f"The library {path} has rows with missing values; import it with `csp library import`."
        )

    origin = tuple(
        table[name].to_numpy() if name in columns else np.full(len(table), default, dtype=object)
        for name, default in zip(ORIGIN, (note, ""), strict=True)
    )
    flat = {name: pa.concat_arrays(table[name].chunks) for name in ("cell", "numbers", "frac_coords")}
    library = Library(
        name=path.stem,
        material_id=table["material_id"].to_numpy(),
        space_group=table["spacegroup"].to_numpy().astype(np.int64),
        n_atoms=flat["numbers"].value_lengths().to_numpy().astype(np.int64),
        origin=(origin[0], origin[1]),
        _cell=flat["cell"].flatten().to_numpy().reshape(-1, 3, 3),
        _numbers=flat["numbers"].flatten().to_numpy(),
        _frac=flat["frac_coords"].flatten().to_numpy().reshape(-1, 3),
        _n_primitive=np.zeros(len(table), np.int64),
        about={name: _objects(table[name]) for name in ABOUT if name in columns},
        extract_of=int((available.metadata or {}).get(b"available", b"0")),
    )
    _check(library, flat["frac_coords"].value_lengths().to_numpy(), path)
    return library


def _objects(column: Any) -> NDArray[Any]:
    """Python values, None where there is none."""
    values = np.empty(len(column), dtype=object)
    values[:] = column.to_pylist()
    return values


def _check(library: Library, frac_lengths: Ints, path: Path) -> None:
    """InputError where a row cannot be a crystal."""
    volumes = np.abs(np.linalg.det(library._cell.astype(np.float64)))
    groups, numbers = library.space_group, library._numbers
    for fault, wrong in (
        ("cells without volume", not (np.isfinite(volumes) & (volumes > 0)).all()),
        ("rows without atoms", bool((library.n_atoms == 0).any())),
        ("rows with unequal lengths of numbers and frac_coords", (frac_lengths != 3 * library.n_atoms).any()),
        ("atomic numbers outside 1-118", bool(((numbers < 1) | (numbers > MAX_NUMBER)).any())),
        ("space groups outside 1-230", bool(((groups < 1) | (groups > 230)).any())),
        ("coordinates that are not numbers", not np.isfinite(library._frac).all()),
    ):
        if wrong:
            raise InputError(f"The library {path} is damaged: it has {fault}.")
