"""The powder pattern of a crystal, apart from the wavelength that it is taken with."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymatgen.core import Structure

__all__ = ["WAVELENGTHS", "Reflection", "lorentz_polarization", "powder_pattern"]

WAVELENGTHS = {
    "Cu Kα": 1.54184,
    "Cu Kα1": 1.54056,
    "Mo Kα": 0.71073,
    "Co Kα": 1.79026,
    "Fe Kα": 1.93735,
    "Cr Kα": 2.29100,
    "Ag Kα": 0.560885,
}
"""Å, of the usual X-ray tubes, as pymatgen has them."""

SHORTEST = 1.0  # Å, spacing of lattice planes: 2θ up to 100° with Cu Kα
FAINTEST = 1e-3  # of the strongest reflection
CALCULATED = 0.5  # Å; a wavelength at which all of these spacings reflect


@dataclass(frozen=True, slots=True)
class Reflection:
    """One or more families of lattice planes of equal spacing.

    Attributes:
        spacing: d, Å.
        strength: Σ |F|² over all planes of that spacing; times the Lorentz and polarisation factors of an
            angle it is the intensity. The strongest intensity with Cu Kα is 100 in its units.
        planes: Miller indices, "111" or "-110", the families joined by commas.
    """

    spacing: float
    strength: float
    planes: str


def powder_pattern(structure: Structure) -> list[Reflection]:
    """Reflections by descending spacing, from pymatgen's `XRDCalculator`: X-rays, atoms at rest, no
    absorption.

    Structure factors depend on the spacing alone (anomalous scattering is left out), so that one calculation
    serves all wavelengths.

    Args:
        structure: In the cell whose indices are wanted.
    """
    from pymatgen.analysis.diffraction.xrd import XRDCalculator

    farthest = math.degrees(2 * math.asin(CALCULATED / (2 * SHORTEST)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            pattern = XRDCalculator(CALCULATED).get_pattern(
                structure, scaled=False, two_theta_range=(0, farthest)
            )
        except ValueError:  # an element without scattering factors, or no reflection at all
            return []
    found = []
    for angle, intensity, families, spacing in zip(
        pattern.x, pattern.y, pattern.hkls, pattern.d_hkls, strict=True
    ):
        strength = float(intensity) / lorentz_polarization(math.radians(float(angle)) / 2)
        found.append((float(spacing), strength, ", ".join(_printed(family["hkl"]) for family in families)))
    strongest = max((strength * _factor(spacing) for spacing, strength, _ in found), default=0.0)
    if strongest <= 0:
        return []
    return [
        Reflection(spacing, 100 * strength / strongest, planes)
        for spacing, strength, planes in sorted(found, reverse=True)
        if strength * _factor(spacing) >= FAINTEST * strongest
    ]


def lorentz_polarization(theta: float) -> float:
    """(1 + cos² 2θ) / (sin² θ cos θ), of a powder and an unpolarised beam without a monochromator."""
    return (1 + math.cos(2 * theta) ** 2) / (math.sin(theta) ** 2 * math.cos(theta))


def _factor(spacing: float) -> float:
    """Of Cu Kα."""
    return lorentz_polarization(math.asin(WAVELENGTHS["Cu Kα"] / (2 * spacing)))


def _printed(indices: tuple[int, ...]) -> str:
    """Miller indices without the third of four; apart where one has two digits."""
    three = (*indices[:2], indices[-1])
    return (" " if any(abs(index) > 9 for index in three) else "").join(map(str, three))
