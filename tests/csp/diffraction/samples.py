"""Crystals and patterns that the tests of powder diffraction share."""

from __future__ import annotations

import numpy as np
from ase.build import bulk
from ase.spacegroup import crystal as built

from csp.crystals import Crystals
from csp.diffraction.pattern import Floats, Pattern
from csp.diffraction.phase import Phase
from csp.diffraction.profile import spread
from csp.diffraction.radiation import Radiation
from csp.diffraction.reflections import reflections

COPPER = Radiation.parse("CuKa")


def rutile(a: float = 4.594, c: float = 2.959) -> Crystals:
    return Crystals.from_atoms(
        [built(("Ti", "O"), [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[a, a, c, 90, 90, 90])]
    )


def anatase(a: float = 3.785, c: float = 9.514) -> Crystals:
    sites = [(0, 0, 0), (0, 0, 0.208)]
    return Crystals.from_atoms(
        [built(("Ti", "O"), sites, spacegroup=141, setting=1, cellpar=[a, a, c, 90, 90, 90])]
    )


def brookite() -> Crystals:
    sites = [(0.1289, 0.0972, 0.8628), (0.0095, 0.1491, 0.1835), (0.2314, 0.1110, 0.5366)]
    return Crystals.from_atoms(
        [built(("Ti", "O", "O"), sites, spacegroup=61, cellpar=[9.184, 5.447, 5.145, 90, 90, 90])]
    )


def salt() -> Crystals:
    return Crystals.from_atoms([bulk("NaCl", "rocksalt", a=5.640)])


def calculated(
    crystal: Crystals, grid: Floats, *, strain: float = 0.0, zero: float = 0.0, log_march: float = 0.0
) -> Floats:
    """Intensities of one phase, the highest of them 1."""
    phase = Phase(reflections(crystal, 0.05, 1.05), COPPER, 0)
    parameters = phase.start(0.12)
    parameters[0], parameters[-1] = strain, log_march
    lines = phase.lines(parameters)
    y = spread(grid, lines.place + zero, lines.width, 0.6).value @ lines.intensity
    return y / y.max()


def counted(intensity: Floats, grid: Floats, *, counts: float = 3000.0, seed: int = 0) -> Pattern:
    """A scan with counting noise on a sloping background."""
    expected = counts * intensity + 40 + 800 / grid
    return Pattern.measured("scan", grid, np.random.default_rng(seed).poisson(expected).astype(float), COPPER)
