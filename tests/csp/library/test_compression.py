"""Volumes under pressure against measured ones, and the equation of state against its definition."""

import numpy as np
import pytest
from ase.data import atomic_numbers

from csp.library.compression import bulk_modulus, compression, fit
from csp.library.volume import VolumePrior
from csp.target import Target

# Å³/atom at GPa, from equations of state fitted to diamond-anvil and shock measurements
MEASURED = [
    ("MgO", {60: 7.8, 200: 6.1, 600: 4.45}),
    ("Si", {60: 12.0, 200: 8.2}),
    ("Fe", {60: 9.4, 300: 7.0}),
    ("K", {60: 17.5, 100: 14.6}),
    ("Na", {60: 14.2, 200: 8.3}),
    ("NaCl", {60: 12.2, 300: 7.8}),
]


@pytest.mark.parametrize(("formula", "volumes"), MEASURED)
def test_volumes_under_pressure_are_near_the_measured(formula: str, volumes: dict[int, float]) -> None:
    target = Target.parse(formula)
    at_rest = VolumePrior.load().predict(target.numbers, target.counts) / target.n_atoms
    for pressure, measured in volumes.items():
        found = at_rest * compression(target.numbers, target.counts, at_rest, pressure)
        assert found == pytest.approx(measured, rel=0.35), (formula, pressure)


def test_no_pressure_leaves_all_and_more_leaves_less() -> None:
    numbers, counts = [11, 17], [1, 1]
    factors = [compression(numbers, counts, 22.4, p) for p in (-50, -5, 0, 1, 10, 100, 1000)]
    assert factors[2] == 1.0
    assert factors == sorted(factors, reverse=True)
    assert factors[0] < 1.25  # tension tears, it does not blow up
    assert factors[-1] > 0.05


def test_the_first_bit_of_pressure_compresses_by_the_bulk_modulus() -> None:
    numbers, counts, volume = [12, 8], [1, 1], 9.4
    slope = (compression(numbers, counts, volume, 0.01) - compression(numbers, counts, volume, -0.01)) / 0.02
    assert -1 / slope == pytest.approx(bulk_modulus(numbers, counts, volume), rel=1e-3)


def test_the_fit_finds_what_was_planted() -> None:
    rng = np.random.default_rng(0)
    fractions = np.zeros((4000, 119))
    elements = [atomic_numbers[name] for name in ("O", "Mg", "Fe", "Cs")]
    fractions[:, elements] = rng.dirichlet(np.ones(4), 4000)
    planted = np.zeros(119)
    planted[elements] = [0.3, -0.2, 0.4, -0.5]
    volumes = rng.uniform(5, 40, 4000)
    found = fit(fractions, volumes, 10 ** (4.0 + fractions @ planted) / volumes**2)
    for z in elements:
        assert found["mean"] + found[str(z)] == pytest.approx(4.0 + planted[z], abs=0.01)
