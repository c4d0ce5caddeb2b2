"""The properties that our models know, their units, and where the published values of each lie."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["IDENTITY", "LOG10", "PROPERTIES", "Property", "backward", "forward"]

IDENTITY, LOG10 = "identity", "log10"


@dataclass(frozen=True, slots=True)
class Property:
    """One property, intensive.

    Attributes:
        title: For people.
        column: Of the tables `mp_properties.parquet` and `mp_stability.parquet`.
        scale: What is learned: the value ("identity") or its decimal logarithm ("log10").
        logged: The table has the logarithm already.
        energetic: The surrogate has learned it too, so that only compositions it has not seen can test.
        non_negative: No value lies below zero.
    """

    name: str
    title: str
    unit: str
    column: str
    scale: str
    logged: bool = False
    energetic: bool = False
    non_negative: bool = False


PROPERTIES = {
    one.name: one
    for one in (
        Property("bulk_modulus", "bulk modulus (VRH)", "GPa", "log10_k_vrh", LOG10, logged=True),
        Property("shear_modulus", "shear modulus (VRH)", "GPa", "log10_g_vrh", LOG10, logged=True),
        Property("band_gap", "band gap (PBE)", "eV", "band_gap_pbe", IDENTITY, non_negative=True),
        Property("highest_phonon", "highest phonon frequency", "1/cm", "last_phdos_peak", LOG10),
        Property("refractive_index", "refractive index", "1", "refractive_index", LOG10),
        Property(
            "formation_energy", "formation energy", "eV/atom", "formation_energy", IDENTITY, energetic=True
        ),
        Property(
            "hull_distance",
            "distance to the convex hull",
            "eV/atom",
            "e_above_hull",
            IDENTITY,
            energetic=True,
            non_negative=True,
        ),
    )
}


def forward(value: Tensor, scale: str) -> Tensor:
    """What is learned of a value."""
    return torch.log10(value) if scale == LOG10 else value


def backward(y: Tensor, sigma: Tensor, scale: str) -> tuple[Tensor, Tensor]:
    """The value and its σ, of the first order, from what was learned."""
    if scale != LOG10:
        return y, sigma
    value = 10.0**y
    return value, math.log(10.0) * value * sigma
