"""X-rays of powder diffraction: the lines of laboratory tubes, and wavelengths as people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from csp.errors import InputError

__all__ = ["TUBES", "Radiation"]

TUBES = {
    "Cr": (2.2897260, 2.2936510),
    "Fe": (1.9360410, 1.9399730),
    "Co": (1.7889960, 1.7928350),
    "Ni": (1.6579300, 1.6617560),
    "Cu": (1.5405929, 1.5444274),
    "Mo": (0.70931715, 0.7136070),
    "Ag": (0.55942178, 0.5638131),
}
"""Kα1 and Kα2 of the anodes, Å (International Tables for Crystallography C, table 4.2.2.4)."""

ALPHA2 = 0.5  # intensity of Kα2, of Kα1's
SHORTEST, LONGEST = 0.05, 3.0  # Å
NAMED = re.compile(r"([A-Z][a-z])[\s_-]*(?:K?[\s_-]*(?:a|alpha|α)?[\s_-]*([12])?)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Radiation:
    """The lines that a pattern was measured with, or is to be calculated for.

    Attributes:
        name: For people.
        lines: (wavelength in Å, share of the intensity) of each; the shares add up to 1, the strongest line
            is the first.
    """

    name: str
    lines: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, alpha1: float, alpha2: float | None = None, ratio: float = ALPHA2) -> Radiation:
        """One line, or Kα1 and Kα2 with the intensity of the second in units of the first's.

        Raises:
            InputError: For what cannot be the wavelength of a powder pattern.
        """
        if alpha2 is None or ratio <= 0:
            lines: tuple[tuple[float, float], ...] = ((alpha1, 1.0),)
        else:
            lines = ((alpha1, 1 / (1 + ratio)), (alpha2, ratio / (1 + ratio)))
        for wavelength, _ in lines:
            if not SHORTEST <= wavelength <= LONGEST:
                raise InputError(
                    f"{wavelength:g} Å is no X-ray wavelength of powder diffraction "
                    f"({SHORTEST:g} to {LONGEST:g} Å).",
                    setting="wavelength",
                )
        return cls(_name(lines), lines)

    @classmethod
    def parse(cls, text: str) -> Radiation:
        """As a person writes it: "CuKa" (both lines), "CuKa1", "Co", "1.5406" or "1.5406,1.5444".

        Raises:
            InputError: One sentence, for anything else.
        """
        written = text.strip()
        named = NAMED.fullmatch(written)
        if named and named[1].capitalize() in TUBES:
            lines = TUBES[named[1].capitalize()]
            return cls.of(*lines) if named[2] is None else cls.of(lines[int(named[2]) - 1])
        try:
            numbers = [float(part) for part in written.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 2):
            raise InputError(
                f"{text!r} is no wavelength; write an anode ({', '.join(TUBES)}) as CuKa or CuKa1, or Å, "
                "one line or two: 1.5406,1.5444.",
                setting="wavelength",
            )
        return cls.of(*numbers)

    @property
    def longest(self) -> float:
        """Å."""
        return max(wavelength for wavelength, _ in self.lines)

    @property
    def shortest(self) -> float:
        """Å."""
        return min(wavelength for wavelength, _ in self.lines)


def _name(lines: tuple[tuple[float, float], ...]) -> str:
    """ "Cu Kα" where a tube's, to 0.1 %, else the wavelength."""
    for anode, known in TUBES.items():
        near = [abs(lines[0][0] / wavelength - 1) < 5e-4 for wavelength in known]
        if any(near):
            return f"{anode} Kα" + ("" if len(lines) == 2 else "1" if near[0] else "2")
    return f"{lines[0][0]:.5g} Å"
