"""What phases are looked for: as much or as little of a property as can be, or values in a range."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from csp.errors import CspError, InputError, did_you_mean

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from csp.systems.phases import SystemPhase

__all__ = ["Wish", "Wished"]

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
WORDS = re.compile(rf"(\S+)\s+(?:(max|min)|({NUMBER})\s*\.\.\s*({NUMBER}))")

KNOWN: dict[str, Callable[[Structure], float]] = {
    "density": lambda structure: float(structure.density),
    "volume_per_atom": lambda structure: float(structure.volume / len(structure)),
}
"""g/cm³ and Å³, which need no model."""


@dataclass(frozen=True, slots=True)
class Wished:
    """A phase and its property.

    Attributes:
        value: As the function gives it; None where it failed.
        sigma: One standard deviation, where the function gives one.
        why_not: Why there is no value; "".
    """

    phase: SystemPhase
    value: float | None
    sigma: float | None = None
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Wish:
    """A property and what is wanted of it.

    Attributes:
        name: Of the property, or module:function.
        sense: "max", "min" or "range".
        low, high: Of a range.
    """

    name: str
    sense: str
    low: float = -math.inf
    high: float = math.inf

    @classmethod
    def parse(cls, text: str) -> Wish:
        """Read `density max`, `module:function min` or `band_gap 1.1..1.6`.

        Raises:
            InputError: It is no wish, or there is nothing that computes it.
        """
        found = WORDS.fullmatch(text.strip())
        if found is None:
            raise InputError(
                f"{text!r} is no wish; write a property with max, min or a range, such as density max or "
                "mymodule:band_gap 1.1..1.6."
            )
        name, sense, low, high = found.groups()
        _function(name)  # what is not there is told now
        if sense:
            return cls(name, sense)
        if float(low) > float(high):
            raise InputError(f"The range {low}..{high} of {name} ends before it begins.")
        return cls(name, "range", float(low), float(high))

    def __str__(self) -> str:
        return f"{self.name} {self.sense if self.sense != 'range' else f'{self.low:g}..{self.high:g}'}"

    def order(self, phases: Sequence[SystemPhase]) -> list[Wished]:
        """The phases with their property, what is wanted most first; those without a value last."""
        function = _function(self.name)
        return sorted((_judged(phase, function) for phase in phases), key=self._key)

    def _key(self, one: Wished) -> tuple[bool, float]:
        if one.value is None:
            return True, 0.0
        if self.sense == "range":
            return False, max(self.low - one.value, one.value - self.high, 0.0)
        return False, -one.value if self.sense == "max" else one.value

    def fulfils(self, one: Wished) -> bool:
        """Is a value in the range? Of a maximum or minimum every value is as it may be."""
        return one.value is not None and self.low <= one.value <= self.high


def _judged(phase: SystemPhase, function: Callable[[Any], Any]) -> Wished:
    """People's functions fail in their own ways: that a phase has no value is an outcome."""
    try:
        given = function(phase.crystal.structures()[0])
        value, sigma = given if isinstance(given, tuple) else (given, None)
        value = float(value)
        if not math.isfinite(value):
            return Wished(phase, None, why_not="its value is no number")
        return Wished(phase, value, None if sigma is None else float(sigma))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Wished(phase, None, why_not=reason.rstrip("."))


def _function(name: str) -> Callable[[Any], Any]:
    """The function that computes a property.

    Raises:
        InputError: There is none.
    """
    if name in KNOWN:
        return KNOWN[name]
    module, colon, function = name.partition(":")
    if not colon:
        there = f"there are {' and '.join(KNOWN)}, and any Python function as module:function"
        raise InputError(f"No model gives the property {name!r}{did_you_mean(name, KNOWN, there)}")
    try:
        found = getattr(importlib.import_module(module), function, None)
    except CspError:
        raise
    except Exception as error:  # a module is code of whoever wrote it
        raise InputError(f"The module {module!r} cannot be imported: {str(error).rstrip('.')}.") from error
    if not callable(found):
        raise InputError(f"The module {module!r} has no function {function!r}.")
    return found
