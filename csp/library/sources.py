"""Where crystals of one's own come from: CIFs, extended XYZ, ASE databases and Parquet tables.

A source is read in units, a file or a row, of which each gives its crystals or the reasons why not: a damaged
one takes nothing else with it.
"""

from __future__ import annotations

import io
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from csp.cif_file import is_cif, name_of
from csp.crystallography.gaps import FACES, widest_gap
from csp.crystallography.neighbours import OVERLAPPING, distance_ratio
from csp.crystals import Crystals
from csp.errors import CrystalError, InputError, MissingError
from csp.files import read_text
from csp.library.cif import read_cifs
from csp.library.rows import Entry, checked
from csp.library.schema import ABOUT, ORIGIN, library_schema

if TYPE_CHECKING:
    import pyarrow as pa
    from ase import Atoms

__all__ = ["Source", "open_source"]

ROWS_AT_ONCE = 1000
VACUUM = 10.0  # Å, thicker than any layer between the atoms of a crystal: a slab, a sheet or a molecule


@dataclass(frozen=True, slots=True)
class Source:
    """What is imported.

    Attributes:
        units: How many there are.
        entries: The entries of each.
        other_files: Files of a folder that are of no known kind and not read.
    """

    units: int
    entries: Iterator[list[Entry]]
    other_files: int = 0


def open_source(path: Path) -> Source:
    """A source by its kind.

    Raises:
        MissingError: There is nothing.
        InputError: It is of no known kind, or damaged as a whole.
    """
    if not path.exists():
        raise MissingError(f"There is nothing at {path} to import.")
    if path.is_dir():
        return _folder(path)
    if is_cif(path):
        return Source(1, iter([_of_cif(path, path.parent)]))
    match path.suffix.lower():
        case ".extxyz" | ".xyz":
            return _frames(path)
        case ".db":
            return _database(path)
        case ".parquet":
            return _table(path)
        case _:
            raise InputError(
                f"{path} is no library source; give CIFs, a folder of them, an .extxyz, .db or .parquet file."
            )


def _sound(crystal: Crystals) -> Crystals | InputError:
    """The crystal, or what is wrong with it as one of a library."""
    good = checked(crystal)
    if isinstance(good, InputError):
        return good
    if float(distance_ratio(good, OVERLAPPING)[0]) < OVERLAPPING:
        return InputError("its atoms overlap.")
    if widest_gap(good, FACES) > VACUUM:
        return InputError(f"it has an empty layer of more than {VACUUM:g} Å.")
    return good


# -- CIFs ---------------------------------------------------------------------------------------------


def _folder(path: Path) -> Source:
    files = sorted(file for file in path.rglob("*") if file.is_file())
    cifs = [file for file in files if is_cif(file)]
    if not cifs:
        raise InputError(f"There are no CIF files in {path}.")
    return Source(len(cifs), (_of_cif(file, path) for file in cifs), len(files) - len(cifs))


def _of_cif(file: Path, folder: Path) -> list[Entry]:
    """The crystals of a file, named by it, and by their blocks where there are several."""
    try:
        found = read_cifs(file)
    except InputError as error:
        found = {"": CrystalError("unreadable file", str(error).rstrip("."))}
    place = file.relative_to(folder).parent
    alone = (place / (next(iter(found)) or file.name)).as_posix()
    names = [alone] if len(found) == 1 else [(place / name_of(file) / block).as_posix() for block in found]
    return [
        Entry(name, _sound(one) if isinstance(one, Crystals) else one)
        for name, one in zip(names, found.values(), strict=True)
    ]


# -- ASE's formats ------------------------------------------------------------------------------------


def _frames(path: Path) -> Source:
    """Frames of extended XYZ: a line with the number of atoms, a comment and the atoms.

    Split here so that one broken frame does not take the rest with it.
    """
    lines = io.StringIO(read_text(path)).readlines()
    frames: list[str | CrystalError] = []
    start = 0
    while start < len(lines):
        head = lines[start].strip()
        if not head:
            start += 1
            continue
        if not re.fullmatch(r"[0-9]{1,20}", head):
            if not frames:
                raise InputError(f"{path} is no XYZ file: line {start + 1} is not a number of atoms.")
            what = f"line {start + 1} is not a number of atoms, so what follows is not read"
            frames.append(CrystalError("damaged frame", what))
            break
        end = start + 2 + int(head)
        if end > len(lines):  # ASE would look for them, however many there are to be
            what = f"it ends before all {head} atoms that line {start + 1} announces are listed"
            frames.append(CrystalError("damaged frame", what))
            break
        frames.append("".join(lines[start:end]))
        start = end
    if not frames:
        raise InputError(f"{path} is empty.")
    return Source(len(frames), ([_of_frame(f"{path.stem}-{i}", frame)] for i, frame in enumerate(frames, 1)))


