"""The table of formation energies that goes with a library."""

from __future__ import annotations

from pathlib import Path

from csp.library.tables import read_table

__all__ = ["read_distances", "read_energies", "read_stable"]

TABLE = "table of formation energies"


def read_energies(path: Path, split: str | None = None) -> dict[str, float]:
    """Formation energies, eV/atom, by id, of a Parquet table (material_id, formation_energy, split), of those
    crystals that have one there.

    Args:
        split: Only its energies: train, val or test; None: all, of a table without splits too.

    Raises:
        MissingError: There is no such file.
        InputError: It is no Parquet table, or it lacks one of these columns or has it of another type.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = {"material_id": pa.string(), "formation_energy": pa.float64()}
    table = read_table(path, columns | ({} if split is None else {"split": pa.string()}), TABLE)
    table = table.filter(pc.is_valid(table["formation_energy"]))
    if split is not None:
        table = table.filter(pc.equal(table["split"], split))
    return dict(zip(table["material_id"].to_pylist(), table["formation_energy"].to_pylist(), strict=True))


def read_distances(path: Path) -> dict[str, float]:
    """Distances from the convex hull, eV/atom, by id, of a table as `read_stable` reads it, where unique.

    Raises:
        MissingError: There is no such file.
        InputError: It is no Parquet table, or it lacks one of these columns.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = {"material_id": pa.string(), "e_above_hull": pa.float64(), "e_above_hull_unique": pa.bool_()}
    table = read_table(path, columns, TABLE)
    table = table.filter(pc.and_(pc.is_valid(table["e_above_hull"]), table["e_above_hull_unique"]))
    return dict(zip(table["material_id"].to_pylist(), table["e_above_hull"].to_pylist(), strict=True))


def read_stable(path: Path, within: float) -> set[str]:
    """Ids of the crystals that are at most `within` eV/atom above the convex hull, of a Parquet table
    (material_id, e_above_hull, e_above_hull_unique); those whose distance is not unique are left out.

    Raises:
        MissingError: There is no such file.
        InputError: It is no Parquet table, or it lacks one of these columns or has it of another type.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = {"material_id": pa.string(), "e_above_hull": pa.float64(), "e_above_hull_unique": pa.bool_()}
    table = read_table(path, columns, TABLE)
    low = pc.and_(pc.less_equal(table["e_above_hull"], within), table["e_above_hull_unique"])
    return set(table.filter(low)["material_id"].to_pylist())
