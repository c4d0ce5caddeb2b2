"""Where fits begin: cells over the whole range of strains, compared with the pattern on blurred peaks."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.stats import qmc

from csp.diffraction.fit import Measured
from csp.diffraction.pattern import Floats
from csp.diffraction.phase import BETWEEN_AXES, ISOTROPIC, Phase, lorentz_polarisation

__all__ = ["starting_strains"]

BLUR = 0.25  # degrees, full width at half maximum, or 1.5 times that of the peaks
POINTS = 3  # of the coarse grid in the blur
STRONGEST = 150  # reflections that are looked at
TRIED = (61, 200, 500, 800)  # cells, for 1, 2, 3 and more strains
ERROR, FLOOR = 0.2, 0.01  # standard deviation of an intensity: a share of itself, and of the highest
TOLERATED = 1.5  # see `csp.diffraction.fit`
PENALTY = 0.5  # weight of unusual strains


def starting_strains(measured: Measured, phase: Phase, explained: Floats, n: int) -> tuple[Floats, Floats]:
    """The n best of many strains [n, S], each in another valley, and how well they fit.

    The second is, for each, the share of the blurred pattern's misfit that is left: 1 where the phase
    explains nothing of what is not explained yet, 0 where it explains all.

    Args:
        explained: [N], intensity above the baseline that other phases account for.
    """
    grid, data, sigma, blur = _blurred(measured, explained)
    strains = _strains(phase.n_strains)
    place, intensity = _sticks(phase, strains, measured)
    patterns = _smeared(place, intensity, grid)
    left = _misfit(patterns, data, sigma) / max(_misfit(np.zeros((1, len(grid))), data, sigma)[0], 1e-12)
    _, usual = phase.usual(measured.width)
    unusual = ((strains / usual[: phase.n_strains]) ** 2).sum(1) / len(grid)
    order = np.argsort(left + PENALTY * unusual)
    chosen: list[int] = []
    typical = place[:, : min(20, place.shape[1])]
    for k in order.tolist():
        if all(np.abs(typical[k] - typical[other]).max() > blur / 2 for other in chosen):
            chosen.append(k)
        if len(chosen) == n:
            break
    return strains[chosen], left[chosen]


def _blurred(measured: Measured, explained: Floats) -> tuple[Floats, Floats, Floats, float]:
    """A coarse grid, what is above the baseline there, its standard deviation, and the blur, degrees."""
    x, blur = measured.grid, max(BLUR, 1.5 * measured.width)
    step = blur / POINTS
    n = int((x[-1] - x[0]) / step) + 1
    place = np.clip(((x - x[0]) / step).round().astype(np.int64), 0, n - 1)
    net = measured.pattern.intensity - measured.below - explained
    seen = np.isfinite(measured.sigma)
    count = np.maximum(np.bincount(place[seen], minlength=n), 1)
    mean = np.bincount(place[seen], net[seen], minlength=n) / count
    noise = np.sqrt(np.bincount(place[seen], measured.pattern.sigma[seen] ** 2, minlength=n)) / count
    grid = x[0] + step * np.arange(n)
    before = _smoothed(np.bincount(place[seen], (net + explained)[seen], minlength=n) / count)
    high = np.maximum(before, 0)
    sigma = np.sqrt((ERROR * high) ** 2 + (FLOOR * high.max()) ** 2 + _smoothed(noise) ** 2 / 2)
    return grid, _smoothed(mean), sigma, blur


def _smoothed(values: Floats) -> Floats:
    """Along the last axis, on the coarse grid, by the blur."""
    return gaussian_filter1d(values, POINTS / np.sqrt(8 * np.log(2)), axis=-1, mode="constant")


def _strains(n: int) -> Floats:
    """[K, n]: none first, then evenly over what is possible."""
    tried = TRIED[min(n, 4) - 1]
    if n == 1:
        return np.append(0.0, np.linspace(-ISOTROPIC, ISOTROPIC, tried))[:, None]
    points = qmc.Sobol(n, seed=0).random(1 << (tried - 1).bit_length())[:tried]
    others = BETWEEN_AXES * (2 * points[:, 1:] - 1)
    if n > 2:  # the more there are, the less each is likely to be large
        others *= np.abs(2 * points[:, 1:] - 1) ** 0.5
    return np.concatenate([np.zeros((1, n)), np.column_stack([ISOTROPIC * (2 * points[:, 0] - 1), others])])


def _sticks(phase: Phase, strains: Floats, measured: Measured) -> tuple[Floats, Floats]:
    """Places, degrees, of the strongest reflections in each strained cell [K, P], and intensities [P]."""
    r = phase.reflections
    wavelength = sum(length * share for length, share in phase.radiation.lines)
    g = np.linalg.norm(r.q, axis=1)
    intensity = r.strength * lorentz_polarisation(g * wavelength / 2) * np.exp(-1.4 * g**2 / 4)
    sine = np.sin(np.radians(measured.grid[[0, -1]] / 2))
    inside = (g * wavelength / 2 > 0.96 * sine[0]) & (g * wavelength / 2 < 1.04 * sine[1])
    order = np.argsort(-np.where(inside, intensity, -1.0))[: min(STRONGEST, max(int(inside.sum()), 1))]
    inverse = np.linalg.inv(np.eye(3) + np.tensordot(strains, r.strains, 1))
    q = np.einsum("pi,kij->kpj", r.q[order], inverse)
    sine_of = np.minimum(wavelength / 2 * np.linalg.norm(q, axis=2), 0.9999)
    return 2 * np.degrees(np.arcsin(sine_of)), intensity[order]


def _smeared(place: Floats, intensity: Floats, grid: Floats) -> Floats:
    """[K, n]: the patterns of the sticks, unit area each, as blurred as the data."""
    step, n = grid[1] - grid[0], len(grid)
    where = (place - grid[0]) / step
    lower = np.floor(where).astype(np.int64)
    upper_share = where - lower
    rows = np.arange(len(place))[:, None] * n
    total = np.zeros(len(place) * n)
    for column, share in ((lower, 1 - upper_share), (lower + 1, upper_share)):
        inside = (column >= 0) & (column < n)
        flat = np.where(inside, column + rows, 0)
        total += np.bincount(flat.ravel(), (np.where(inside, share, 0.0) * intensity).ravel(), len(total))
    return _smoothed(total.reshape(len(place), n))


def _misfit(patterns: Floats, data: Floats, sigma: Floats) -> Floats:
    """[K]: the loss with the best scale of each, less counted where more is measured than calculated."""
    root = (patterns / sigma).astype(np.float32)  # half the memory to be moved; the best are fitted anyway
    y = (data / sigma).astype(np.float32)
    weights = np.ones_like(root)
    for _ in range(4):
        square = (weights * root**2).sum(1)
        scale = np.maximum((weights * root * y).sum(1) / np.maximum(square, 1e-30), 0.0)
        left = y - scale[:, None] * root
        weights = TOLERATED / np.maximum(left, TOLERATED)
    loss = np.where(left > TOLERATED, TOLERATED * left - TOLERATED**2 / 2, left**2 / 2)
    return loss.sum(1)
