"""Crystals of one's own as a library: CIF folders, extended XYZ, ASE databases and Parquet to Parquet."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from csp.crystals import Crystals
from csp.errors import InputError, MissingError
from csp.files import replacing
from csp.library.cif import read_cif
from csp.library.rows import Entry, checked, library_rows
from csp.library.schema import ABOUT, library_schema

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["ImportReport", "import_structures"]

ROWS_AT_ONCE = 1000
SUFFIXES = {".extxyz": "xyz", ".xyz": "xyz", ".db": "ase", ".parquet": "parquet"}
NAMED = 10  # of the crystals left out, in the printed report

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass(slots=True)
class ImportReport:
    """What became of the crystals of a source.

    Attributes:
        out: The new library.
        written: Entries in the new library.
        skipped: Name of each crystal that was left out → why.
    """

    out: Path
    written: int = 0
    skipped: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.written} crystals written to {self.out}, {len(self.skipped)} left out."]
        lines += [f"  {name}: {why}" for name, why in list(self.skipped.items())[:NAMED]]
        if len(self.skipped) > NAMED:
            lines.append(f"  and {len(self.skipped) - NAMED} more")
        return "\n".join(lines)


def import_structures(
    source: Path,
    out: Path,
    *,
    source_name: str,
    licence: str,
    progress: Progress = lambda done, total: None,
) -> ImportReport:
    """Write every ordered, three-dimensionally periodic crystal of `source` to the library `out`.

    What cannot be read is reported and the rest goes on. `out` is written whole or not at all.

    Raises:
        MissingError: There is no `source`.
        InputError: It is of no known kind or holds no crystal.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    total, entries = _open(source)
    report = ImportReport(out)
    names: Counter[str] = Counter()
    with replacing(out) as part:
        with pq.ParquetWriter(part, library_schema(), compression="zstd") as writer:
            waiting: list[Entry] = []
            for done, entry in enumerate(entries, 1):
                if isinstance(entry.crystal, InputError):
                    report.skipped[entry.name] = str(entry.crystal)
                else:
                    names[entry.name] += 1
                    again = f"-{names[entry.name]}" if names[entry.name] > 1 else ""
                    waiting.append(
                        entry._replace(
                            name=entry.name + again,
                            source=entry.source or source_name,
                            licence=entry.licence or licence,
                        )
                    )
                if len(waiting) == ROWS_AT_ONCE or done == total:
                    found = library_rows(waiting)
                    report.skipped |= found.skipped
                    writer.write_table(pa.Table.from_pylist(found.rows, schema=library_schema()))
                    report.written += len(found.rows)
                    waiting = []
                progress(done, total)
        if not report.written:
            why = next(iter(report.skipped.values()), "it is empty")
            raise InputError(f"No crystal in {source} can be imported: {why}")
    return report


# -- sources ----------------------------------------------------------------------------------------


def _open(source: Path) -> tuple[int, Iterator[Entry]]:
    """How many crystals a source holds, and they."""
    if not source.exists():
        raise MissingError(f"There is nothing at {source} to import.")
    if source.is_dir():
        files = sorted(source.rglob("*.cif"))
        if not files:
            raise InputError(f"There are no CIF files in {source}.")
        return len(files), (_from_cif(path, source) for path in files)
    match SUFFIXES.get(source.suffix.lower()):
        case "xyz":
            frames = _frames(source)
            return len(frames), (
                _from_frame(f"{source.stem}-{i}", frame) for i, frame in enumerate(frames, 1)
            )
        case "ase":
            return _ase_database(source)
        case "parquet":
            return _parquet(source)
        case _:
            raise InputError(
                f"{source} is no library source; give a folder of CIFs, an .extxyz, .db or .parquet file."
            )


def _from_atoms(atoms: Atoms) -> Crystals | InputError:
    if not atoms.pbc.all():
        return InputError("it is not periodic in three directions.")
    if abs(atoms.cell.volume) < 1e-3:
        return InputError("its cell has no volume.")
    return checked(Crystals.from_atoms([atoms]))


def _from_cif(path: Path, folder: Path) -> Entry:
    name = path.relative_to(folder).with_suffix("").as_posix()
    try:
        return Entry(name, checked(read_cif(path)))
    except InputError as error:
        return Entry(name, error)


def _frames(path: Path) -> list[str]:
    """The frames of an extended XYZ file: a line with the number of atoms, a comment and the atoms.

    Split here so that one broken frame does not take the rest with it.
    """
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    frames, start = [], 0
    while start < len(lines):
        if not lines[start].strip():
            start += 1
            continue
        if not lines[start].strip().isdigit():
            raise InputError(f"{path} is no XYZ file: line {start + 1} is not a number of atoms.")
        end = start + 2 + int(lines[start])
        frames.append("".join(lines[start:end]))
        start = end
    if not frames:
        raise InputError(f"{path} is empty.")
    return frames


def _from_frame(name: str, frame: str) -> Entry:
    from ase.io import read

    try:
        atoms = read(io.StringIO(frame), format="extxyz")
    except Exception as error:  # ASE's reader raises whatever it meets in a broken frame
        return Entry(name, InputError(f"it cannot be read ({error})."))
    return Entry(name, _from_atoms(atoms))


def _ase_database(path: Path) -> tuple[int, Iterator[Entry]]:
    from ase.db import connect

    try:
        database = connect(path, type="db")
        total = database.count()
    except Exception as error:  # SQLite's and ASE's own, by the kind of damage
        raise InputError(f"{path} is damaged or no ASE database.") from error

    def entries() -> Iterator[Entry]:
        for row in database.select():
            yield Entry(f"{path.stem}-{row.id}", _from_atoms(row.toatoms()))

    return total, entries()


def _parquet(path: Path) -> tuple[int, Iterator[Entry]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is damaged or no Parquet file.") from error
    needed = ("material_id", "cell", "numbers", "frac_coords")
    missing = [name for name in needed if name not in file.schema_arrow.names]
    if missing:
        raise InputError(f"{path} holds no structures: it has no column {', '.join(missing)}.")

    def entries() -> Iterator[Entry]:
        batches = file.iter_batches(ROWS_AT_ONCE)
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise InputError(f"{path} is damaged: some of its rows cannot be read.") from error
            if batch is None:
                return
            for row in batch.to_pylist():
                yield Entry(
                    str(row["material_id"]),
                    _from_row(row),
                    row.get("spacegroup") or 0,
                    row.get("source") or "",
                    row.get("licence") or "",
                    {name: row[name] for name in ABOUT if row.get(name) is not None},
                )

    return file.metadata.num_rows, entries()


def _from_row(row: dict[str, Any]) -> Crystals | InputError:
    try:
        numbers = np.array(row["numbers"], dtype=np.int64)
        cell = np.array(row["cell"], dtype=np.float64).reshape(3, 3)
        frac = np.array(row["frac_coords"], dtype=np.float64).reshape(len(numbers), 3)
    except (TypeError, ValueError):
        return InputError("its cell, numbers or frac_coords are missing or of the wrong length.")
    return checked(Crystals.from_arrays([cell], [frac], [numbers]))
