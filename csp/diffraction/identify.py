"""Which of several crystals was measured: each is compared with the pattern, alone or beside known phases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter1d

from csp.crystals import Crystals
from csp.diffraction.fit import SHAPE, TOLERATED, Fitted, Measured, fit, loss_of
from csp.diffraction.pattern import Floats
from csp.diffraction.phase import Phase
from csp.diffraction.profile import spread
from csp.diffraction.reflections import NoReflectionError, reflections
from csp.diffraction.starts import starting_strains

__all__ = ["Comparison", "compare", "fit_known"]

STARTS = 3
HOPELESS = 0.92  # of the misfit of the known phases alone; what leaves more is not aligned
BROAD = 2.0  # times the width of the peaks, in the first fits
MARCHES = (-0.8, -0.4, 0.3)  # ln r that each axis is tried with …
ALIGNED = 3  # … and how many of all of them are fitted
MOST_POLYMORPHS = 3  # of a known other phase, that are fitted

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A crystal against a pattern.

    Attributes:
        overlap: Share of the blurred pattern's misfit that is left before any fit, 0 to 1.
        fitted: The fit, the crystal being its last phase; None: not fitted, since others overlap better.
        misfit: Share of the misfit of the known phases alone that is left with the crystal, 0 to 1.
        r_wp: Weighted profile R factor of all that was fitted, 0 to 1; background and unknown phases count.
        explained: Share of the intensity above the background, of what known phases leave, that the crystal
            accounts for.
        missing: Share of the crystal's calculated intensity that was not measured.
        alone: The misfit, half a sum of squares, of the known phases alone.
    """

    overlap: float
    fitted: Fitted | None = None
    misfit: float = 1.0
    r_wp: float = 1.0
    explained: float = 0.0
    missing: float = 1.0
    alone: float = 0.0


def compare(
    measured: Measured,
    crystals: Crystals,
    beside: Fitted | None = None,
    *,
    most: int = 40,
    progress: Progress = lambda done, total: None,
) -> list[Comparison]:
    """Compare crystals with a pattern.

    Args:
        beside: Known other phases, fitted by `fit_known`.
        most: How many are fitted, those that overlap best before.

    Raises:
        InputError: For an element without a scattering factor.
    """
    alone = beside.loss if beside else fit(measured, (), np.array([0.0, SHAPE[0]])).loss
    explained = beside.calculated.sum(0) if beside else np.zeros(len(measured.grid))
    found = [Comparison(1.0, alone=alone)] * len(crystals)
    starts = {}
    for k in range(len(crystals)):
        try:
            phase = Phase(reflections(crystals[k], *measured.g_range), measured.pattern.radiation)
        except NoReflectionError:
            continue
        strains, overlaps = starting_strains(measured, phase, explained, STARTS)
        starts[k] = phase, strains
        found[k] = Comparison(float(overlaps[0]), alone=alone)
    order = sorted(starts, key=lambda k: found[k].overlap)[:most]
    for done, k in enumerate(order):
        progress(done, len(order))
        found[k] = _judged(measured, _fit_phase(measured, *starts[k], beside, alone), found[k].overlap, alone)
    progress(len(order), len(order))
    return found


def fit_known(measured: Measured, known: Sequence[Crystals]) -> Fitted | None:
    """Fit other phases that the sample may hold, one after the other; None where there are none.

    Args:
        known: Of each phase the crystals that it may be, of which the best is taken.
    """
    fitted: Fitted | None = None
    for polymorphs in known:
        found = compare(measured, polymorphs, fitted, most=MOST_POLYMORPHS)
        best = min(found, key=lambda c: c.misfit)
        fitted = best.fitted or fitted
    return fitted


def _judged(measured: Measured, fitted: Fitted, overlap: float, alone: float) -> Comparison:
    y, counting = measured.pattern.intensity, measured.pattern.sigma
    net = y - fitted.background - fitted.calculated[:-1].sum(0)
    blur = measured.width / 2.355 / (measured.grid[1] - measured.grid[0])  # less noise, no less resolution
    own, seen = gaussian_filter1d(fitted.calculated[-1], blur), gaussian_filter1d(net, blur)
    shared = float(np.minimum(own, np.maximum(seen, 0.0)).sum())
    return Comparison(
        overlap=overlap,
        fitted=fitted,
        misfit=min(fitted.loss / max(alone, 1e-12), 1.0),
        r_wp=float(np.sqrt((((y - fitted.total) / counting) ** 2).sum() / ((y / counting) ** 2).sum())),
        explained=shared / max(float(net.sum()), shared, 1e-12),
        alone=alone,
        missing=float(np.maximum(own - seen, 0.0).sum() / own.sum()) if own.sum() > 0 else 1.0,
    )


def _fit_phase(
    measured: Measured, phase: Phase, strains: Floats, beside: Fitted | None, alone: float
) -> Fitted:
    """Fit a crystal from several starts: with broad peaks first, then with all that can be fitted."""
    others = () if beside is None else beside.phases
    known = np.array([0.0, SHAPE[0]]) if beside is None else beside.parameters
    s, n = phase.n_strains, len(known) + phase.n
    moving = np.zeros(n, dtype=bool)
    moving[len(known) : len(known) + s] = True
    coarse = []
    for strain in strains:
        start = np.concatenate([known, phase.start(BROAD * measured.width)])
        start[len(known) : len(known) + s] = strain
        coarse.append(fit(measured, (*others, phase), start, free=moving, rounds=1, steps=6))
    best = min(coarse, key=lambda fitted: fitted.loss)
    start = best.parameters.copy()
    start[len(known) + s] = np.log(measured.width)
    found = fit(measured, best.phases, start)
    return _aligned(measured, found) if found.loss < HOPELESS * alone else found


def _aligned(measured: Measured, fitted: Fitted) -> Fitted:
    """The fit with the last phase's crystallites aligned along one of the axes that promise most."""
    phase, scale = fitted.phases[-1], fitted.scales[-1]
    if scale <= 0:
        return fitted
    lines = phase.lines(fitted.of_phase(len(fitted.phases) - 1))
    shift, shape = fitted.parameters[:2]
    peaks = spread(measured.grid, lines.place + shift, lines.width, shape).value
    others = measured.pattern.intensity - fitted.total + fitted.calculated[-1]
    promises = []
    for axis in range(len(phase.reflections.axes)):
        for log_march in MARCHES:
            march = np.tile(phase.march(axis, log_march), len(phase.radiation.lines))
            promises.append(
                (_loss_scaled(measured, others, peaks @ (lines.intensity * march)), axis, log_march)
            )
    tried = [fitted]
    for _, axis, log_march in sorted(promises)[:ALIGNED]:
        start = fitted.parameters.copy()
        start[-1] = log_march
        phases = (*fitted.phases[:-1], replace(phase, axis=axis))
        tried.append(fit(measured, phases, start, rounds=2, steps=8))
    return min(tried, key=lambda one: one.loss)


def _loss_scaled(measured: Measured, intensity: Floats, calculated: Floats) -> float:
    """The loss of one phase at its best scale, with nothing else to be fitted."""
    root, y = calculated / measured.sigma, intensity / measured.sigma
    weight = np.ones(len(y))
    for _ in range(4):
        scale = max(float((weight * root) @ y), 0.0) / max(float((weight * root) @ root), 1e-300)
        weight = TOLERATED / np.maximum(y - scale * root, TOLERATED)
    return loss_of(y - scale * root)
