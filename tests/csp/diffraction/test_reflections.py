"""Reflections against pymatgen, multiplicities that are known, and invariances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import bulk, make_supercell
from pymatgen.analysis.diffraction.xrd import XRDCalculator

from csp.crystals import Crystals
from csp.diffraction.phase import lorentz_polarisation
from csp.diffraction.reflections import reflections
from csp.errors import InputError
from tests.csp.diffraction.samples import anatase, brookite, rutile, salt

WAVELENGTH = 1.5406


def peaks(crystal: Crystals) -> tuple[np.ndarray, np.ndarray]:
    """2θ, degrees, and intensities from 10 to 90°."""
    low, high = (2 * np.sin(np.radians(angle / 2)) / WAVELENGTH for angle in (10, 90))
    r = reflections(crystal, low, high, 0.0)
    sine = WAVELENGTH * np.linalg.norm(r.q, axis=1) / 2
    intensity = r.strength * lorentz_polarisation(sine)
    seen = intensity > 1e-9 * intensity.max()  # what a larger cell adds is zero but for rounding
    return 2 * np.degrees(np.arcsin(sine[seen])), intensity[seen]


@pytest.mark.parametrize("crystal", [rutile(), anatase(), brookite(), salt()])
def test_intensities_are_pymatgens(crystal: Crystals) -> None:
    pattern = XRDCalculator(WAVELENGTH).get_pattern(
        crystal.structures()[0], scaled=False, two_theta_range=(10, 90)
    )
    place, intensity = peaks(crystal)
    largest = max(pattern.y)
    for x, y in zip(pattern.x, pattern.y, strict=True):
        ours = intensity[np.abs(place - x) < 0.02].sum()
        theirs = np.array(pattern.y)[np.abs(np.array(pattern.x) - x) < 0.02].sum()
        assert abs(ours - theirs) < 1e-3 * largest + 1e-3 * y


def test_multiplicities_of_rock_salt() -> None:
    """111, 200, 220 and 311 have 8, 6, 12 and 24 equivalents; 100 and 110 are extinct."""
    r = reflections(salt(), 0.05, 0.6)
    order = np.argsort(np.linalg.norm(r.q, axis=1))
    assert (2 * np.bincount(r.orbit))[order].tolist() == [8, 6, 12, 24]
    assert np.allclose(5.64 * np.linalg.norm(r.q, axis=1)[order], np.sqrt([3, 4, 8, 11]))


def test_one_crystal_in_other_cells() -> None:
    small = bulk("NaCl", "rocksalt", a=5.64)
    large = make_supercell(small, [[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    large.rotate(25, (1, 2, 3), rotate_cell=True)
    large.positions += 0.3
    first, second = (peaks(Crystals.from_atoms([atoms])) for atoms in (small, large))
    assert len(first[0]) == len(second[0])
    order = np.argsort(first[0]), np.argsort(second[0])
    assert np.allclose(first[0][order[0]], second[0][order[1]])
    assert np.allclose(first[1][order[0]] * 16, second[1][order[1]])  # four times the atoms


@pytest.mark.parametrize(("crystal", "n"), [(salt(), 1), (rutile(), 2), (brookite(), 3)])
def test_strains_keep_the_symmetry(crystal: Crystals, n: int) -> None:
    """As many as the crystal system has free edges; they keep equivalent reflections together."""
    r = reflections(crystal, 0.05, 0.8)
    assert len(r.strains) == n
    assert np.allclose(r.strains[0], np.eye(3))
    assert np.allclose(np.trace(r.strains[1:], axis1=1, axis2=2), 0)
    inverse = np.linalg.inv(np.eye(3) + 0.02 * r.strains.sum(0))
    stretched = np.linalg.norm(r.directions @ inverse, axis=1)
    for orbit in range(len(r)):
        assert np.ptp(stretched[r.orbit == orbit]) < 1e-9


def test_a_crystal_without_symmetry_has_six_strains() -> None:
    given = brookite()
    moved = given.frac + torch.from_numpy(np.random.default_rng(0).normal(0, 0.02, given.frac.shape))
    cell = given.cell @ torch.tensor([[1, 0.02, 0.01], [0, 1, 0.03], [0, 0, 1.0]], dtype=torch.float64)
    r = reflections(given.with_geometry(cell, moved), 0.05, 0.5)
    assert len(r.strains) == 6
    assert len(r.orbit) == len(r)


def test_the_widest_net_planes_come_first() -> None:
    """Of anatase 101 (3.52 Å), then 001 and 100 by their shortest vectors: extinct planes are planes too."""
    r = reflections(anatase(), 0.05, 0.8)
    assert np.allclose(np.linalg.norm(r.axes, axis=1), 1)
    assert len(set(r.axis_names)) == len(r.axis_names) > 4


def test_what_has_no_scattering_factor() -> None:
    oganesson = Crystals.from_arrays([np.eye(3) * 4], [[[0, 0, 0]]], [[118]])
    with pytest.raises(InputError, match="Og"):
        reflections(oganesson, 0.05, 0.8)
