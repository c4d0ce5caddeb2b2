"""The least-squares fit of crystals to a measured pattern.

    y(2θ) = background + Σ scale × peaks(strain, widths, motion, alignment; zero shift, shape) + unknown

Scales and background are solved for exactly at each step (variable projection: Golub and Pereyra, Inverse
Problems 19, R1, 2003), with scales that cannot be negative; Kaufman's derivatives (BIT 15, 49, 1975). What is
measured and not calculated may be another phase: it counts less than what is calculated and not measured
(as in Huber's regression, on one side; compare David, J. Appl. Cryst. 34, 691, 2001).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, nnls

from csp.diffraction.background import background_columns, baseline, peak_width
from csp.diffraction.pattern import Floats, Pattern
from csp.diffraction.phase import Phase
from csp.diffraction.profile import spread

__all__ = ["SHAPE", "TOLERATED", "Fitted", "Measured", "fit", "loss_of"]

MODEL_ERROR = 0.10  # of the intensity above the background: crystals and texture are never described better
TOLERATED = 2.0  # standard deviations over the calculated intensity, from which on it counts as unknown
PRIOR = 3.0  # how many times what is expected of the parameters counts; neighbouring points err alike
ZERO, USUAL_ZERO = 0.3, 0.06  # degrees, largest and usual zero shift
SHAPE = (0.5, 0.25)  # Lorentzian share, and by how much it differs as a rule
POINTS = 5  # in the width of a peak, at most
ROUNDS = 3  # of weighing what is unknown


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A pattern prepared for fits.

    Attributes:
        pattern: On an even grid.
        below: [N], baseline.
        sigma: [N], with what no model describes.
        columns: [N, C], that the background is made of.
        width: Of a typical peak, degrees.
    """

    pattern: Pattern
    below: Floats
    sigma: Floats
    columns: Floats
    width: float

    @classmethod
    def of(cls, pattern: Pattern) -> Measured:
        even = pattern.even()
        below = baseline(even)
        width = peak_width(even, below)
        if width / POINTS > 1.3 * even.step:
            even = pattern.even(width / POINTS)
            below = baseline(even)
        net = np.maximum(even.intensity - below, 0.0)
        sigma = np.sqrt(even.sigma**2 + (MODEL_ERROR * net) ** 2)
        return cls(even, below, sigma, background_columns(even, below), width)

    @property
    def grid(self) -> Floats:
        return self.pattern.two_theta

    @property
    def g_range(self) -> tuple[float, float]:
        """1/d, 1/Å, of all that may reflect into the pattern."""
        x, radiation = self.grid, self.pattern.radiation
        sine = np.sin(np.radians(x[[0, -1]] / 2))
        return 0.94 * 2 * float(sine[0]) / radiation.longest, 1.06 * 2 * float(sine[1]) / radiation.shortest


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """Phases fitted to a pattern.

    Attributes:
        phases: The crystals.
        parameters: Zero shift in degrees and Lorentzian share, then those of each phase.
        scales: [phases], at least 0.
        calculated: [phases, N], the intensity of each.
        background: [N].
        loss: Half the sum of squares, with what is unknown counted less.
    """

    phases: tuple[Phase, ...]
    parameters: Floats
    scales: Floats
    calculated: Floats
    background: Floats
    loss: float

    def of_phase(self, k: int) -> Floats:
        """The parameters of one phase."""
        start = 2 + sum(phase.n for phase in self.phases[:k])
        return self.parameters[start : start + self.phases[k].n]

    @property
    def total(self) -> Floats:
        """[N]: all that is calculated."""
        return self.background + self.calculated.sum(0)


def fit(
    measured: Measured,
    phases: Sequence[Phase],
    start: Floats,
    *,
    free: NDArray[np.bool_] | None = None,
    rounds: int = ROUNDS,
    steps: int = 12,
) -> Fitted:
    """Fit phases to a pattern from a start.

    Args:
        start: Zero shift, Lorentzian share, and the parameters of each phase.
        free: bool [n], which parameters are fitted; None: all, none without phases.
        rounds: Of weighing what is unknown.
        steps: Of each round at most.
    """
    problem = _Problem(measured, tuple(phases))
    free = np.full(len(start), bool(phases)) if free is None else free
    low, high = problem.bounds
    parameters = np.clip(start, low + 1e-9, high - 1e-9)
    weights = problem.weights(parameters, np.ones(len(measured.grid)))
    for _ in range(rounds):
        if free.any():
            parameters = _Linear(problem, weights).least_squares(parameters, free, steps)
        weights = problem.weights(parameters, weights)
    return problem.fitted(parameters, weights)


