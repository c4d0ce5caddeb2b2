"""A measured powder pattern."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from csp.diffraction.radiation import Radiation
from csp.errors import InputError

__all__ = ["Floats", "Pattern"]

Floats = NDArray[np.float64]

FEWEST, NARROWEST = 100, 10.0  # points, and degrees between the first and the last
SMALLEST_D = 1.0  # Å; what lies beyond tells polymorphs apart no better and is crowded
MOST = 4500  # points on the even grid
NEIGHBOURS = 2.0  # points, over which intensities are averaged before their errors are taken from them
FLOOR = 0.02  # of the mean intensity: no point is more certain than one of that intensity


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """Intensities against the diffraction angle.

    Attributes:
        name: Of the file.
        two_theta: [N], degrees, ascending.
        intensity: [N], counts, or in proportion to them.
        sigma: [N], one standard deviation of each.
        radiation: What it was measured with.
    """

    name: str
    two_theta: Floats
    intensity: Floats
    sigma: Floats
    radiation: Radiation

    @classmethod
    def measured(
        cls,
        name: str,
        two_theta: Floats,
        intensity: Floats,
        radiation: Radiation,
        sigma: Floats | None = None,
    ) -> Pattern:
        """A pattern as a file has it: checked, put in order.

        Args:
            sigma: None: as of counts, up to a factor that the scatter of the points tells.

        Raises:
            InputError: One sentence, for what is no powder pattern.
        """
        order = np.argsort(two_theta, kind="stable")
        x, y = two_theta[order], intensity[order]
        s = None if sigma is None else sigma[order]
        distinct = np.append(True, np.diff(x) > 0)
        x, y, s = x[distinct], y[distinct], None if s is None else s[distinct]
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise InputError(f"{name} has angles or intensities that are not numbers.")
        if len(x) < FEWEST:
            raise InputError(f"{name} has {len(x)} points; a powder pattern needs at least {FEWEST}.")
        if x[0] < 0 or x[-1] > 180:
            raise InputError(
                f"The first column of {name} goes from {x[0]:g} to {x[-1]:g}, which are no angles 2θ."
            )
        if x[-1] - x[0] < NARROWEST:
            raise InputError(
                f"{name} goes from {x[0]:g} to {x[-1]:g}° only, too narrow to tell crystals apart; "
                f"measure at least {NARROWEST:g}°."
            )
        if y.max() <= 0 or np.ptp(y) == 0:
            raise InputError(f"{name} has no intensities above zero, or all are equal.")
        if s is None:
            s = _counting_errors(y)
        elif not (np.isfinite(s).all() and (s >= 0).all() and s.max() > 0):
            raise InputError(f"{name} has standard deviations that are negative or not numbers.")
        else:
            s = np.maximum(s, np.median(s[s > 0]) * FLOOR)
        return cls(name, x, y, s, radiation)

    def __len__(self) -> int:
        return len(self.two_theta)

    @property
    def step(self) -> float:
        """Degrees between neighbouring points, the median."""
        return float(np.median(np.diff(self.two_theta)))

    def between(self, low: float, high: float) -> Pattern:
        """The part between two angles, degrees.

        Raises:
            InputError: If little or nothing is left.
        """
        chosen = (self.two_theta >= low) & (self.two_theta <= high)
        if chosen.sum() < FEWEST or np.ptp(self.two_theta[chosen]) < NARROWEST:
            raise InputError(
                f"Between {low:g} and {high:g}° {self.name} has too few points.", setting="range"
            )
        return self._chosen(chosen)

    def even(self, step: float = 0.0) -> Pattern:
        """On an even grid of at most `MOST` points, neighbours averaged, without what `SMALLEST_D` hides.

        Where the grid has a point and the pattern has none, σ is infinite.

        Args:
            step: Degrees between points at least.
        """
        sine = self.radiation.shortest / (2 * SMALLEST_D)
        last = 180.0 if sine >= 1 else 2 * np.degrees(np.arcsin(sine))
        shown = self._chosen(self.two_theta <= max(last, self.two_theta[0] + NARROWEST))
        x = shown.two_theta
        step = max(shown.step, step, (x[-1] - x[0]) / MOST)
        n = round((x[-1] - x[0]) / step) + 1
        grid = x[0] + step * np.arange(n)
        bins = np.clip(np.rint((x - x[0]) / step).astype(np.int64), 0, n - 1)
        count = np.bincount(bins, minlength=n)
        filled = count > 0
        mean = np.bincount(bins, shown.intensity, minlength=n)[filled] / count[filled]
        sigma = np.sqrt(np.bincount(bins, shown.sigma**2, minlength=n)[filled]) / count[filled]
        return replace(
            shown,
            two_theta=grid,
            intensity=np.interp(grid, grid[filled], mean),
            sigma=np.where(filled, np.interp(grid, grid[filled], sigma), np.inf),
        )

    def _chosen(self, chosen: NDArray[np.bool_]) -> Pattern:
        return replace(
            self,
            two_theta=self.two_theta[chosen],
            intensity=self.intensity[chosen],
            sigma=self.sigma[chosen],
        )


def _counting_errors(y: Floats) -> Floats:
    """[N]: √(a ȳ), as of counts that were multiplied by a, which second differences tell.

    ȳ is averaged over neighbours: errors from each count itself give more weight to those that are low by
    chance, and the background comes out one count too low everywhere (Mighell, Astrophys. J. 518, 380, 1999).

    The second difference of independent errors of variance a y has the variance 6 a y; that of the pattern
    itself is smaller than this in most places, so the median is used (0.4549 of the mean of χ² with one
    degree of freedom).
    """
    level = np.maximum(gaussian_filter1d(y, NEIGHBOURS), FLOOR * np.mean(np.maximum(y, 0)))
    second = y[:-2] - 2 * y[1:-1] + y[2:]
    scale = float(np.median(second**2 / (6 * level[1:-1]))) / 0.4549
    if scale <= 0:  # a calculated pattern, or a smoothed one
        scale = 1e-4 * float(np.mean(level))
    return np.sqrt(scale * level)
