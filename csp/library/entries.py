"""From an entry as OPTIMADE serves it to a crystal of the library, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from csp.crystals import Crystals
from csp.errors import InputError
from csp.library.providers import Provider
from csp.library.rows import Entry, checked

__all__ = ["read_entry"]


def read_entry(resource: Mapping[str, Any], provider: Provider, licence: str, retrieved: str) -> Entry:
    """The entry of a JSON:API resource of type "structures"; its crystal may be the reason that it has none.

    Args:
        retrieved: Today, as 2026-01-31.
    """
    attributes = resource.get("attributes")
    own = str(resource.get("id") or "")
    name = provider.entry_id("".join(own.split())) if own else ""
    if not isinstance(attributes, Mapping) or not own:
        return Entry(name or "an entry without id", InputError("it is no structure."))
    try:
        crystal = _crystal(attributes)
    except InputError as error:
        crystal = error
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError):
        crystal = InputError("its cell, sites or species are missing or not as OPTIMADE has them.")
    above, formation = provider.energies(attributes)
    return Entry(
        name,
        crystal,
        source=provider.title,
        licence=licence,
        about={
            "e_above_hull": above,
            "formation_energy": formation,
            "experimental": provider.experimental,
            "modified": str(attributes.get("last_modified") or "")[:10] or None,
            "retrieved": retrieved,
        },
    )


def _crystal(attributes: Mapping[str, Any]) -> Crystals | InputError:
    """Raises InputError for what is no ordered crystal, periodic in three directions, with all its atoms."""
    periodic = attributes.get("dimension_types")
    if periodic is not None and list(periodic) != [1, 1, 1]:
        raise InputError("it is not periodic in three directions.")
    said = set(attributes.get("structure_features") or ())
    for feature, what in (("disorder", "partial occupancies"), ("implicit_atoms", "atoms without places")):
        if feature in said:
            raise InputError(f"it has {what}.")
    cell, sites = attributes.get("lattice_vectors"), attributes.get("cartesian_site_positions")
    if not cell or not sites or any(x is None for row in cell for x in row):
        raise InputError("it has no cell or no sites.")
    matrix = np.array(cell, dtype=np.float64)
    positions = np.array(sites, dtype=np.float64)
    if matrix.shape != (3, 3) or positions.ndim != 2 or positions.shape[1] != 3:
        raise InputError("its cell or its sites are not of three coordinates.")
    if not (np.isfinite(matrix).all() and np.isfinite(positions).all()) or abs(np.linalg.det(matrix)) < 1e-3:
        raise InputError("its cell has no volume or its coordinates are no numbers.")
    kinds = {str(one["name"]): _atomic_number(one) for one in attributes.get("species") or ()}
    at_sites = [str(one) for one in attributes["species_at_sites"]]
    numbers = np.array([kinds[one] if kinds else _number_of(one) for one in at_sites], dtype=np.int64)
    if len(numbers) != len(positions):
        raise InputError("it has another number of species than of sites.")
    frac = positions @ np.linalg.inv(matrix)
    return checked(Crystals.from_arrays([matrix], [frac - np.floor(frac)], [numbers]))


def _atomic_number(species: Mapping[str, Any]) -> int:
    """Raises InputError for a species that is not one atom of one element."""
    symbols = list(species["chemical_symbols"])
    concentration = [float(x) for x in species.get("concentration") or [1.0]]
    if len(symbols) != 1 or abs(concentration[0] - 1.0) > 1e-3:
        raise InputError("it has partial occupancies.")
    if species.get("attached"):
        raise InputError("it has atoms without places.")
    return _number_of(symbols[0])


def _number_of(symbol: str) -> int:
    from ase.data import atomic_numbers

    number = atomic_numbers.get({"D": "H", "T": "H"}.get(symbol, symbol), 0)
    if not number:
        raise InputError("it has atoms of no known element.")
    return int(number)