def loss_of(left: Floats) -> float:
    """Half the sum of squares of residuals in standard deviations; linear where more than `TOLERATED` more
    is measured than calculated."""
    return float(np.where(left > TOLERATED, TOLERATED * left - TOLERATED**2 / 2, left**2 / 2).sum())


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    """Phases to be fitted to a pattern."""

    measured: Measured
    phases: tuple[Phase, ...]

    @property
    def usual(self) -> tuple[Floats, Floats]:
        parts = [phase.usual(self.measured.width) for phase in self.phases]
        middle = np.concatenate([[0.0, SHAPE[0]], *(part[0] for part in parts)])
        return middle, np.concatenate([[USUAL_ZERO, SHAPE[1]], *(part[1] for part in parts)])

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        parts = [phase.bounds(self.measured.width) for phase in self.phases]
        low = np.concatenate([[-ZERO, 0.0], *(part[0] for part in parts)])
        return low, np.concatenate([[ZERO, 1.0], *(part[1] for part in parts)])

    def patterns(self, parameters: Floats) -> Floats:
        """[N, phases]: each with the scale 1."""
        columns, start = [], 2
        for phase in self.phases:
            lines = phase.lines(parameters[start : start + phase.n])
            start += phase.n
            peaks = spread(self.measured.grid, lines.place + parameters[0], lines.width, parameters[1])
            columns.append(peaks.value @ lines.intensity)
        return np.column_stack(columns) if columns else np.zeros((len(self.measured.grid), 0))

    def slopes(self, parameters: Floats, scales: Floats) -> Floats:
        """[N, n]: of the sum of all phases, by the parameters."""
        total, start = np.zeros((len(self.measured.grid), len(parameters))), 2
        for phase, scale in zip(self.phases, scales, strict=True):
            own = slice(start, start + phase.n)
            start += phase.n
            if scale <= 0:
                continue
            lines = phase.lines(parameters[own])
            place, intensity = lines.place + parameters[0], scale * lines.intensity[:, None]
            peaks = spread(self.measured.grid, place, lines.width, parameters[1], slopes=True)
            total[:, own] = (
                peaks.by_place @ (intensity * lines.by_place)
                + peaks.by_width @ (intensity * lines.by_width)
                + peaks.value @ (scale * lines.by_intensity)
            )
            total[:, :1] += peaks.by_place @ intensity
            total[:, 1:2] += peaks.by_shape @ intensity
        return total

    def weights(self, parameters: Floats, now: Floats) -> Floats:
        """[N]: 1, and less where much more is measured than calculated; found by turns with the scales."""
        patterns = self.patterns(parameters)
        for _ in range(4):
            linear = _Linear(self, now)
            scales, background = linear.solve(patterns)
            over = (self.measured.pattern.intensity - patterns @ scales - background) / self.measured.sigma
            now = TOLERATED / np.maximum(over, TOLERATED)
        return now

    def fitted(self, parameters: Floats, weights: Floats) -> Fitted:
        patterns = self.patterns(parameters)
        scales, background = _Linear(self, weights).solve(patterns)
        left = (self.measured.pattern.intensity - patterns @ scales - background) / self.measured.sigma
        return Fitted(self.phases, parameters, scales, (patterns * scales).T, background, loss_of(left))


class _Linear:
    """The problem with weights that are given: what is linear is solved for."""

    def __init__(self, problem: _Problem, weights: Floats) -> None:
        measured = problem.measured
        self.problem = problem
        self.root = np.sqrt(weights) / measured.sigma
        self.columns = self.root[:, None] * measured.columns
        self.q, self.r = np.linalg.qr(self.columns)
        y = self.root * measured.pattern.intensity
        self.y, self.y_left = y, y - self.q @ (self.q.T @ y)

    def _left(self, columns: Floats) -> Floats:
        """What of weighted columns the background cannot be."""
        return columns - self.q @ (self.q.T @ columns)

    def _scales(self, patterns: Floats) -> tuple[Floats, Floats]:
        """Scales [phases], and the weighted patterns without what the background can be."""
        left = self._left(self.root[:, None] * patterns)
        if not left.shape[1]:
            return np.zeros(0), left
        norm = np.linalg.norm(left, axis=0)
        norm = np.where(norm > 0, norm, 1.0)
        q, r = np.linalg.qr(left / norm)
        return nnls(r, q.T @ self.y_left)[0] / norm, left

    def solve(self, patterns: Floats) -> tuple[Floats, Floats]:
        """Scales [phases] and background [N]."""
        scales, _ = self._scales(patterns)
        rest = self.y - self.root * (patterns @ scales)
        return scales, self.problem.measured.columns @ np.linalg.lstsq(self.r, self.q.T @ rest, rcond=1e-10)[
            0
        ]

    def residual(self, parameters: Floats) -> Floats:
        """Weighted, with what is expected of the parameters below."""
        scales, left = self._scales(self.problem.patterns(parameters))
        middle, usual = self.problem.usual
        return np.concatenate([self.y_left - left @ scales, PRIOR * (parameters - middle) / usual])

    def slopes(self, parameters: Floats) -> Floats:
        scales, left = self._scales(self.problem.patterns(parameters))
        slopes = -self._left(self.root[:, None] * self.problem.slopes(parameters, scales))
        active = left[:, scales > 0]
        if active.shape[1]:
            q, _ = np.linalg.qr(active)
            slopes -= q @ (q.T @ slopes)
        return np.concatenate([slopes, PRIOR * np.diag(1 / self.problem.usual[1])])

    def least_squares(self, parameters: Floats, free: NDArray[np.bool_], steps: int) -> Floats:
        """The parameters with the free ones fitted in so many steps at most."""
        low, high = self.problem.bounds

        def whole(some: Floats) -> Floats:
            full = parameters.copy()
            full[free] = some
            return full

        found = least_squares(
            lambda some: self.residual(whole(some)),
            parameters[free],
            jac=lambda some: self.slopes(whole(some))[:, free],
            bounds=(low[free], high[free]),
            x_scale=self.problem.usual[1][free],
            max_nfev=steps,
            ftol=1e-4,
            xtol=1e-4,
            gtol=1e-6,
        )
        return whole(found.x)