def _of_frame(name: str, frame: str | CrystalError) -> Entry:
    from ase.io import read

    if isinstance(frame, CrystalError):
        return Entry(name, frame)
    try:
        return Entry(name, _of_atoms(read(io.StringIO(frame), format="extxyz")))
    except Exception as error:  # ASE's reader raises whatever it meets in a broken frame
        return Entry(name, CrystalError("damaged frame", f"it cannot be read ({_line(error)})"))


def _database(path: Path) -> Source:
    from ase.db import connect

    try:
        database = connect(path, type="db")
        with sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True) as connection:
            ids = [int(row[0]) for row in connection.execute("SELECT id FROM systems ORDER BY id")]
    except Exception as error:  # SQLite's and ASE's own, by the kind of damage
        raise InputError(f"{path} is damaged or no ASE database.") from error

    def of_row(id_: int) -> Entry:
        name = f"{path.stem}-{id_}"
        try:
            return Entry(name, _of_atoms(database.get(id=id_).toatoms()))
        except Exception as error:  # the same
            return Entry(name, CrystalError("damaged row", f"it cannot be read ({_line(error)})"))

    return Source(len(ids), ([of_row(id_)] for id_ in ids))


def _of_atoms(atoms: Atoms) -> Crystals | InputError:
    if not atoms.pbc.all():
        return InputError("it is not periodic in three directions.")
    if not abs(atoms.cell.volume) > 1e-3:
        return InputError("its cell has no volume.")
    return _sound(Crystals.from_atoms([atoms]))


def _line(error: Exception) -> str:
    """What an error of another package says, in one line."""
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__


# -- tables -------------------------------------------------------------------------------------------


def _table(path: Path) -> Source:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, memory_map=True)
        names = file.schema_arrow.names
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path} is damaged or no Parquet file.") from error
    missing = [name for name in ("material_id", "cell", "numbers", "frac_coords") if name not in names]
    if missing:
        raise InputError(f"{path} holds no structures: it has no column {', '.join(missing)}.")

    def rows() -> Iterator[list[Entry]]:
        done = 0
        batches = file.iter_batches(ROWS_AT_ONCE)
        while True:
            try:
                batch = next(batches, None)
                listed = [] if batch is None else batch.to_pylist()
            except (pa.ArrowException, OSError, ValueError) as error:
                raise InputError(f"{path} is damaged: some of its rows cannot be read.") from error
            if batch is None:
                return
            for row in listed:
                done += 1
                yield [_of_row(f"{path.stem}-{done}", row)]

    return Source(file.metadata.num_rows, rows())


def _of_row(name: str, row: dict[str, Any]) -> Entry:
    own, schema = row["material_id"], library_schema()
    name = str(own) if isinstance(own, (str, int)) else name
    group = row.get("spacegroup")
    crystal = _crystal_of_row(row)
    about = {key: row[key] for key in (*ORIGIN, *ABOUT) if row.get(key) is not None}
    for key, value in about.items():
        if not _is_of(value, schema.field(key).type):
            crystal = CrystalError("wrong values", f"its {key} is not of the type {schema.field(key).type}")
            about = {}
            break
    return Entry(
        name,
        crystal,
        group if isinstance(group, int) and 1 <= group <= 230 else 0,
        about.pop("source", ""),
        about.pop("licence", ""),
        about,
    )


def _is_of(value: Any, kind: pa.DataType) -> bool:
    import pyarrow as pa

    try:
        pa.scalar(value, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True


def _crystal_of_row(row: dict[str, Any]) -> Crystals | InputError:
    try:
        numbers = np.array(row["numbers"], dtype=np.int64)
        cell = np.array(row["cell"], dtype=np.float64).reshape(3, 3)
        frac = np.array(row["frac_coords"], dtype=np.float64).reshape(len(numbers), 3)
    except (TypeError, ValueError, OverflowError):
        return InputError("its cell, numbers or frac_coords are missing or of the wrong length.")
    if list(numbers) != list(row["numbers"]):
        return InputError("its numbers are not whole.")
    crystal = Crystals.from_arrays([cell], [frac], [numbers])
    return checked(crystal) if row.get("stand_in") else _sound(crystal)  # a prototype's atoms have no size
