"""Simulated powder patterns, spoilt as real ones are, and crystals as wrong as predicted ones are.

What spoils a pattern goes beyond what the fit describes: peaks are asymmetric and of anisotropic width,
single reflections are too strong or too weak (few large crystallites), crystallites are aligned along any
axis of low indices, the sample is displaced, and other phases are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from csp.crystallography.operations import operations
from csp.crystals import Crystals
from csp.diffraction.pattern import Floats, Pattern
from csp.diffraction.phase import Phase, lorentz_polarisation
from csp.diffraction.profile import spread
from csp.diffraction.radiation import Radiation
from csp.diffraction.reflections import Reflections, reflections

__all__ = ["Scan", "perfect", "relaxed_like", "scan", "simulate"]

SYMPREC = 0.05  # Å
ISOTROPIC, BETWEEN_AXES, LARGEST = (0.008, 0.013), 0.007, 0.035  # strains of a potential's cells
DISPLACED = 0.03  # Å, root mean square, of its atoms
WIDTH = 0.15  # degrees, of the peaks of perfect patterns
TAIL = 5  # peaks that an asymmetric one is made of


def relaxed_like(crystal: Crystals, rng: np.random.Generator) -> Crystals:
    """One crystal with errors as a potential's relaxation makes them, its symmetry kept."""
    symmetry = operations(crystal, SYMPREC)
    shape = rng.normal(0, BETWEEN_AXES, (3, 3))
    shape = symmetry.symmetrize_stress(torch.from_numpy((shape + shape.T) / 2)[None])[0].numpy()
    shape -= np.trace(shape) / 3 * np.eye(3)
    strain = shape + rng.normal(*ISOTROPIC) * np.eye(3)
    strain *= min(1.0, LARGEST / np.abs(np.linalg.eigvalsh(strain)).max())
    displaced = rng.normal(0, DISPLACED / np.sqrt(3), (len(crystal.numbers), 3))
    moved = symmetry.symmetrize_forces(torch.from_numpy(displaced)).numpy()
    cell = crystal.cell[0].numpy()
    return crystal.with_geometry(
        torch.from_numpy(cell @ (np.eye(3) + strain))[None],
        torch.from_numpy(crystal.frac.numpy() + moved @ np.linalg.inv(cell)),
    )


@dataclass(frozen=True, slots=True)
class Scan:
    """How a pattern is measured.

    Attributes:
        radiation: Its lines.
        range: First and last angle, degrees.
        step: Degrees.
        counts: Of the highest peak above the background.
        below: Background, of the highest peak.
        zero, displaced: Zero shift, and shift by the sample's height (times cos θ), degrees.
        asymmetry: Degrees, times cot 2θ: how far peaks reach to low angles.
    """

    radiation: Radiation
    range: tuple[float, float]
    step: float
    counts: float
    below: float
    zero: float
    displaced: float
    asymmetry: float


def scan(rng: np.random.Generator) -> Scan:
    """How a laboratory may measure: mostly Cu Kα, sometimes Co or Mo."""
    anode = str(rng.choice(["CuKa", "CoKa", "MoKa"], p=[0.75, 0.15, 0.1]))
    factor = {"CuKa": 1.0, "CoKa": 1.18, "MoKa": 0.45}[anode]
    low, high = rng.choice([8.0, 10.0, 15.0, 20.0]), rng.choice([70.0, 80.0, 90.0, 100.0])
    return Scan(
        radiation=Radiation.parse(anode),
        range=(float(low * factor), float(min(high * factor, 120.0))),
        step=float(rng.choice([0.01, 0.02, 0.04]) * max(factor, 0.5)),
        counts=float(10 ** rng.uniform(2.5, 4.3)),
        below=float(10 ** rng.uniform(-2, -0.4)),
        zero=float(rng.normal(0, 0.04)),
        displaced=float(rng.normal(0, 0.05)),
        asymmetry=float(rng.uniform(0, 0.02)),
    )


def simulate(
    name: str, phases: Sequence[tuple[Crystals, float]], how: Scan, rng: np.random.Generator
) -> Pattern:
    """A pattern of crystals.

    Args:
        phases: Each with its share of the intensity.
    """
    grid = np.arange(how.range[0], how.range[1] + how.step / 2, how.step)
    total = np.zeros(len(grid))
    for crystal, share in phases:
        own = _pattern(crystal, how, grid, rng)
        total += share * own / own.sum()
    total *= how.counts / total.max()
    total += how.below * how.counts * _background(grid, rng)
    return Pattern.measured(name, grid, rng.poisson(total).astype(np.float64), how.radiation)


