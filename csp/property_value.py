"""A property of a crystal as a model foretells it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Contributions", "PropertyValue", "Shell", "with_sigma"]

DIGITS = 6  # of a contribution, in files


@dataclass(frozen=True, slots=True)
class Shell:
    """Neighbours of one element at about one distance from an atom.

    Attributes:
        element: Its symbol.
        number: Of them.
        distance: Å, their mean.
        attention: The share of the atom's attention that goes to all of them.
    """

    element: str
    number: int
    distance: float
    attention: float

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        rounded = {"distance": round(self.distance, 3), "attention": round(self.attention, 3)}
        return {"element": self.element, "number": self.number, **rounded}


@dataclass(frozen=True, slots=True)
class Contributions:
    """How a value comes about, in its unit: value = baseline + whole + the sum over the atoms.

    Attributes:
        baseline: What the model gives for the mean features of the crystals that it learned from.
        whole: What volume and density add, which no single atom has.
        atoms: What each atom adds, in their order in the crystal. In a supercell each adds less, as there are
            more of them.
        neighbours: Of each atom its shells of neighbours, which it attends to; the same for all properties
            that are read from the features of one surrogate.
    """

    baseline: float
    whole: float
    atoms: tuple[float, ...]
    neighbours: tuple[tuple[Shell, ...], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        atoms = [_rounded(one) for one in self.atoms]
        neighbours = [[shell.as_dict() for shell in own] for own in self.neighbours]
        told = {"baseline": _rounded(self.baseline), "whole": _rounded(self.whole), "atoms": atoms}
        return told | {"neighbours": neighbours}


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


@dataclass(frozen=True, slots=True)
class PropertyValue:
    """A value with what is known of its error.

    Attributes:
        name: Of the property, "bulk_modulus".
        title: For people.
        unit: "1" for a pure number.
        value, sigma: In the unit; ± sigma holds 68 % of the errors on crystals like those learned from.
        low, high: Between them are 95 % of them.
        leverage: How far the crystal lies outside the data that the model learned from, 1 for the mean of
            these.
        outside: So far that value and sigma are guesses.
        model: Its name.
        by_composition: It read the composition alone: polymorphs have one value.
        contributions: Of the atoms, where they were asked for and a crystal was read.
    """

    name: str
    title: str
    unit: str
    value: float
    sigma: float
    low: float
    high: float
    leverage: float
    outside: bool
    model: str
    by_composition: bool = False
    contributions: Contributions | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON values; contributions where they are known."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        del values["contributions"]
        return values | ({"contributions": self.contributions.as_dict()} if self.contributions else {})

    def __str__(self) -> str:
        """Such as "182 ± 11 GPa"."""
        unit = "" if self.unit == "1" else f" {self.unit}"
        return f"{self.short}{unit}{' (outside the data)' if self.outside else ''}"

    @property
    def short(self) -> str:
        """Value and σ in as many decimals as σ has meaning."""
        return with_sigma(self.value, self.sigma)


def with_sigma(value: float, sigma: float) -> str:
    """Such as "182 ± 11", in as many decimals as σ has meaning."""
    places = 0
    while places < 4 and sigma * 10**places < 1.95:
        places += 1
    return f"{value:z.{places}f} ± {sigma:.{places}f}"
