"""Crystals compared with a pattern: each fitted, alone or beside known other phases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from csp.crystals import Crystals
from csp.diffraction.fit import SHAPE, Fitted, Measured, fit
from csp.diffraction.pattern import Floats
from csp.diffraction.phase import Phase
from csp.diffraction.profile import spread
from csp.diffraction.reflections import Reflections, reflections
from csp.diffraction.starts import starting_strains

__all__ = ["fit_crystal"]

STARTS = 3
BROAD = 2.0  # times the width of the peaks, in the first fits


def fit_crystal(measured: Measured, crystal: Reflections, beside: Fitted | None = None) -> Fitted:
    """Fit a crystal, the last of the phases, beside others that were fitted before."""
    phase = Phase(crystal, measured.pattern.radiation)
    others = () if beside is None else beside.phases
    known = np.array([0.0, SHAPE[0]]) if beside is None else beside.parameters
    explained = np.zeros(len(measured.grid)) if beside is None else beside.calculated.sum(0)
    strains, _ = starting_strains(measured, phase, explained, STARTS)
    s, n = phase.n_strains, len(known) + phase.n
    moving = np.zeros(n)
    moving[len(known) : len(known) + s] = 1
    best: Fitted | None = None
    for strain in strains:
        start = np.concatenate([known, phase.start(BROAD * measured.width)])
        start[len(known) : len(known) + s] = strain
        found = fit(measured, (*others, phase), start, free=moving, rounds=2, steps=6)
        if best is None or found.loss < best.loss:
            best = found
    assert best is not None
    start = best.parameters.copy()
    start[len(known) + s] = np.log(measured.width)
    return aligned(measured, fit(measured, best.phases, start))


def aligned(measured: Measured, fitted: Fitted) -> Fitted:
    """The fit with the last phase's crystallites aligned along the axis that promises most."""
    phase, scale = fitted.phases[-1], fitted.scales[-1]
    if scale <= 0:
        return fitted
    own = fitted.of_phase(len(fitted.phases) - 1)
    lines = phase.lines(own)
    peaks = spread(measured.grid, lines.place + fitted.parameters[0], lines.width, fitted.parameters[1]).value
    left = (measured.pattern.intensity - fitted.total) / measured.sigma
    weight = np.sqrt(2.0 / np.maximum(left, 2.0))
    times = len(phase.radiation.lines)
    gains = []
    for axis in range(len(phase.reflections.axes)):
        slope = (phase.march(axis, 0.05) - phase.march(axis, -0.05)) / 0.1
        column = weight * (peaks @ (scale * lines.intensity * np.tile(slope, times))) / measured.sigma
        size = float(column @ column)
        step = float(column @ (weight * left)) / size if size > 0 else 0.0
        gains.append((step**2 * size, axis, step))
    _, axis, step = max(gains)
    start = fitted.parameters.copy()
    start[-1] = np.clip(step, -0.3, 0.3)
    phases = (*fitted.phases[:-1], replace(phase, axis=axis))
    found = fit(measured, phases, start, rounds=2, steps=10)
    return found if found.loss < fitted.loss else fitted
