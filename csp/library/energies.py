"""The table of formation energies that goes with a library."""

from __future__ import annotations

from pathlib import Path

from csp.errors import InputError, MissingError

__all__ = ["read_energies"]


def read_energies(path: Path, split: str | None = None) -> dict[str, float]:
    """Formation energies, eV/atom, by id, of a Parquet table (material_id, formation_energy, split).

    Args:
        split: Only its energies: train, val or test; None: all, of a table without splits too.

    Raises:
        MissingError: There is no such file.
        InputError: It is no Parquet table, or it lacks one of these columns.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if not path.is_file():
        raise MissingError(f"There is no table of formation energies at {path}.")
    columns = ["material_id", "formation_energy", *(["split"] if split is not None else [])]
    try:
        missing = [name for name in columns if name not in pq.read_schema(path).names]
        if missing:
            raise InputError(f"{path} is no table of formation energies: no column {', '.join(missing)}.")
        table = pq.read_table(path, columns=columns)
    except pa.ArrowException as error:
        raise InputError(f"{path} is damaged or no Parquet file.") from error
    if split is not None:
        table = table.filter(pc.equal(table["split"], split))
    return dict(zip(table["material_id"].to_pylist(), table["formation_energy"].to_pylist(), strict=True))
