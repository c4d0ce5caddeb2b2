"""The table of formation energies that goes with a library."""

from __future__ import annotations

from pathlib import Path

__all__ = ["read_energies"]


def read_energies(path: Path) -> dict[str, float]:
    """Formation energies, eV/atom, by id, of a Parquet table (material_id, formation_energy)."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["material_id", "formation_energy"])
    return dict(zip(table["material_id"].to_pylist(), table["formation_energy"].to_pylist(), strict=True))
