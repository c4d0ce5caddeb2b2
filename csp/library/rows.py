"""Rows of a library file, from crystals that are checked one by one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from csp.crystallography.symmetry import space_groups
from csp.crystals import Crystals
from csp.errors import InputError
from csp.formula import in_order

__all__ = ["SYMPREC", "Entry", "LibraryRows", "checked", "library_rows", "reduced_formula"]

SYMPREC = 0.05  # Å, of the space groups found for entries that bring none


class Entry(NamedTuple):
    """One crystal of a source, or why it could not be read; what it does not bring is empty.

    Attributes:
        name: Unique.
        crystal: It, or the reason.
        space_group: Its number, 0 if not known.
        source, licence: Where it is from.
        about: Further columns of `csp.library.schema.library_schema`.
    """

    name: str
    crystal: Crystals | InputError
    space_group: int = 0
    source: str = ""
    licence: str = ""
    about: Mapping[str, Any] = {}


@dataclass(slots=True)
class LibraryRows:
    """Rows, and by name why other entries have none."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    skipped: dict[str, InputError] = field(default_factory=dict)


def checked(crystal: Crystals) -> Crystals | InputError:
    """The crystal in a right-handed cell, or what is wrong with it."""
    volume = float(crystal.volumes[0])
    if crystal.frac.shape[0] == 0:
        return InputError("it has no atoms.")
    if not (crystal.frac.isfinite().all() and math.isfinite(volume)) or volume < 1e-3:
        return InputError("its cell has no volume or its coordinates are no numbers.")
    if crystal.numbers.min() < 1 or crystal.numbers.max() > 118:
        return InputError("it has atoms of no known element.")
    if float(torch.linalg.det(crystal.cell[0])) < 0:
        return crystal.with_geometry(-crystal.cell, -crystal.frac).wrapped()
    return crystal


def reduced_formula(numbers: Sequence[int]) -> str:
    """Elements by electronegativity, amounts coprime, of the atomic numbers in a cell."""
    from ase.data import chemical_symbols

    amounts = Counter(numbers)
    divisor = math.gcd(*amounts.values())
    return in_order({chemical_symbols[z]: n // divisor for z, n in amounts.items()})


def library_rows(entries: Sequence[Entry]) -> LibraryRows:
    """Rows of the entries that are crystals; those whose symmetry cannot be analysed have none."""
    found = LibraryRows()
    good: list[Entry] = []
    for entry in entries:
        if isinstance(entry.crystal, Crystals):
            good.append(entry)
        else:
            found.skipped[entry.name] = entry.crystal
    crystals = Crystals.cat([e.crystal for e in good if isinstance(e.crystal, Crystals)])
    unknown = [i for i, e in enumerate(good) if not e.space_group]
    groups = dict(zip(unknown, space_groups(crystals[unknown], SYMPREC), strict=True))
    for i, (entry, (cell, frac, numbers)) in enumerate(zip(good, crystals.arrays(), strict=True)):
        group = entry.space_group or groups[i]
        if not group:
            found.skipped[entry.name] = InputError("its symmetry cannot be analysed; atoms may overlap.")
            continue
        found.rows.append(
            {
                "material_id": entry.name,
                "formula": reduced_formula(numbers.tolist()),
                "spacegroup": group,
                "cell": cell.ravel().tolist(),
                "numbers": numbers.tolist(),
                "frac_coords": frac.ravel().tolist(),
                "source": entry.source,
                "licence": entry.licence,
                **entry.about,
            }
        )
    return found
