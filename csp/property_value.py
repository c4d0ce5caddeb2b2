"""A property of a crystal as a model foretells it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["PropertyValue", "with_sigma"]


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

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

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
