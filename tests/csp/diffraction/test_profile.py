"""Peaks on a grid: areas, widths, and derivatives by finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from csp.diffraction.phase import Phase
from csp.diffraction.profile import spread
from csp.diffraction.reflections import reflections
from tests.csp.diffraction.samples import COPPER, rutile

GRID = np.arange(10.0, 60.0, 0.01)


@pytest.mark.parametrize(("lorentzian", "lost"), [(0.0, 1e-9), (1.0, 0.05)])
def test_area_and_width(lorentzian: float, lost: float) -> None:
    """Tails of a Lorentzian beyond eight widths hold (1 − 2/π arctan 16) of it."""
    y = spread(GRID, np.array([30.003]), np.array([0.2]), lorentzian).value.toarray().ravel()
    assert y.sum() * 0.01 == pytest.approx(1 - lorentzian * (1 - 2 / np.pi * np.arctan(16)), abs=2e-3)
    above = GRID[y > y.max() / 2]
    assert above[-1] - above[0] == pytest.approx(0.2, abs=0.021)
    assert lost > 0


def test_peaks_beyond_the_grid_reach_into_it() -> None:
    y = spread(GRID, np.array([9.95, 5.0]), np.array([0.2, 0.2]), 0.5).value.toarray()
    assert y[0, 0] > 0.1
    assert not y[:, 1].any()


def test_derivatives() -> None:
    place, width, eta, h = np.array([30.1234, 31.003]), np.array([0.213, 0.297]), 0.4, 1e-6
    found = spread(GRID, place, width, eta, slopes=True)
    for slope, changed in (
        (found.by_place, lambda d: spread(GRID, place + d, width, eta)),
        (found.by_width, lambda d: spread(GRID, place, width + d, eta)),
        (found.by_shape, lambda d: spread(GRID, place, width, eta + d)),
    ):
        numeric = (changed(h).value - changed(-h).value).toarray() / (2 * h)
        assert np.abs(slope.toarray() - numeric).max() < 2e-3 * np.abs(numeric).max()


def test_derivatives_of_a_phases_lines() -> None:
    phase = Phase(reflections(rutile(), 0.05, 0.9), COPPER, 1)
    parameters = phase.start(0.12) + np.array([0.01, -0.004, 0.1, 0.2, 0.3, -0.2])
    lines = phase.lines(parameters)
    for k in range(phase.n):
        step = np.zeros(phase.n)
        step[k] = 1e-6
        high, low = phase.lines(parameters + step), phase.lines(parameters - step)
        for value, slope in (
            ((high.place - low.place) / 2e-6, lines.by_place[:, k]),
            ((high.intensity - low.intensity) / 2e-6, lines.by_intensity[:, k]),
        ):
            assert np.abs(value - slope).max() <= 1e-4 * np.abs(slope).max() + 1e-6 * np.abs(value).max()


def test_alignment_keeps_the_intensity_on_the_sphere() -> None:
    """The mean of March's function over all directions is 1 whatever r is."""
    cosine = np.linspace(-1, 1, 20001)
    for r in (0.4, 1.0, 1.7):
        march = (r**2 * cosine**2 + (1 - cosine**2) / r) ** -1.5
        assert march.mean() == pytest.approx(1.0, abs=2e-3)
    phase = Phase(reflections(rutile(), 0.05, 0.9), COPPER, 0)
    assert np.allclose(phase.march(0, 0.0), 1)
    along = np.abs(phase.reflections.q @ phase.reflections.axes[0]) / np.linalg.norm(
        phase.reflections.q, axis=1
    )
    flat = phase.march(0, np.log(0.5))
    assert flat[np.argmax(along)] == pytest.approx(0.5**-3, rel=1e-6) or flat.max() > 2
