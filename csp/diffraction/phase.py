"""What of one crystal's peaks is fitted: strain, width, thermal motion and alignment of the crystallites."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from csp.diffraction.pattern import Floats
from csp.diffraction.radiation import Radiation
from csp.diffraction.reflections import Reflections

__all__ = ["Lines", "Phase"]

ISOTROPIC, BETWEEN_AXES = 0.04, 0.03  # largest strains: of all axes alike, and of one against the others
LONGEST_MARCH, SHORTEST_MARCH = 2.5, 0.25
MOTION = (-1.0, 6.0)  # Å², of B: errors of intensities that grow with the angle are taken up, too
STEP = 1e-4  # of ln r, for the derivative by it


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """L peaks of a phase (reflections times lines of the radiation), and derivatives by its n parameters.

    Attributes:
        place: [L], 2θ in degrees without the zero shift; NaN is never there: what cannot reflect has no
            intensity.
        width: [L], full width at half maximum, degrees.
        intensity: [L], electrons² with the Lorentz and polarisation factors.
        by_place, by_width, by_intensity: [L, n].
    """

    place: Floats
    width: Floats
    intensity: Floats
    by_place: Floats
    by_width: Floats
    by_intensity: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Phase:
    """A crystal in a pattern. Its parameters, in this order:

    - strains, one for each of `Reflections.strains`
    - ln w, with the width FWHM² = w² + u² tan²θ in degrees (Caglioti's without the linear term)
    - u, degrees
    - B, Å²: intensities fall as exp(−2 B sin²θ/λ²)
    - ln r of March and Dollase (J. Appl. Cryst. 19, 267, 1986); below 0 the crystallites lie flat on `axis`

    Attributes:
        reflections: Of the crystal.
        radiation: Of the pattern.
        axis: Which of `Reflections.axes` the crystallites are aligned along; None: they are not, and r is 1.
    """

    reflections: Reflections
    radiation: Radiation
    axis: int | None = None

    @property
    def n_strains(self) -> int:
        return len(self.reflections.strains)

    @property
    def n(self) -> int:
        """Parameters."""
        return self.n_strains + 4

    def start(self, width: float) -> Floats:
        """[n]: no strain, no alignment, a width in degrees."""
        return np.array([*np.zeros(self.n_strains), np.log(width), 0.1, 0.7, 0.0])

    def usual(self, width: float) -> tuple[Floats, Floats]:
        """[n] each: what the parameters are expected to be, and by how much they differ from it as a rule."""
        s = self.n_strains
        middle = np.array([*np.zeros(s), np.log(width), 0.1, 0.7, 0.0])
        spread = np.array([0.02, *np.full(s - 1, 0.01), 0.4, 0.3, 0.7, 0.35])
        return middle, spread

    def bounds(self, width: float) -> tuple[Floats, Floats]:
        """[n] each."""
        high = np.array([ISOTROPIC, *np.full(self.n_strains - 1, BETWEEN_AXES)])
        low = np.array([*-high, np.log(width / 3), 0.0, MOTION[0], np.log(SHORTEST_MARCH)])
        return low, np.array([*high, np.log(width * 4), 2.0, MOTION[1], np.log(LONGEST_MARCH)])

    def lines(self, parameters: Floats) -> Lines:
        """The peaks for these parameters [n]."""
        r, s = self.reflections, self.n_strains
        strain, (log_w, u, motion, log_march) = parameters[:s], parameters[s:]
        inverse = np.linalg.inv(np.eye(3) + np.tensordot(strain, r.strains, 1))
        q = r.q @ inverse
        g = np.linalg.norm(q, axis=1)
        g_by_strain = -np.einsum("pi,sij,pj->ps", q, r.strains @ inverse, q) / g[:, None]
        # what makes the intensity stays as it is without strain
        s_squared = (r.q**2).sum(1) / 4
        march, march_slope = self._march(log_march)
        strength = r.strength * np.exp(-2 * motion * s_squared)
        parts = []
        for wavelength, share in self.radiation.lines:
            sine = np.minimum(wavelength * g / 2, 0.9999)
            cosine = np.sqrt(1 - sine**2)
            tangent = sine / cosine
            width = np.sqrt(np.exp(2 * log_w) + (u * tangent) ** 2)
            bare = share * strength * lorentz_polarisation(np.sqrt(s_squared) * wavelength)
            n = len(g)
            by_place, by_width, by_intensity = np.zeros((3, n, self.n))
            by_place[:, :s] = np.degrees(wavelength / cosine)[:, None] * g_by_strain
            by_width[:, s] = np.exp(2 * log_w) / width
            by_width[:, s + 1] = u * tangent**2 / width
            by_intensity[:, s + 2] = -2 * s_squared * bare * march
            by_intensity[:, s + 3] = bare * march_slope
            place = 2 * np.degrees(np.arcsin(sine))
            parts.append((place, width, bare * march, by_place, by_width, by_intensity))
        return Lines(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _march(self, log_r: float) -> tuple[Floats, Floats]:
        """[P] each: mean over each orbit of (r² cos²α + sin²α / r)^(−3/2), and its derivative by ln r."""
        if self.axis is None:
            return np.ones(len(self.reflections)), np.zeros(len(self.reflections))
        return self.march(self.axis, log_r), (
            self.march(self.axis, log_r + STEP) - self.march(self.axis, log_r - STEP)
        ) / (2 * STEP)

    def march(self, axis: int, log_r: float) -> Floats:
        """[P]: by how much alignment along an axis strengthens each reflection."""
        r = self.reflections
        along = (r.directions @ r.axes[axis]) ** 2
        stretch = np.exp(log_r)
        factor = (stretch**2 * along + (1 - along) / stretch) ** -1.5
        return np.bincount(r.orbit, factor) / np.bincount(r.orbit)


def lorentz_polarisation(sine: Floats) -> Floats:
    """(1 + cos² 2θ) / (sin²θ cosθ) of an unpolarised beam, from sin θ; 0 where it passes 1."""
    square = np.minimum(sine**2, 0.9998)
    factor = (1 + (1 - 2 * square) ** 2) / (square * np.sqrt(1 - square))
    return np.where(sine < 0.9999, factor, 0.0)
