"""Peaks to intensities on an even grid of angles, and what they owe to place, width and shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix

from csp.diffraction.pattern import Floats

__all__ = ["Spread", "spread"]

REACH = 8.0  # full widths at half maximum to either side
LN2 = float(np.log(2.0))


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Profiles of L peaks of unit area on N points, sparse [N, L], and their derivatives.

    Attributes:
        value: Per degree.
        by_place, by_width, by_shape: By the place and the width of each, degrees, and by the Lorentzian
            share; None where they were not asked for.
    """

    value: csc_matrix
    by_place: csc_matrix | None = None
    by_width: csc_matrix | None = None
    by_shape: csc_matrix | None = None


def spread(grid: Floats, place: Floats, width: Floats, lorentzian: float, *, slopes: bool = False) -> Spread:
    """Pseudo-Voigt peaks on an even grid: η Lorentz + (1 − η) Gauss of the same width.

    Args:
        grid: [N], degrees.
        place: [L], degrees; peaks beyond the grid reach into it.
        width: [L], full width at half maximum, degrees.
        lorentzian: η.
        slopes: With the derivatives.
    """
    step = grid[1] - grid[0]
    half = int(np.ceil(REACH * float(width.max(initial=step)) / step))
    column = np.floor((place - grid[0]) / step).astype(np.int64)[:, None] + np.arange(1 - half, half + 1)
    inside = (column >= 0) & (column < len(grid))
    column = np.where(inside, column, 0)
    starts = np.arange(len(place) + 1) * 2 * half

    def sparse(values: Floats) -> csc_matrix:
        data = np.where(inside, values, 0.0).ravel()
        return csr_matrix((data, column.ravel(), starts), shape=(len(place), len(grid))).T

    apart = grid[column] - place[:, None]
    wide = width[:, None]
    t = (apart / wide) ** 2
    gauss = np.sqrt(4 * LN2 / np.pi) / wide * np.exp(-4 * LN2 * t)
    lorentz = 2 / np.pi / wide / (1 + 4 * t)
    value = sparse((1 - lorentzian) * gauss + lorentzian * lorentz)
    if not slopes:
        return Spread(value)
    falls = 8 * LN2 * gauss, 8 * lorentz / (1 + 4 * t)  # -Γ²/x times the derivatives by x
    falling = (1 - lorentzian) * falls[0] + lorentzian * falls[1]
    return Spread(
        value,
        by_place=sparse(falling * apart / wide**2),
        by_width=sparse((falling * t - ((1 - lorentzian) * gauss + lorentzian * lorentz)) / wide),
        by_shape=sparse(lorentz - gauss),
    )
