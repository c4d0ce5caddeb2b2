"""What was measured of each model, and the flat numbers that it adds up to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rank_metrics import Floats, Ordered, interval
from benchmarks.surrogate.relaxations import Gaps
from benchmarks.surrogate.speed import Rate

__all__ = ["BEST", "PRESSURE", "Errors", "Measured", "speed_of", "summarise"]

PRESSURE = 50.0  # GPa
BEST = 20  # of 200: where the teacher's best has to be


@dataclass(frozen=True, slots=True)
class Errors:
    """|error| of the DFT formation energy, eV/atom, of M test crystals.

    Attributes:
        absolute: float64 [M].
        composition: str [M].
        new: bool [M], is the composition not among those of the training split?
        unsupported: Test crystals with elements that the model does not know, left out.
    """

    absolute: Floats
    composition: NDArray[np.str_]
    new: NDArray[np.bool_]
    unsupported: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One model.

    Attributes:
        orders: Of each composition; None where the model does not know an element.
        errors: None where the model has no DFT formation energies.
        gaps: Of the starts of the compositions in `started`; None where the model cannot relax.
        pressed: As `gaps`, under `PRESSURE`.
        speed: With crystals of 16 atoms; None for what is no energy model.
    """

    name: str
    orders: list[Ordered | None]
    errors: Errors | None = None
    gaps: Gaps | None = None
    pressed: Gaps | None = None
    started: tuple[int, ...] = ()
    speed: Rate | None = None

    @property
    def known(self) -> list[Ordered]:
        return [order for order in self.orders if order is not None]


def summarise(measured: Measured) -> dict[str, Any]:
    """Keys that end in the model's name: values with `.n` that they are means (medians) over and the
    `.low` and `.high` ends of their 95 % intervals, resampling compositions; what cannot be said (an
    infinite median, a mean of nothing) is None."""
    name, orders = measured.name, measured.known
    low = [order.tau_low for order in orders if order.tau_low is not None]
    summary = {
        **_value(f"tau_virtual.{name}", [order.tau for order in orders]),
        **_value(f"tau_virtual_low.{name}", low),
        **_value(f"best{BEST}_virtual.{name}", [float(order.best_at <= BEST) for order in orders]),
        f"unsupported_compositions.{name}": len(measured.orders) - len(orders),
    }
    if measured.errors is not None:
        errors, group, new = 1000 * measured.errors.absolute, measured.errors.composition, measured.errors.new
        summary |= _value(f"mae_test_mev.{name}", errors, group)
        summary |= _value(f"mae_test_newcomp_mev.{name}", errors[new], group[new])
        summary[f"unsupported_test.{name}"] = measured.errors.unsupported
    if measured.gaps is not None:
        summary |= _of_gaps("relax", measured.gaps, name)
    if measured.pressed is not None:
        summary |= _of_gaps(f"relax_{PRESSURE:.0f}gpa", measured.pressed, name)
    if measured.speed is not None:
        summary |= speed_of(name, measured.speed)
    return summary


def _of_gaps(key: str, gaps: Gaps, name: str) -> dict[str, Any]:
    judged, done = 1000 * gaps.gap[gaps.judged].numpy(), ~gaps.gap.isnan()
    return {
        **_value(f"{key}_gap_mev.{name}", judged, statistic=np.median),
        **_value(f"{key}_match.{name}", gaps.matches[done].double().numpy()),
        **_value(f"{key}_match_nothing.{name}", gaps.already[done].double().numpy()),
        f"{key}_failed.{name}": int(gaps.gap.isposinf().sum()),
        f"{key}_teacher_failed.{name}": int(gaps.gap.isnan().sum()),
    }


def speed_of(name: str, rate: Rate) -> dict[str, float]:
    """The keys of a model's speed."""
    found = {"crystals_per_s": rate.per_second, "crystals_per_cpu_s": rate.per_cpu_second}
    return {f"{key}.{name}": float(f"{value:.4g}") for key, value in found.items() if value is not None}


def _value(
    key: str,
    values: Sequence[float] | Floats,
    groups: NDArray[Any] | None = None,
    statistic: Callable[[Floats], Any] = np.mean,
) -> dict[str, Any]:
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) == 0:
        return {key: None, f"{key}.n": 0, f"{key}.low": None, f"{key}.high": None}
    low, high = interval(numbers, groups, statistic)
    return {
        key: _finite(float(statistic(numbers))),
        f"{key}.n": len(numbers),
        f"{key}.low": _finite(low),
        f"{key}.high": _finite(high),
    }


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
