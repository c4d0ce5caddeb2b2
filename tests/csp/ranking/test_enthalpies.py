"""Enthalpies of crystals with Murnaghan's equation of state, whose transition is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq

from csp.ranking.enthalpies import Enthalpies
from csp.relaxation.relax import GPA


def murnaghan(pressure: np.ndarray | float, e0: float, v0: float, b0: float, b1: float) -> tuple:
    """(H, V) at pressures in GPa: V = V₀ (1 + B′P/B)^(−1/B′), H = E₀ + ∫ V dP."""
    p = np.asarray(pressure, dtype=np.float64) * GPA
    b = b0 * GPA
    volume = v0 * (1 + b1 * p / b) ** (-1 / b1)
    integral = v0 * b / (b1 - 1) * ((1 + b1 * p / b) ** (1 - 1 / b1) - 1)
    return e0 + integral, volume


LOOSE, DENSE = (-5.0, 20.0, 90.0, 4.2), (-4.7, 16.0, 130.0, 4.0)


def of(pressures: list[float], *crystals: tuple) -> Enthalpies:
    at = np.array(pressures)
    pairs = [murnaghan(at, *crystal) for crystal in crystals]
    return Enthalpies(at, np.array([h for h, _ in pairs]), np.array([v for _, v in pairs]))


def test_the_transition_is_where_enthalpies_are_equal() -> None:
    exact = brentq(lambda p: murnaghan(p, *LOOSE)[0] - murnaghan(p, *DENSE)[0], 0, 60)
    (found,) = of([0.0, 20.0, 60.0], LOOSE, DENSE).transitions()
    assert found.pressure == pytest.approx(exact, abs=0.2)
    assert (found.below, found.above) == (0, 1)
    volumes = [murnaghan(exact, *one)[1] for one in (LOOSE, DENSE)]
    assert found.volume_change == pytest.approx(1 - volumes[1] / volumes[0], abs=0.02)


def test_enthalpies_between_the_pressures_are_right_to_a_millielectronvolt() -> None:
    found = of([0.0, 20.0, 40.0, 60.0], LOOSE, DENSE)
    exact = np.array([murnaghan(found.grid, *one)[0] for one in (LOOSE, DENSE)])
    assert np.abs(found.curves - exact).max() < 1.2e-3


def test_a_crystal_that_is_never_lowest_makes_no_transition() -> None:
    higher = (-4.9, 20.0, 90.0, 4.2)
    assert of([0.0, 20.0, 60.0], LOOSE, higher).transitions() == []


def test_equal_crystals_do_not_take_turns() -> None:
    same = (-5.0 + 2e-5, 19.999, 90.0, 4.2)
    assert of([0.0, 10.0, 60.0], LOOSE, same).transitions() == []


def test_what_was_not_relaxed_at_a_pressure_is_left_out_beside_it() -> None:
    found = of([0.0, 20.0, 60.0], LOOSE, DENSE)
    found.enthalpy[1, 2] = np.nan
    assert np.isnan(found.curves[1, -1])
    assert np.isfinite(found.curves[1, 0])
    assert found.lowest[-1] == 0


def test_one_pressure_is_enough() -> None:
    found = of([30.0], LOOSE, DENSE)
    assert found.grid.tolist() == [30.0]
    assert found.transitions() == []
    assert found.lowest.tolist() == [int(np.argmin(found.enthalpy[:, 0]))]
