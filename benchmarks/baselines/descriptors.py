"""Descriptors of compositions from tabulated properties of their elements.

The recipe of XenonPy, which CSPML and ShotgunCSP use: five statistics over the elements of a composition,
weighted by amounts, of each property (there 58 × 5 = 290). The properties here are pymatgen's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cache

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from generators.templates.pettifor import pettifor_scale

__all__ = ["MAX_NUMBER", "descriptors", "element_properties"]

MAX_NUMBER = 99  # heavier elements are taken as this one, for want of data
TABULATED = (
    "Atomic mass",
    "Atomic no",
    "Atomic radius",
    "Atomic radius calculated",
    "Boiling point",
    "Brinell hardness",
    "Bulk modulus",
    "Coefficient of linear thermal expansion",
    "Density of solid",
    "Electrical resistivity",
    "Electron affinity",
    "IUPAC ordering",
    "Liquid range",
    "Melting point",
    "Mendeleev no",
    "Metallic radius",
    "Mineral hardness",
    "Molar volume",
    "Poissons ratio",
    "Rigidity modulus",
    "Thermal conductivity",
    "Van der waals radius",
    "Velocity of sound",
    "X",
    "Youngs modulus",
)  # known for half of the elements at least
CAPACITY = {"s": 2, "p": 6, "d": 10, "f": 14}


def descriptors(numbers: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """[N, 5 × properties] of the compositions: atomic numbers and amounts [N, k], amount 0 pads.

    Mean, sum over a formula unit, variance, largest and smallest of each property.
    """
    table = element_properties()[np.minimum(numbers, MAX_NUMBER)]  # [N, k, F]
    share = (counts / counts.sum(axis=1, keepdims=True))[:, :, None]
    there = counts[:, :, None] > 0
    mean = (share * table).sum(axis=1)
    return np.hstack(
        [
            mean,
            (counts[:, :, None] * table).sum(axis=1),
            (share * (table - mean[:, None]) ** 2).sum(axis=1),
            np.where(there, table, -np.inf).max(axis=1),
            np.where(there, table, np.inf).min(axis=1),
        ]
    )


@cache
def element_properties() -> NDArray[np.float64]:
    """[100, F]: properties by atomic number, scaled to mean 0 and standard deviation 1; row 0 is zero.

    What is not tabulated is interpolated between the neighbours on the modified Pettifor scale.
    """
    from pymatgen.core import Element

    rows = [list(_properties(Element.from_Z(z))) for z in range(1, MAX_NUMBER + 1)]
    table = np.array(rows, np.float64)
    place = pettifor_scale()[1 : MAX_NUMBER + 1]
    order = np.argsort(place)
    for column in table.T:
        known = order[np.isfinite(column[order])]
        column[:] = np.interp(place, place[known], column[known])
    table = (table - table.mean(axis=0)) / table.std(axis=0)
    return np.vstack([np.zeros(table.shape[1]), table])


def _properties(element: object) -> Iterator[float]:
    """Of a pymatgen Element; NaN where nothing is known."""
    data = element.data  # type: ignore[attr-defined]
    for name in TABULATED:
        value = data.get(name)
        yield float(value) if isinstance(value, int | float) else math.nan
    yield from (data["Ionization energies"] + [math.nan] * 3)[:3]
    for name in ("Oxidation states", "Common oxidation states"):
        states = data.get(name) or [math.nan]
        yield from (max(states), min(states))
    yield float(covalent_radii[data["Atomic no"]])
    yield float(element.row)  # type: ignore[attr-defined]
    yield float(element.group)  # type: ignore[attr-defined]
    yield from _valence(data["Electronic structure"]["0"])
    for subshell in "spd":
        energies = [e for name, e in data.get("Atomic orbitals", {}).items() if name[1] == subshell]
        yield max(energies, default=math.nan)
    yield float(pettifor_scale()[data["Atomic no"]])


def _valence(structure: str) -> Iterator[float]:
    """Electrons, and places left, in the open s, p, d and f subshells of "[Ar].3d6.4s2"; then their sums."""
    outer = {kind: int(n) for kind, n in re.findall(r"\d([spdf])(\d+)", structure.split("]")[-1])}
    left = {kind: CAPACITY[kind] - n for kind, n in outer.items()}
    for electrons in (outer, left):
        yield from (float(electrons.get(kind, 0)) for kind in CAPACITY)
        yield float(sum(electrons.values()))
