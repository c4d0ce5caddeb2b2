"""Phonons of crystals of one's own, and down imaginary modes: springs stay, a loose packing closes up."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

import csp
from csp.crystals import Crystals
from csp.errors import InputError
from csp.lattice_dynamics.phonons import Stability
from csp.relaxation.relax import Status
from csp.search.vibrate import Vibrated, vibrate
from tests.lennard_jones import LennardJones
from tests.springs import Springs

A = 4.05


def springs() -> Springs:
    return Springs(1.5, A / math.sqrt(2))


def stretched() -> Crystals:
    return Crystals.from_atoms([bulk("Al", "fcc", a=1.02 * A)])


def test_a_crystal_of_springs_stays_and_is_relaxed_first(tmp_path: Path) -> None:
    ((one,),) = vibrate(stretched(), springs(), tmp_path, length=8.0)
    assert one.phonons is not None
    assert one.phonons.stability is Stability.STABLE
    assert float(one.crystal.volumes) == pytest.approx(A**3 / 4, rel=1e-3)
    assert one.per_atom == pytest.approx(0, abs=1e-5)


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    first = vibrate(stretched(), springs(), tmp_path, length=8.0)
    model = springs()
    again = vibrate(stretched(), model, tmp_path, length=8.0)
    assert model.evaluated == []
    assert again[0][0].phonons == first[0][0].phonons
    longer = vibrate(stretched(), model, tmp_path, length=16.0)
    assert set(model.evaluated) == {256}  # the relaxation is the same, the supercell is not
    assert longer[0][0].phonons is not None
    with pytest.raises(InputError, match="symprec"):
        vibrate(stretched(), model, tmp_path, length=8.0, symprec=0.01)


@pytest.fixture(scope="module")
def closed_up(tmp_path_factory: pytest.TempPathFactory) -> list[Vibrated]:
    cubic = Crystals.from_atoms([Atoms("Ar", cell=np.eye(3) * 2.1, pbc=True)])
    (chain,) = vibrate(cubic, LennardJones(), tmp_path_factory.mktemp("run"), length=4.5)
    return chain


def test_imaginary_modes_lead_down_to_a_stable_crystal(closed_up: list[Vibrated]) -> None:
    """A simple cubic packing has no shear stiffness under central forces; a close packing has."""
    first, *_, last = closed_up
    assert first.phonons is not None
    assert last.phonons is not None
    assert first.phonons.space_group == 221
    assert first.phonons.stability is Stability.UNSTABLE
    assert first.phonons.free_energy is None
    assert last.phonons.stability is not Stability.UNSTABLE
    energies = [one.per_atom or 0 for one in closed_up]
    assert energies == sorted(energies, reverse=True)
    assert first.way == ""
    assert all("THz" in one.way for one in closed_up[1:])
    # twelve neighbours in place of six
    assert energies[-1] < 1.5 * energies[0]


def test_a_crystal_that_cannot_be_relaxed_says_so(tmp_path: Path) -> None:
    crushed = Crystals.from_atoms(
        [Atoms("Ar2", positions=[[0, 0, 0], [0.3, 0, 0]], cell=np.eye(3) * 3, pbc=True)]
    )
    ((one,),) = vibrate(crushed, LennardJones(), tmp_path, length=8.0)
    assert one.phonons is None
    assert one.per_atom is None
    assert one.why_none == "it could not be relaxed"


def test_a_supercell_that_is_too_large_says_so(tmp_path: Path) -> None:
    ((one,),) = vibrate(stretched(), springs(), tmp_path, length=50.0)
    assert one.phonons is None
    assert "more than 1,000 atoms" in one.why_none
    assert Status.CONVERGED.has_energy


def test_in_python() -> None:
    ((one,),) = csp.phonons([bulk("Al", "fcc", a=A)], model=springs(), length=8.0)
    assert one.phonons is not None
    assert one.phonons.supercell_atoms == 32
    with pytest.raises(InputError, match="legth"):
        csp.phonons([bulk("Al")], model=springs(), legth=8.0)
