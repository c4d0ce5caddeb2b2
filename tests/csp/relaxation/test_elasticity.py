"""Elastic constants: against pymatgen's formulas, energies of strained crystals, and symmetry."""

from __future__ import annotations

import pytest
import torch
from pymatgen.analysis.elasticity import ElasticTensor

from csp.crystals import Crystals
from csp.relaxation.elasticity import VOIGT, Elasticity, elasticity
from csp.relaxation.relax import GPA, relax
from tests.lennard_jones import LennardJones


def crystal(numbers: list[int], frac: list[list[float]], cell: torch.Tensor) -> Crystals:
    start = Crystals(
        cell.double()[None],
        torch.tensor(frac, dtype=torch.float64),
        torch.tensor(numbers),
        torch.tensor([0, len(numbers)]),
    )
    return relax(start, LennardJones(), max_force=1e-6, max_steps=400).crystals


def salt() -> Crystals:
    return crystal([11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], 2.7 * (1.0 - torch.eye(3)))


def wurtzite() -> Crystals:
    cell = torch.tensor([[3.2, 0, 0], [-1.6, 2.771, 0], [0, 0, 5.2]])
    places = [[1 / 3, 2 / 3, 0.0], [2 / 3, 1 / 3, 0.5], [1 / 3, 2 / 3, 0.38], [2 / 3, 1 / 3, 0.88]]
    return crystal([30, 30, 8, 8], places, cell)


def relaxed_energy(one: Crystals, strain: torch.Tensor) -> float:
    """eV of a strained crystal whose atoms have gone where no force is left, by Newton's steps."""
    model = LennardJones()
    now = one.with_geometry(one.cell @ (torch.eye(3, dtype=torch.float64) + strain), one.frac)
    for _ in range(400):
        found = model.evaluate(now, forces=True)
        assert found.forces is not None
        if float(found.forces.abs().max()) < 1e-8:
            break
        now = now.with_geometry(now.cell, now.frac + 0.02 * found.forces @ torch.linalg.inv(now.cell[0]))
    return float(model.evaluate(now).energy[0])


@pytest.mark.parametrize("make", [salt, wurtzite])
def test_the_stiffness_is_the_curvature_of_the_energy_of_relaxed_atoms(make) -> None:  # type: ignore[no-untyped-def]
    one = make()
    found = elasticity(one, LennardJones()).stiffness
    volume, size = float(one.volumes[0]), 2e-3
    zero = relaxed_energy(one, torch.zeros(3, 3, dtype=torch.float64))
    for row in (0, 2, 4):
        i, j = VOIGT[row]
        strain = torch.zeros(3, 3, dtype=torch.float64)
        strain[i, j] += 0.5 * size
        strain[j, i] += 0.5 * size
        energies = [relaxed_energy(one, sign * strain) for sign in (1, -1)]
        curvature = (sum(energies) - 2.0 * zero) / size**2 / volume / GPA
        assert float(found[row, row]) == pytest.approx(curvature, rel=0.02)


def test_cubic_crystals_have_three_constants() -> None:
    c = elasticity(salt(), LennardJones()).stiffness
    expected = torch.zeros(6, 6, dtype=torch.float64)
    expected[:3, :3] = c[0, 1]
    expected[range(3), range(3)] = c[0, 0]
    expected[range(3, 6), range(3, 6)] = c[3, 3]
    torch.testing.assert_close(c, expected, atol=1e-6 * float(c.max()), rtol=1e-5)


def test_moduli_are_pymatgens() -> None:
    found = elasticity(wurtzite(), LennardJones())
    reference = ElasticTensor.from_voigt(found.stiffness.numpy())
    assert found.bulk == pytest.approx(reference.k_vrh, rel=1e-9)
    assert found.shear == pytest.approx(reference.g_vrh, rel=1e-9)
    assert found.stable


def test_what_gains_by_shearing_is_not_stable() -> None:
    c = torch.diag(torch.tensor([100.0, 100, 100, 30, 30, -5], dtype=torch.float64))
    assert not Elasticity(c).stable
