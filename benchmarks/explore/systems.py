"""Chemical systems to explore, drawn by a seed, and their known stable phases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from ase.data import chemical_symbols

from benchmarks.targets import held_out_rows
from csp.formula import electronegativity_key
from csp.library.library import Library
from csp.training.splits import hashed

__all__ = ["Drawn", "draw", "with_distances"]

ON_IT = 1e-6  # eV/atom above the published hull


@dataclass(frozen=True, slots=True)
class Drawn:
    """A system.

    Attributes:
        name: Such as Al-Ni.
        rows: In the library, of the stable crystals that hold all its elements.
    """

    name: str
    rows: tuple[int, ...]


def draw(library: Library, n_elements: int, count: int, max_atoms: int, seed: int) -> list[Drawn]:
    """Systems with a stable compound whose composition no training uses, in the order of a hash of name and
    seed. Of all stable phases with at most `max_atoms` in the primitive cell that hold all elements of a
    system each is to be found.

    Args:
        library: With distances from its source's hull.
    """
    rows = library.all_rows()
    rows = rows[library.distances(rows) <= ON_IT]  # not where it is not known
    numbers, _ = library.compositions(rows)
    rows = rows[(numbers > 0).sum(axis=1) == n_elements]
    rows = rows[library.n_atoms[rows] <= 8 * max_atoms]
    rows = rows[library.n_primitive(rows) <= max_atoms]
    held = {row for members in held_out_rows(library).values() for row in members}
    of_system: dict[str, list[int]] = {}
    numbers, _ = library.compositions(rows)
    for row, own in zip(rows.tolist(), numbers.tolist(), strict=True):
        symbols = sorted((chemical_symbols[z] for z in own if z), key=electronegativity_key)
        of_system.setdefault("-".join(symbols), []).append(row)
    names = sorted(
        (name for name, own in of_system.items() if held & {*own}), key=lambda n: hashed(f"{seed} {n}")
    )
    return [Drawn(name, tuple(of_system[name])) for name in names[:count]]


def with_distances(library: Library, distances: Mapping[str, float]) -> Library:
    """The library with the published distances of its crystals."""
    known = np.array([distances.get(str(name)) for name in library.material_id], dtype=object)
    return replace(library, about={**library.about, "e_above_hull": known})
