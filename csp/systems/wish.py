"""What phases are looked for: as much or as little of a property as can be, or values in a range."""

from __future__ import annotations

import importlib
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csp.errors import CspError, InputError, did_you_mean
from csp.property_value import with_sigma

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from csp.systems.phases import SystemPhase
    from surrogates.properties.model import PropertyModel

__all__ = ["Wish", "Wished"]

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
WORDS = re.compile(rf"(\S+)\s+(?:(max|min)|({NUMBER})\s*\.\.\s*({NUMBER}))")

KNOWN: dict[str, tuple[str, Callable[[Structure], float]]] = {
    "density": ("g/cm³", lambda structure: float(structure.density)),
    "volume_per_atom": ("Å³", lambda structure: float(structure.volume / len(structure))),
}
"""What needs no model: unit and function."""


@dataclass(frozen=True, slots=True)
class Wished:
    """A phase and its property.

    Attributes:
        value: Of the property; None where it could not be computed.
        sigma: One standard deviation, where a model or the function gives one.
        why_not: Why there is no value; "".
        unit: "" where it is not known, or there is none.
        outside: The phase lies so far outside what the model learned from that value and sigma are guesses.
    """

    phase: SystemPhase
    value: float | None
    sigma: float | None = None
    why_not: str = ""
    unit: str = ""
    outside: bool = False

    def __str__(self) -> str:
        """Such as "182 ± 11 GPa"; why not, where there is no value."""
        if self.value is None:
            return self.why_not
        number = f"{self.value:.4g}" if self.sigma is None else with_sigma(self.value, self.sigma)
        return " ".join(filter(None, (number, self.unit, "(outside the data)" if self.outside else "")))


Judge = Callable[[Sequence["SystemPhase"]], list[Wished]]
"""Gives each phase its property, in their order."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A property and what is wanted of it.

    Attributes:
        name: Of the property, or module:function.
        sense: "max", "min" or "range".
        judge: What computes it.
        low, high: Of a range.
    """

    name: str
    sense: str
    judge: Judge = field(repr=False, compare=False)
    low: float = -math.inf
    high: float = math.inf

    @classmethod
    def parse(cls, text: str) -> Wish:
        """Read `density max`, `bulk_modulus max`, `band_gap 1.1..1.6` or `module:function min`.

        Raises:
            InputError: It is no wish, or there is nothing that computes it.
        """
        found = WORDS.fullmatch(text.strip())
        if found is None:
            raise InputError(
                f"{text!r} is no wish; write a property with max, min or a range, such as bulk_modulus max "
                "or band_gap 1.1..1.6."
            )
        name, sense, low, high = found.groups()
        if not sense and float(low) > float(high):
            raise InputError(f"The range {low}..{high} of {name} ends before it begins.")
        judge = _judge(name)  # what is not there is told now
        return cls(name, sense, judge) if sense else cls(name, "range", judge, float(low), float(high))

    def __str__(self) -> str:
        return f"{self.name} {self.sense if self.sense != 'range' else f'{self.low:g}..{self.high:g}'}"

    def order(self, phases: Sequence[SystemPhase]) -> list[Wished]:
        """The phases with their property, what is wanted most first; those without a value last."""
        return sorted(self.judge(phases), key=self._key)

    def _key(self, one: Wished) -> tuple[bool, float]:
        if one.value is None:
            return True, 0.0
        if self.sense == "range":
            return False, max(self.low - one.value, one.value - self.high, 0.0)
        return False, -one.value if self.sense == "max" else one.value

    def fulfils(self, one: Wished) -> bool:
        """Is a value in the range? Of a maximum or minimum every value is as it may be."""
        return one.value is not None and self.low <= one.value <= self.high


def _judge(name: str) -> Judge:
    """What computes a property.

    Raises:
        InputError: There is nothing that does, or its model cannot be used.
    """
    if name in KNOWN:
        unit, function = KNOWN[name]
        return partial(_by_function, function, unit)
    if ":" in name:
        return partial(_by_function, _function(name), "")
    return partial(_by_model, _model(name))


def _by_model(model: PropertyModel, phases: Sequence[SystemPhase]) -> list[Wished]:
    from csp.crystals import Crystals
    from surrogates.properties.predicting import of_crystals

    if not phases:
        return []
    unit = "" if model.card.unit == "1" else model.card.unit
    unknown = f"the model {model.card.name} has not learned all its elements"
    rows = of_crystals([model], Crystals.cat([phase.crystal for phase in phases]))
    return [
        Wished(phase, None, why_not=unknown)
        if found is None
        else Wished(phase, found.value, found.sigma, unit=unit, outside=found.outside)
        for phase, (found,) in zip(phases, rows, strict=True)
    ]


def _by_function(function: Callable[[Any], Any], unit: str, phases: Sequence[SystemPhase]) -> list[Wished]:
    return [_judged(phase, function, unit) for phase in phases]


def _judged(phase: SystemPhase, function: Callable[[Any], Any], unit: str) -> Wished:
    """People's functions fail in their own ways: that a phase has no value is an outcome."""
    try:
        given = function(phase.crystal.structures()[0])
        value, sigma = given if isinstance(given, tuple) else (given, None)
        value = float(value)
        if not math.isfinite(value):
            return Wished(phase, None, why_not="its value is no number")
        return Wished(phase, value, None if sigma is None else float(sigma), unit=unit)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Wished(phase, None, why_not=reason.rstrip("."))


def _model(name: str) -> PropertyModel:
    """The model of a property.

    Raises:
        InputError: There is none, or it cannot be used.
    """
    from surrogates.properties import library

    models = library.names()
    if name not in models:  # which no path is: who submits to a server does not choose its files
        of_crystals = [one for one in models if not one.endswith(library.COMPOSITION)]
        there = (
            f"there are models of {', '.join(of_crystals) or 'none'}, {' and '.join(KNOWN)} without one, "
            "and any Python function as module:function"
        )
        known = [*of_crystals, *KNOWN]
        raise InputError(f"No model gives the property {name!r}{did_you_mean(name, known, there)}")
    return library.load(name)


def _function(name: str) -> Callable[[Any], Any]:
    """A function by module:function; the module may lie in the folder where people are.

    Raises:
        InputError: There is none.
    """
    module, _, function = name.partition(":")
    if (here := str(Path.cwd())) not in sys.path:  # which a program's path lacks
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module), function, None)
    except CspError:
        raise
    except Exception as error:  # a module is code of whoever wrote it
        raise InputError(f"The module {module!r} cannot be imported: {str(error).rstrip('.')}.") from error
    if not callable(found):
        raise InputError(f"The module {module!r} has no function {function!r}.")
    return found
