"""Parquet tables that people bring: the columns that are needed, of the types that are needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from csp.errors import InputError, MissingError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["read_table"]


def read_table(path: Path, columns: Mapping[str, pa.DataType], what: str) -> pa.Table:
    """These columns of a table.

    Args:
        columns: Name → type, to which the values are converted.
        what: The table is, "table of formation energies".

    Raises:
        MissingError: There is no such file.
        InputError: It is no Parquet table, lacks a column, or has one of another type.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise MissingError(f"There is no {what} at {path}.")
    try:
        there = pq.read_schema(path).names
        if missing := [name for name in columns if name not in there]:
            raise InputError(f"{path} is no {what}: no column {', '.join(missing)}.")
        table = pq.read_table(path, columns=list(columns), memory_map=True)
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path} is damaged or no Parquet file.") from error
    for name, kind in columns.items():
        try:
            table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
        except (pa.ArrowException, ValueError) as error:
            raise InputError(f"{path} is no {what}: its column {name} is not of the type {kind}.") from error
    return table
