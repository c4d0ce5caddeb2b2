"""Fits find what a pattern was made with, and the right crystal among others."""

from __future__ import annotations

import numpy as np
import pytest

from csp.crystals import Crystals
from csp.diffraction.fit import Measured, fit, loss_of
from csp.diffraction.identify import compare, fit_known
from csp.diffraction.phase import Phase
from csp.diffraction.reflections import reflections
from csp.diffraction.sample import Sample
from csp.diffraction.starts import starting_strains
from tests.csp.diffraction.samples import COPPER, anatase, brookite, calculated, counted, rutile, salt

GRID = np.arange(15.0, 75.0, 0.03)


def test_what_a_pattern_was_made_with_is_found() -> None:
    y = calculated(anatase(), GRID, strain=0.02, zero=0.05, log_march=-0.3)
    measured = Measured.of(counted(y, GRID, counts=10_000))
    (found,) = compare(measured, anatase())
    assert found.fitted is not None
    zero, eta = found.fitted.parameters[:2]
    iso, between, log_width, *_, log_march = found.fitted.of_phase(0)
    assert iso == pytest.approx(0.02, abs=5e-4)
    assert between == pytest.approx(0.0, abs=1e-3)
    assert zero == pytest.approx(0.05, abs=0.01)
    assert eta == pytest.approx(0.6, abs=0.1)
    assert np.exp(log_width) == pytest.approx(0.12, abs=0.02)
    assert found.fitted.phases[0].axis == 0
    assert log_march == pytest.approx(-0.3, abs=0.05)
    assert found.misfit < 0.2
    assert found.explained > 0.9
    assert found.missing < 0.05


def test_without_an_error_the_weighted_residual_is_that_of_counting() -> None:
    """R_wp of a right fit is √(N / Σ w y²), that of the noise."""
    measured = Measured.of(counted(calculated(rutile(), GRID), GRID))
    (found,) = compare(measured, rutile())
    y, sigma = measured.pattern.intensity, measured.pattern.sigma
    assert found.r_wp == pytest.approx(np.sqrt(len(y) / ((y / sigma) ** 2).sum()), rel=0.1)


@pytest.mark.parametrize("strain", [-0.035, 0.0, 0.03])
def test_the_right_polymorph_is_first_whatever_the_cell(strain: float) -> None:
    measured = Measured.of(counted(calculated(brookite(), GRID, strain=strain), GRID))
    found = compare(measured, Crystals.cat([rutile(), anatase(), brookite()]))
    assert np.argmin([c.misfit for c in found]) == 2
    assert found[2].misfit < 0.5 * min(found[0].misfit, found[1].misfit)


def test_starts_hold_the_strain_of_the_pattern() -> None:
    measured = Measured.of(counted(calculated(rutile(4.70, 2.99), GRID), GRID))
    phase = Phase(reflections(rutile(), *measured.g_range), COPPER)
    strains, overlap = starting_strains(measured, phase, np.zeros(len(measured.grid)), 3)
    edges = np.eye(3) + np.tensordot(strains[0], phase.reflections.strains, 1)
    assert sorted(np.linalg.eigvalsh(edges)) == pytest.approx(
        [2.99 / 2.959, 4.70 / 4.594, 4.70 / 4.594], abs=4e-3
    )
    assert overlap[0] < 0.6
    assert (np.diff(overlap) > -0.1).all()


@pytest.mark.parametrize("told", [False, True])
def test_another_phase_is_tolerated(told: bool) -> None:
    y = 0.5 * calculated(rutile(), GRID) + calculated(salt(), GRID, strain=0.01)
    measured = Measured.of(counted(y, GRID))
    beside = fit_known(measured, [salt()]) if told else None
    found = compare(measured, Crystals.cat([anatase(), rutile(), brookite()]), beside)
    assert np.argmin([c.misfit for c in found]) == 1
    assert found[1].misfit < 0.75
    if told:
        assert found[1].fitted is not None
        assert len(found[1].fitted.phases) == 2
        assert found[1].explained > 0.9


def test_what_is_calculated_and_not_measured_counts_more() -> None:
    more, less = np.array([10.0]), np.array([-10.0])
    assert loss_of(less) == 50.0
    assert loss_of(more) == 18.0
    assert loss_of(np.array([1.0])) == loss_of(np.array([-1.0])) == 0.5


def test_a_fit_without_phases_is_the_background() -> None:
    pattern = counted(np.zeros(len(GRID)), GRID)
    measured = Measured.of(pattern)
    found = fit(measured, (), np.array([0.0, 0.5]))
    expected = 40 + 800 / measured.grid
    assert np.abs(found.total - expected).max() < 0.1 * expected.max()
    # errors taken from each count by itself would leave it one count too low
    assert (found.total - expected).mean() == pytest.approx(0.0, abs=0.5)


def test_none_of_these_is_an_answer() -> None:
    crystals = Crystals.cat([rutile(), anatase()])
    there = Sample(counted(calculated(rutile(), GRID), GRID)).identify(crystals)
    assert there.probability[0] > 0.9
    assert there.none < 0.1
    away = Sample(counted(calculated(salt(), GRID), GRID)).identify(crystals)
    assert away.none > 0.5
    assert "none of these" in away.remarks()[0]


def test_energies_weigh_in() -> None:
    """Of two descriptions of one pattern the lower in energy is more probable."""
    crystals = Crystals.cat([rutile(), rutile(4.60, 2.96)])
    found = Sample(counted(calculated(rutile(), GRID), GRID)).identify(crystals, np.array([0.2, 0.0]))
    assert found.order == [1, 0]
    assert found.probability[1] > 100 * found.probability[0]
    assert found.fields(1)["rank_pattern"] == 1
