"""Enthalpies of crystals over pressure: which is lowest where, and where one gives way to another.

Between the pressures at which a crystal was relaxed its enthalpy is the cubic that has the enthalpies and the
slopes dH/dP = V at both ends: for a crystal whose volume falls smoothly its error is far below a meV/atom.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from csp.relaxation.relax import GPA

__all__ = ["Enthalpies", "Transition"]

POINTS = 400  # of the grid on which crossings are looked for
REAL = 1e-3  # eV/atom; a crystal that is lowest by less than this is not

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Transition:
    """Where one crystal gives way to another.

    Attributes:
        pressure: GPa.
        below: Place of the one that is lowest at lower pressures.
        above: Place of the one that is lowest at higher pressures.
        volume_change: Share of the volume that is lost, at this pressure.
    """

    pressure: float
    below: int
    above: int
    volume_change: float


@dataclass(frozen=True, eq=False)
class Enthalpies:
    """Of N crystals at P pressures.

    Attributes:
        pressures: float64 [P], GPa, ascending, at least one.
        enthalpy: float64 [N, P], eV/atom; NaN where a crystal could not be relaxed.
        volume: float64 [N, P], Å³/atom.
    """

    pressures: Floats
    enthalpy: Floats
    volume: Floats

    @cached_property
    def grid(self) -> Floats:
        """GPa, from the lowest to the highest pressure, the pressures themselves among them."""
        first, last = self.pressures[0], self.pressures[-1]
        return np.unique(np.concatenate([self.pressures, np.linspace(first, last, POINTS)]))

    @cached_property
    def curves(self) -> Floats:
        """float64 [N, len(grid)], eV/atom; NaN beside a pressure where a crystal could not be relaxed."""
        from scipy.interpolate import CubicHermiteSpline

        if len(self.pressures) == 1:
            return self.enthalpy.copy()
        found = np.full((len(self.enthalpy), len(self.grid)), np.nan)
        for k, (h, v) in enumerate(zip(self.enthalpy, self.volume, strict=True)):
            for j in range(len(self.pressures) - 1):
                part = slice(j, j + 2)
                if np.isfinite(h[part]).all():
                    inside = (self.grid >= self.pressures[j]) & (self.grid <= self.pressures[j + 1])
                    spline = CubicHermiteSpline(self.pressures[part], h[part], v[part] * GPA)
                    found[k, inside] = spline(self.grid[inside])
        return found

    @cached_property
    def lowest(self) -> NDArray[np.int64]:
        """int64 [len(grid)]: the place of the crystal that is lowest; −1 where none was relaxed. A crystal
        stays the lowest until another is so by more than noise."""
        places, now = [], -1
        for column in self.curves.T:
            if not np.isfinite(column).any():
                places.append(-1)
                continue
            best = int(np.nanargmin(column))
            if now < 0 or not column[best] > column[now] - REAL:
                now = best
            places.append(now)
        return np.array(places)

    def transitions(self) -> list[Transition]:
        """By ascending pressure."""
        found = []
        for k in range(1, len(self.grid)):
            one, other = int(self.lowest[k - 1]), int(self.lowest[k])
            if one != other and one >= 0 and other >= 0:
                found.append(self._transition(one, other, k))
        return found

    def _transition(self, below: int, above: int, k: int) -> Transition:
        """Of two crystals the last crossing before the grid's point k."""
        gap = self.curves[below] - self.curves[above]
        before = [j for j in range(1, k + 1) if gap[j - 1] <= 0 < gap[j]]
        j = before[-1] if before else k
        low, high = gap[j - 1], gap[j]
        share = 0.5 if high == low or not np.isfinite(low) else float(np.clip(-low / (high - low), 0, 1))
        pressure = float(self.grid[j - 1] + share * (self.grid[j] - self.grid[j - 1]))
        volumes = [float(np.interp(pressure, self.pressures, self.volume[place])) for place in (below, above)]
        return Transition(pressure, below, above, 1 - volumes[1] / volumes[0])
