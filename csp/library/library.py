"""The structure library: known crystals on disk, found by composition in milliseconds.

One Parquet file, one row for each crystal; the columns are `SCHEMA`. The prototypes that pymatgen
carries are the embedded default.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from csp.crystallography.primitive import lattice_points
from csp.crystals import Crystals
from csp.errors import InputError, MissingError
from csp.target import Target

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Library", "LibraryInfo", "library_schema"]

Ints = NDArray[np.int64]

REQUIRED = ("material_id", "spacegroup", "cell", "numbers", "frac_coords")
ORIGIN = ("source", "licence")  # columns a library may have beside them
AFLOW_SOURCE = "AFLOW Library of Crystallographic Prototypes, part 1, as carried by pymatgen"
AFLOW_LICENCE = "MIT"
MAX_NUMBER = 118


def library_schema() -> pa.Schema:
    """The columns of a library file.

    - `material_id`: unique name of the crystal
    - `formula`: reduced formula
    - `spacegroup`: number, 1-230
    - `cell`: 9 numbers, Å, row by row; rows are the lattice vectors
    - `numbers`: atomic numbers
    - `frac_coords`: fractional coordinates, flattened
    - `source`: where the crystal is from
    - `licence`: under which licence
    """
    import pyarrow as pa

    return pa.schema(
        [
            ("material_id", pa.string()),
            ("formula", pa.string()),
            ("spacegroup", pa.int16()),
            ("cell", pa.list_(pa.float32(), 9)),
            ("numbers", pa.list_(pa.uint8())),
            ("frac_coords", pa.list_(pa.float32())),
            ("source", pa.string()),
            ("licence", pa.string()),
        ]
    )


@dataclass(frozen=True, slots=True)
class LibraryInfo:
    """What a library holds.

    Attributes:
        name: Of the library.
        fingerprint: A hash of its crystals.
        entries: Number of crystals.
        compositions: Number of distinct reduced compositions.
        anonymous_compositions: The same with the names of the elements left out.
        space_groups: Number of distinct space groups.
        elements: Symbols of the elements that occur.
        sizes: Atoms per cell: the 5, 25, 50, 75, 95 % quantiles and the largest.
        provenance: Entries by (source, licence).
    """

    name: str
    fingerprint: str
    entries: int
    compositions: int
    anonymous_compositions: int
    space_groups: int
    elements: tuple[str, ...]
    sizes: dict[str, int]
    provenance: dict[tuple[str, str], int]

    def __str__(self) -> str:
        origins = [
            f"  {count} from {source}{f' ({licence})' if licence else ''}"
            for (source, licence), count in self.provenance.items()
        ]
        return "\n".join(
            [
                f"{self.name}: {self.entries} crystals, fingerprint {self.fingerprint}",
                f"  {self.compositions} compositions, {self.anonymous_compositions} anonymous ones, "
                f"{self.space_groups} space groups",
                f"  {len(self.elements)} elements: {' '.join(self.elements)}",
                "  atoms per cell: " + ", ".join(f"{level} {n}" for level, n in self.sizes.items()),
                *origins,
            ]
        )


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

    # -- opening ----------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: Path | None = None) -> Library:
        """Read a library file (None: the embedded AFLOW prototypes).

        Raises:
            MissingError: Where there is no such file.
            InputError: For a file that is no library.
        """
        if path is None:
            return _embedded()
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
        found = [self.of_composition(target) for target in targets]
        return self.hiding(np.unique(np.concatenate([self.hidden, *found])))

    def of_composition(self, target: Target) -> Ints:
        """The entries of the target's reduced composition."""
        found = self._entries(target.anonymous)
        order = np.lexsort((target.numbers, target.counts))
        return found.rows[(found.elements == np.array(target.numbers)[order]).all(axis=1)]

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
        visible = [np.isin(t.rows, rows) for t in tables]
        present = {
            int(z) for t, keep in zip(tables, visible, strict=True) for z in np.unique(t.elements[keep])
        }
        distinct = [
            (
                len(np.unique(np.hstack([t.elements, t.counts])[keep], axis=0)),
                len(np.unique(t.counts[keep], axis=0)),
            )
            for t, keep in zip(tables, visible, strict=True)
        ]
        source, licence = self.origin
        return LibraryInfo(
            name=self.name,
            fingerprint=self.fingerprint,
            entries=len(rows),
            compositions=sum(d[0] for d in distinct),
            anonymous_compositions=sum(d[1] for d in distinct),
            space_groups=len(np.unique(self.space_group[rows])),
            elements=tuple(Element.from_Z(z).symbol for z in sorted(present)),
            sizes={k: int(np.quantile(sizes, q, method="lower")) for k, q in levels.items() if len(sizes)},
            provenance=dict(Counter(zip(source[rows].tolist(), licence[rows].tolist(), strict=True))),
        )

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
        columns = [name for name in (*REQUIRED, *ORIGIN) if name in available.names]
        table = pq.read_table(path, columns=columns, memory_map=True)
        schema = library_schema()
        table = table.cast(pa.schema([schema.field(name) for name in columns]))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"The library {path} is damaged or no Parquet file: {reason}.") from error
    if any(table[name].null_count for name in REQUIRED):
        raise InputError(
            f"The library {path} has rows with missing values; import it with `csp library import`."
        )

    note = (available.metadata or {}).get(b"source", path.stem.encode()).decode()
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
    )
    _check(library, flat["frac_coords"].value_lengths().to_numpy(), path)
    return library


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


def _embedded() -> Library:
    """The AFLOW prototypes (Mehl et al., Comput. Mater. Sci. 136, S1, 2017) in pymatgen's own file.

    Read without pymatgen, whose objects for them take seconds to build. A prototype's label, such
    as AB_hP6_154_a_b, has the space group as its third part; a few label several crystals.
    """
    package = find_spec("pymatgen.analysis.prototypes")
    path = Path(str(package.origin)).parent / "aflow_prototypes.json.gz" if package else None
    if path is None or not path.is_file():
        raise MissingError("The AFLOW prototypes are not in the installed pymatgen; give a library instead.")
    from pymatgen.core import Element

    with gzip.open(path) as stream:
        prototypes = json.load(stream)
    labels = [p["tags"]["aflow"] for p in prototypes]
    structures = [p["snl"] for p in prototypes]
    seen: Counter[str] = Counter()
    names = []
    for label in labels:
        seen[label] += 1
        names.append(f"aflow:{label}" + (f"-{seen[label]}" if seen[label] > 1 else ""))
    symbols = [site["species"][0]["element"] for s in structures for site in s["sites"]]
    number = {symbol: Element(symbol).Z for symbol in set(symbols)}
    n = len(structures)
    return Library(
        name="AFLOW prototypes",
        material_id=np.array(names, dtype=object),
        space_group=np.array([int(label.split("_")[2]) for label in labels]),
        n_atoms=np.array([len(s["sites"]) for s in structures]),
        origin=(np.full(n, AFLOW_SOURCE, dtype=object), np.full(n, AFLOW_LICENCE, dtype=object)),
        _cell=np.array([s["lattice"]["matrix"] for s in structures], np.float32),
        _numbers=np.array([number[s] for s in symbols], np.uint8),
        _frac=np.array([site["abc"] for s in structures for site in s["sites"]], np.float32),
        _n_primitive=np.zeros(n, np.int64),
    )
