"""What phonons say of ranked crystals: stability in words, free energies, the order with warmth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from csp.lattice_dynamics.phonons import Phonons

__all__ = ["ROOM", "WARM", "evidence"]

ROOM, WARM = 300.0, 1000.0  # K


def evidence(phonons: Sequence[Phonons | None], per_atom: Sequence[float]) -> list[dict[str, Any]]:
    """Of each crystal the fields of a ranked result that phonons fill in.

    The free energy is the energy, or enthalpy, and that of harmonic oscillators at the volume that the
    crystal has at 0 K. Only crystals whose phonons are known and real are in the orders.

    Args:
        phonons: None of a crystal where they are not known; empty where they were not asked for.
        per_atom: eV/atom, energy or enthalpy.
    """
    if not phonons:
        return [{} for _ in per_atom]
    rooms, warms = (_free_energies(phonons, per_atom, kelvin) for kelvin in (ROOM, WARM))
    return [
        {}
        if one is None
        else {
            "dynamic_stability": str(one.stability),
            "lowest_frequency_thz": one.lowest,
            "zero_point_ev_per_atom": one.free_energy_at(0.0),
            "free_energy_300k_ev_per_atom": rooms[k],
            "free_energy_1000k_ev_per_atom": warms[k],
            "rank_300k": _rank(rooms, k),
            "rank_1000k": _rank(warms, k),
        }
        for k, one in enumerate(phonons)
    ]


def _free_energies(
    phonons: Sequence[Phonons | None], per_atom: Sequence[float], kelvin: float
) -> list[float | None]:
    """eV/atom."""
    found = []
    for one, energy in zip(phonons, per_atom, strict=True):
        vibrations = None if one is None else one.free_energy_at(kelvin)
        found.append(None if vibrations is None else energy + vibrations)
    return found


def _rank(values: Sequence[float | None], k: int) -> int | None:
    """From 1, the lowest first."""
    own = values[k]
    return None if own is None else 1 + sum(other < own for other in values if other is not None)
