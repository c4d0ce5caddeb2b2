"""Elastic constants by finite differences of forces and stress.

The second derivatives of the energy by strains and by displacements of the atoms are one matrix; what the
atoms give way by is taken out of it in closed form (Wu, Vanderbilt and Hamann, PRB 72, 035105, 2005), so that
no strained crystal has to be relaxed. The outcome is made to keep the symmetry of the crystal.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from csp.crystallography.operations import operations
from csp.crystals import Crystals
from csp.protocols import EnergyModel
from csp.relaxation.relax import GPA

__all__ = ["Elasticity", "elasticity"]

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
STRAIN, SHIFT = 0.004, 0.01  # of the finite differences; Å
SOFTEST = 1e-3  # of the stiffest mode of the atoms; softer ones, as moving all atoms alike, are left alone
AT_ONCE = 32  # crystals in one evaluation


@dataclass(frozen=True, slots=False, eq=False)
class Elasticity:
    """The stiffness of a crystal at zero pressure.

    Attributes:
        stiffness: float64 [6, 6], GPa, in Voigt's order xx yy zz yz xz xy and Cartesian axes of the cell.
    """

    stiffness: Tensor

    @property
    def stable(self) -> bool:
        """Does every small strain cost energy (Born's criterion)?"""
        return bool((torch.linalg.eigvalsh(self.stiffness) > 0.0).all())

    @cached_property
    def _compliance(self) -> Tensor:
        return torch.linalg.inv(self.stiffness)

    @property
    def bulk(self) -> float:
        """Hill's mean of Voigt's and Reuss's bulk modulus, GPa."""
        return 0.5 * float(self.stiffness[:3, :3].sum() / 9.0 + 1.0 / self._compliance[:3, :3].sum())

    @property
    def shear(self) -> float:
        """Hill's mean of Voigt's and Reuss's shear modulus, GPa."""
        c, s = self.stiffness, self._compliance
        voigt = (c.diagonal()[:3].sum() - _off(c) + 3.0 * c.diagonal()[3:].sum()) / 15.0
        reuss = 15.0 / (4.0 * s.diagonal()[:3].sum() - 4.0 * _off(s) + 3.0 * s.diagonal()[3:].sum())
        return 0.5 * float(voigt + reuss)


def _off(matrix: Tensor) -> Tensor:
    """The sum of xx·yy, xx·zz and yy·zz."""
    return matrix[0, 1] + matrix[0, 2] + matrix[1, 2]


def elasticity(crystal: Crystals, model: EnergyModel) -> Elasticity:
    """Of one relaxed crystal.

    Raises:
        InputError: For an element that the model does not know.
    """
    one = crystal.to(dtype=torch.float64)
    n = len(one.numbers)
    changed = [_strained(one, row, sign * STRAIN) for row in range(6) for sign in (1, -1)]
    changed += [_shifted(one, row, sign * SHIFT) for row in range(3 * n) for sign in (1, -1)]
    forces, stresses = [], []
    for first in range(0, len(changed), AT_ONCE):
        part = Crystals.cat(changed[first : first + AT_ONCE])
        found = model.evaluate(part, forces=True)
        assert found.forces is not None
        assert found.stress is not None
        forces.append(found.forces.double().reshape(len(part), 3 * n))
        stresses.append(found.stress.double())
    force, stress = torch.cat(forces), torch.cat(stresses)
    stress = torch.stack([stress[:, i, j] for i, j in VOIGT], 1)
    step = torch.tensor([STRAIN] * 6 + [SHIFT] * (3 * n), dtype=torch.float64)[:, None]
    by_force, by_stress = ((one[0::2] - one[1::2]) / (2.0 * step) for one in (force, stress))
    hessian = -0.5 * (by_force[6:] + by_force[6:].T)
    value, vector = torch.linalg.eigh(hessian)
    firm = value.abs() > SOFTEST * value.abs().max() if n > 1 else torch.zeros_like(value, dtype=torch.bool)
    response = by_force[:6] @ (vector[:, firm] / value[firm]) @ vector[:, firm].T  # Å per strain
    stiffness = by_stress[:6] + response @ by_stress[6:]
    stiffness = 0.5 * (stiffness + stiffness.T) / GPA
    return Elasticity(_symmetric(stiffness, operations(one).cartesian.double()))


def _strained(crystal: Crystals, row: int, size: float) -> Crystals:
    """A shear of Voigt is twice the component of the strain."""
    i, j = VOIGT[row]
    strain = torch.eye(3, dtype=torch.float64)
    strain[i, j] += 0.5 * size
    strain[j, i] += 0.5 * size
    return crystal.with_geometry(crystal.cell @ strain, crystal.frac)


def _shifted(crystal: Crystals, row: int, size: float) -> Crystals:
    shift = torch.zeros_like(crystal.frac)
    shift[row // 3, row % 3] = size
    return crystal.with_geometry(crystal.cell, crystal.frac + shift @ torch.linalg.inv(crystal.cell[0]))


def _symmetric(stiffness: Tensor, rotations: Tensor) -> Tensor:
    """The mean over orthogonal matrices [O, 3, 3] that keep the crystal."""
    index = torch.tensor([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
    full = stiffness[index][:, :, index]  # [3, 3, 3, 3]
    mean = torch.einsum("oai,obj,ock,odl,ijkl->abcd", rotations, rotations, rotations, rotations, full)
    mean = mean / len(rotations)
    i, j = torch.tensor(VOIGT).T
    return mean[i, j][:, i, j]
