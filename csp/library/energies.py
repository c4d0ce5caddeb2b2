"""The table of formation energies that goes with a library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from csp.errors import InputError, MissingError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["read_energies", "read_stable"]


def read_energies(path: Path, split: str | None = None) -> dict[str, float]:
    """Formation energies, eV/atom, by id, of a Parquet table (material_id, formation_energy, split), of those
    crystals that have one there.

    Args:
        split: Only its energies: train, val or test; None: all, of a table without splits too.

    Raises:
        MissingError: There is no such file.
        InputError: It is no Parquet table, or it lacks one of these columns.
    """
    import pyarrow.compute as pc

    columns = ["material_id", "formation_energy", *(["split"] if split is not None else [])]
    table = _read(path, columns)
    table = table.filter(pc.is_valid(table["formation_energy"]))
    if split is not None:
        table = table.filter(pc.equal(table["split"], split))
    return dict(zip(table["material_id"].to_pylist(), table["formation_energy"].to_pylist(), strict=True))


def read_stable(path: Path, within: float) -> set[str]:
    """Ids of the crystals that are at most `within` eV/atom above the convex hull, of a Parquet table
    (material_id, e_above_hull, e_above_hull_unique); those whose distance is not unique are left out.

    Raises:
        MissingError: There is no such file.
        InputError: It is no Parquet table, or it lacks one of these columns.
    """
    import pyarrow.compute as pc

    table = _read(path, ["material_id", "e_above_hull", "e_above_hull_unique"])
    low = pc.and_(pc.less_equal(table["e_above_hull"], within), table["e_above_hull_unique"])
    return set(table.filter(low)["material_id"].to_pylist())


def _read(path: Path, columns: list[str]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise MissingError(f"There is no table of formation energies at {path}.")
    try:
        missing = [name for name in columns if name not in pq.read_schema(path).names]
        if missing:
            raise InputError(f"{path} is no table of formation energies: no column {', '.join(missing)}.")
        return pq.read_table(path, columns=columns)
    except pa.ArrowException as error:
        raise InputError(f"{path} is damaged or no Parquet file.") from error