def perfect(crystal: Crystals, how: Scan) -> Pattern:
    """A pattern of one crystal over the same angles, with nothing spoilt and no noise."""
    grid = np.arange(how.range[0], how.range[1] + how.step / 2, how.step)
    sine = np.sin(np.radians(grid[[0, -1]] / 2))
    r = reflections(crystal, 1.9 * sine[0] / how.radiation.longest, 2.1 * sine[1] / how.radiation.shortest)
    phase = Phase(r, how.radiation)
    lines = phase.lines(phase.start(WIDTH))
    y = spread(grid, lines.place, lines.width, 0.5).value @ lines.intensity
    return Pattern.measured("perfect", grid, y / y.max() + 0.01, how.radiation, np.full(len(grid), 0.01))


def _pattern(crystal: Crystals, how: Scan, grid: Floats, rng: np.random.Generator) -> Floats:
    """[N]: one phase, on some scale."""
    sine = np.sin(np.radians(grid[[0, -1]] / 2))
    r = reflections(crystal, 1.9 * sine[0] / how.radiation.longest, 2.1 * sine[1] / how.radiation.shortest)
    g = np.linalg.norm(r.q, axis=1)
    intensity = r.strength * np.exp(-2 * rng.uniform(0.3, 1.5) * g**2 / 4)
    intensity = intensity * _alignment(r, rng) * rng.lognormal(0, rng.uniform(0.03, 0.15), len(r))
    w, u = rng.uniform(0.05, 0.2), rng.choice([0.1, 0.3, 0.8]) * rng.uniform(0.3, 1.0)
    size = rng.choice([0.0, 0.1, 0.3]) * rng.uniform(0.3, 1.0)
    along = (r.q / g[:, None] @ rng.permutation(r.axes)[0]) ** 2
    wider = 1 + rng.uniform(0, 0.5) * along
    lorentzian = rng.uniform(0.2, 0.9)
    total = np.zeros(len(grid))
    for wavelength, share in how.radiation.lines:
        sine_of = np.minimum(wavelength * g / 2, 0.9999)
        theta = np.arcsin(sine_of)
        width = wider * np.sqrt(w**2 + (u * np.tan(theta)) ** 2 + (size / np.cos(theta)) ** 2)
        width *= 1.0 if wavelength > 1 else 0.6
        place = 2 * np.degrees(theta) + how.zero + how.displaced * np.cos(theta)
        bare = share * intensity * lorentz_polarisation(sine_of)
        for k in range(TAIL):
            back = 4 * how.asymmetry / np.tan(np.maximum(2 * theta, 0.1)) * (k / (TAIL - 1)) ** 2
            total += spread(grid, place - back, width, lorentzian).value @ (bare / TAIL)
    return total


def _alignment(r: Reflections, rng: np.random.Generator) -> Floats:
    """[P]: strengthened by alignment along one of the widest spaced net planes, of any of low indices."""
    factor = np.ones(len(r))
    if rng.random() < 0.7:
        along = (r.directions @ rng.permutation(r.axes)[0]) ** 2
        march = np.exp(rng.uniform(np.log(0.55), np.log(1.5)))
        strengthened = (march**2 * along + (1 - along) / march) ** -1.5
        factor = np.bincount(r.orbit, strengthened) / np.bincount(r.orbit)
    return factor


def _background(grid: Floats, rng: np.random.Generator) -> Floats:
    """[N]: smooth, of mean 1: air at low angles, a slope, glass or polymer."""
    x = (grid - grid[0]) / (grid[-1] - grid[0])
    below = 1 + rng.uniform(0, 1.5) * np.exp(-x / rng.uniform(0.05, 0.3)) + rng.uniform(-0.4, 0.4) * x
    if rng.random() < 0.5:
        place, width = rng.uniform(0.1, 0.5), rng.uniform(0.06, 0.15)
        below += rng.uniform(0.2, 1.5) * np.exp(-(((x - place) / width) ** 2))
    return below / below.mean()
