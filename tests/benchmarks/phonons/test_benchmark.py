"""The four crystals, and how far octahedra are turned."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ase import Atoms

from benchmarks.phonons.benchmark import CRYSTALS, REFERENCE, crystal, tilt
from csp.crystallography.symmetry import space_groups
from csp.crystals import Crystals


def test_the_crystals() -> None:
    assert [space_groups(crystal(name))[0] for name in CRYSTALS] == [227, 225, 225, 221]
    assert set(REFERENCE) < set(CRYSTALS)


def test_octahedra_of_the_cubic_crystal_are_not_turned() -> None:
    assert tilt(crystal("SrTiO3")) == pytest.approx(0, abs=1e-6)


def test_a_turn_about_one_axis_turns_two_bonds_in_three() -> None:
    """a0a0c−, by φ: the oxygens in the plane of the turn have Ti–O–Ti angles of 180° − 2φ."""
    phi, a = math.radians(5), 3.9
    shift = 0.5 * math.tan(phi)
    cubic = Atoms("SrTiO3", scaled_positions=crystal("SrTiO3").frac.numpy(), cell=[a] * 3, pbc=True)
    tilted = cubic.repeat(2)
    for k, atom in enumerate(tilted):
        if atom.symbol == "O":
            x, y, z = np.rint(atom.position / a * 2).astype(int)
            sign = (-1) ** (x // 2 + y // 2 + z // 2)
            if x % 2 == 0:  # between titaniums along x: moves along y
                tilted.positions[k, 1] += sign * shift * a
            elif y % 2 == 0:
                tilted.positions[k, 0] -= sign * shift * a
    assert tilt(Crystals.from_atoms([tilted])) == pytest.approx(10 / 3, rel=1e-6)
