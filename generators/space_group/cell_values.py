"""The parameters of a cell as the space-group model counts them, and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from csp.crystallography.lattice import cell_from_parameters
from csp.crystallography.wyckoff import crystal_systems, wyckoff_table
from generators.space_group.model import FREE_CELL

__all__ = ["lattice_of", "values_of"]

_SYSTEM = torch.from_numpy(crystal_systems(np.arange(231)))
_COSINES = torch.tensor([[0.0, 0, 0]] * 4 + [[0, 0, -0.5]] * 2 + [[0, 0, 0]], dtype=torch.float64)[_SYSTEM]
_CENTRING = torch.linalg.det(wyckoff_table().to_primitive).round()


def values_of(lattice: Tensor, group: Tensor, n_atoms: Tensor, expected: Tensor) -> Tensor:
    """[B, 6]: ln of the volume per atom relative to the expected one, ln b/a, ln c/a, cosines of α, β, γ.

    Args:
        lattice: [B, 6], a, b, c in Å and the cosines, of the conventional cell.
        n_atoms: [B], of the primitive one.
        expected: [B], Å³ per atom, as `tokens.expected_volumes` gives them.
    """
    cell = cell_from_parameters(lattice[:, :3], lattice[:, 3:])
    volume = torch.linalg.det(cell) / (_CENTRING[group] * n_atoms)
    ratios = (lattice[:, 1:3] / lattice[:, :1]).log()
    return torch.cat([(volume / expected).log()[:, None], ratios, lattice[:, 3:]], 1)


def lattice_of(values: Tensor, group: Tensor, n_atoms: Tensor, expected: Tensor) -> Tensor:
    """[B, 6]: the reverse of `values_of`; what the group fixes is set. NaN where no such cell exists."""
    free = FREE_CELL[group].bool()
    values = values.double()
    ratios = torch.where(free[:, 1:3], values[:, 1:3], 0.0).exp()
    ratios = torch.cat([torch.ones_like(ratios[:, :1]), ratios], 1)
    cosines = torch.where(free[:, 3:], values[:, 3:], _COSINES[group])
    volume = values[:, 0].exp() * expected * n_atoms * _CENTRING[group]
    unit = torch.linalg.det(cell_from_parameters(ratios, cosines))
    return torch.cat([ratios * (volume / unit).pow(1 / 3)[:, None], cosines], 1)
