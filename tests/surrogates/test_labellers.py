"""Labellers: real GPAW calculations where GPAW is installed, a potential in its stead elsewhere."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from ase.build import bulk

from csp.crystals import Crystals
from csp.errors import InputError, MissingError
from csp.protocols import DONE, Labeller
from surrogates.dft.gpaw import Gpaw, GpawSettings
from surrogates.labellers import Potential, load_labeller
from tests.lennard_jones import LennardJones

COARSE = GpawSettings(cutoff=200.0, kspacing=0.6, time_limit=600.0)

needs_gpaw = pytest.mark.skipif(shutil.which("gpaw") is None, reason="GPAW is not installed")


def silicon(*edges: float) -> Crystals:
    return Crystals.from_atoms([bulk("Si", "diamond", a=a) for a in edges])


def test_a_potential_labels_as_itself(tmp_path: Path) -> None:
    labeller = Potential(LennardJones())
    assert isinstance(labeller, Labeller)
    crystals = silicon(5.2, 5.4)
    labels = labeller.compute(crystals, tmp_path)
    torch.testing.assert_close(labels.energy, LennardJones().evaluate(crystals).energy)
    assert labels.outcome == [DONE, DONE]
    assert not labels.failed
    assert labeller.label == LennardJones.label


def test_wrong_names_and_missing_codes_are_told() -> None:
    with pytest.raises(
        InputError, match=r"no labeller 'vasq'; did you mean vasp\? Known are gpaw, vasp, espresso, xs"
    ):
        load_labeller("vasq")
    with pytest.raises(MissingError, match="GPAW is not installed"):
        Gpaw(program="gpaw-that-is-not-there")


@needs_gpaw
def test_gpaw_finds_the_minimum_of_silicon_and_reuses_what_it_has(tmp_path: Path) -> None:
    gpaw = Gpaw(COARSE)
    crystals = silicon(5.1, 5.45, 5.8)
    labels = gpaw.compute(crystals, tmp_path)
    assert labels.outcome == [DONE] * 3
    low, best, high = labels.energy.tolist()
    assert best < low
    assert best < high
    assert -12.0 < best < -9.0  # two atoms, relative to free atoms in PBE (−5.4 eV/atom at convergence)
    started = time.monotonic()
    again = gpaw.compute(crystals[[2, 0]], tmp_path)
    assert time.monotonic() - started < 1.0
    torch.testing.assert_close(again.energy, labels.energy[[2, 0]])


@needs_gpaw
def test_forces_are_the_slope_of_the_energy(tmp_path: Path) -> None:
    atoms = bulk("Si", "diamond", a=5.45)
    moved = []
    for x in (0.08, 0.10, 0.12):
        one = atoms.copy()
        one.positions[1, 0] += x
        moved.append(one)
    crystals = Crystals.from_atoms(moved)
    energy = Gpaw(COARSE).compute(crystals, tmp_path).energy
    forces = json.loads((tmp_path / crystals.ids()[1] / "result.json").read_text())["forces"]
    assert forces[1][0] == pytest.approx(-float(energy[2] - energy[0]) / 0.04, abs=0.05)


@needs_gpaw
def test_failures_are_outcomes(tmp_path: Path) -> None:
    labels = Gpaw(COARSE).compute(Crystals.from_atoms([bulk("Yb", "fcc", a=5.5)]), tmp_path)
    assert labels.outcome == ["no PAW dataset for atomic number 70"]
    hasty = Gpaw(GpawSettings(time_limit=0.5))
    labels = hasty.compute(silicon(5.4), tmp_path)
    assert labels.outcome == ["not done in 0.5 s"]
    assert torch.isnan(labels.energy).all()
    few = Gpaw(GpawSettings(cutoff=200.0, kspacing=0.6, max_iterations=2))
    labels = few.compute(silicon(5.4), tmp_path)
    assert labels.failed == {"not converged": 1}
