"""The columns of a library file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ABOUT", "ORIGIN", "REQUIRED", "library_schema"]

REQUIRED = ("material_id", "spacegroup", "cell", "numbers", "frac_coords")
ORIGIN = ("source", "licence")  # columns that a library may have beside them
ABOUT = (
    "e_above_hull",
    "formation_energy",
    "experimental",
    "name",
    "stand_in",
    "modified",
    "retrieved",
    "duplicate_of",
)
"""Further ones, of which each value may be unknown."""


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

    What follows may be unknown, of all entries or of some:

    - `e_above_hull`: eV/atom above the source's own convex hull
    - `formation_energy`: eV/atom, by the source's own functional and corrections
    - `experimental`: was the crystal made? False: only computed
    - `name`: common name, such as "Wurtzite (ZnS, B4)"
    - `stand_in`: the elements stand for others (molecules, mixed sites): it is no entry of a composition
    - `modified`: day of the source's last change, as 2026-01-31
    - `retrieved`: day on which it was asked from the source
    - `duplicate_of`: the entry of another source, above in the same file, that is the same crystal
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
            ("e_above_hull", pa.float32()),
            ("formation_energy", pa.float32()),
            ("experimental", pa.bool_()),
            ("name", pa.string()),
            ("stand_in", pa.bool_()),
            ("modified", pa.string()),
            ("retrieved", pa.string()),
            ("duplicate_of", pa.string()),
        ]
    )
