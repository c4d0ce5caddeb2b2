"""Short bases against brute force."""

from __future__ import annotations

import itertools

import torch

from csp.crystallography.lattice import cell_from_parameters, minkowski_reduced
from csp.crystallography.neighbours import heights


def skewed_cells(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    cell = torch.randn((n, 3, 3), generator=generator).double() * 3
    shear = torch.tensor([[1.0, 0, 0], [7, 1, 0], [-4, 9, 1]]).double()
    return torch.cat([shear @ cell, torch.eye(3).double()[None] * 4, shear[None] * 3])


def test_the_same_lattice_and_handedness():
    cell = skewed_cells(200)
    reduced, change = minkowski_reduced(cell)
    torch.testing.assert_close(change @ cell, reduced)
    torch.testing.assert_close(change, change.round())
    torch.testing.assert_close(torch.linalg.det(change), torch.ones(len(cell)).double())


def test_vectors_are_the_shortest():
    """Minkowski's conditions: no small combination is shorter than its longest basis vector."""
    reduced, _ = minkowski_reduced(skewed_cells(300))
    lengths = reduced.norm(dim=2)
    for combination in itertools.product((-2, -1, 0, 1, 2), repeat=3):
        if any(combination):
            longest = max(k for k in range(3) if combination[k])
            other = (torch.tensor(combination).double() @ reduced).norm(dim=1)
            assert (other >= lengths[:, longest] - 1e-5).all(), combination
    assert (heights(reduced) >= 0.70 * lengths.amin(1)[:, None]).all()


def test_cell_from_parameters():
    lengths = torch.tensor([[4.0, 5.0, 6.0]]).double()
    cosines = torch.tensor([[0.1, -0.3, 0.2]]).double()
    cell = cell_from_parameters(lengths, cosines)
    unit = cell[0] / cell[0].norm(dim=1, keepdim=True)
    torch.testing.assert_close(cell.norm(dim=2), lengths)
    torch.testing.assert_close(
        torch.stack([unit[1] @ unit[2], unit[0] @ unit[2], unit[0] @ unit[1]]), cosines[0]
    )
    assert cell_from_parameters(lengths, torch.tensor([[-0.9, -0.9, -0.9]]).double()).isnan().any()
