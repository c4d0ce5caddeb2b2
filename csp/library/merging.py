"""Several sources in one library file: the same entry once, the same crystal marked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from csp.errors import InputError
from csp.files import replacing
from csp.library.library import Library
from csp.library.schema import library_schema
from csp.matching.matcher import Matcher

if TYPE_CHECKING:
    import pyarrow.parquet as pq

__all__ = ["copy_rows", "mark_duplicates"]

ROWS_AT_ONCE = 5000


def copy_rows(path: Path, writer: pq.ParquetWriter, without: Set[str]) -> None:
    """Write the rows of a library but those of some ids, columns that it lacks being unknown.

    Raises:
        InputError: The file is no library.
    """
    for batch in _batches(path):
        kept = np.array([name not in without for name in batch["material_id"].to_pylist()])
        writer.write_table(batch.filter(kept))


def mark_duplicates(path: Path) -> int:
    """Fill `duplicate_of` of a library file with several sources; how many are duplicates.

    A crystal is a duplicate if StructureMatcher takes it for one of another source that is above it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    library = Library.open(path)
    first = _duplicates(library)
    start = 0
    with replacing(path) as part, pq.ParquetWriter(part, library_schema(), compression="zstd") as writer:
        for batch in _batches(path):
            marks = [first.get(start + k) for k in range(len(batch))]
            names = [None if row is None else str(library.material_id[row]) for row in marks]
            place = batch.schema.get_field_index("duplicate_of")
            writer.write_table(batch.set_column(place, "duplicate_of", pa.array(names, pa.string())))
            start += len(batch)
    return len(first)


def _duplicates(library: Library) -> dict[int, int]:
    """Row → the row above it, of another source, that is the same crystal."""
    source = library.origin[0].astype(str)
    found: dict[int, int] = {}
    for rows in _same_composition(library):
        if len(set(source[rows])) == 1:
            continue
        crystals = library.crystals(rows)
        for k in range(len(rows)):
            if int(rows[k]) in found:
                continue
            later = [
                j
                for j in range(k + 1, len(rows))
                if source[rows[j]] != source[rows[k]]
                and int(rows[j]) not in found
                and library.space_group[rows[j]] == library.space_group[rows[k]]
            ]
            if later:
                same = Matcher.DEFAULT.fits(crystals[k], crystals[later]).tolist()
                found |= {int(rows[j]): int(rows[k]) for j, fits in zip(later, same, strict=True) if fits}
    return found


def _same_composition(library: Library) -> list[np.ndarray]:
    rows = library.all_rows()
    numbers, counts = library.compositions(rows)
    members: dict[bytes, list[int]] = defaultdict(list)
    for row, key in zip(rows.tolist(), np.hstack([numbers, counts]), strict=True):
        members[key.tobytes()].append(row)
    return [np.array(group) for group in members.values() if len(group) > 1]


def _batches(path: Path) -> Any:
    """Tables of some rows each, with all columns of the schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = library_schema()
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE):
                table = pa.Table.from_batches([batch])
                for field in schema:
                    if field.name not in table.schema.names:
                        table = table.append_column(field, pa.nulls(len(table), field.type))
                yield table.select(schema.names).cast(schema)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{path} is damaged or no library.") from error
