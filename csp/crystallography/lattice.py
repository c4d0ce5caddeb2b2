"""Cells from parameters and short bases of lattices, in batches."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["cell_from_parameters", "minkowski_reduced"]

MAX_STEPS = 200  # far more than any cell of physical shape needs


def cell_from_parameters(lengths: Tensor, cosines: Tensor) -> Tensor:
    """Cells [B, 3, 3], rows the lattice vectors, a along x and b in the xy plane.

    Args:
        lengths: float [B, 3], a, b, c, Å.
        cosines: float [B, 3], of α, β, γ.

    Returns:
        NaN where no such cell exists.
    """
    a, b, c = lengths.unbind(1)
    cos_a, cos_b, cos_g = cosines.unbind(1)
    sin_g = (1 - cos_g**2).sqrt()
    y = (cos_a - cos_b * cos_g) / sin_g
    z = (1 - cos_b**2 - y**2).sqrt()
    zero = torch.zeros_like(a)
    rows = [a, zero, zero, b * cos_g, b * sin_g, zero, c * cos_b, c * y, c * z]
    return torch.stack(rows, dim=1).reshape(-1, 3, 3)


def minkowski_reduced(cell: Tensor) -> tuple[Tensor, Tensor]:
    """The shortest bases of lattices: cell [B, 3, 3] → T @ cell and T [B, 3, 3], integers with determinant 1.

    The greedy algorithm of Semaev (CaLC 2001) and Nguyen and Stehlé (ACM Trans. Algorithms 5, 46
    (2009)): each vector is shortened by the nearest combination of the shorter ones until none can
    be. A reduced basis has heights of at least 1/√2 of its shortest vector, so that the nearest
    image of a wrapped difference is among its 27 neighbours.
    """
    basis = cell.clone()
    change = torch.eye(3).to(cell).repeat(len(cell), 1, 1)
    for _ in range(MAX_STEPS):
        order = basis.square().sum(2).argsort(dim=1)[:, :, None].expand(-1, -1, 3)
        basis, change = basis.gather(1, order), change.gather(1, order)
        metric = basis @ basis.mT
        aa, ab, ac = metric[:, 0, 0], metric[:, 0, 1], metric[:, 0, 2]
        bb, bc = metric[:, 1, 1], metric[:, 1, 2]
        step = torch.eye(3).to(cell).repeat(len(cell), 1, 1)
        step[:, 1, 0] = -_rounded(ab / aa)
        # the nearest points of the plane lattice lie around the projection of c on the plane
        area = aa * bb - ab * ab
        m, n = torch.floor((ac * bb - bc * ab) / area), torch.floor((bc * aa - ac * ab) / area)
        corners = torch.stack([m, n, m + 1, n, m, n + 1, m + 1, n + 1, 0 * m, 0 * n], dim=1).reshape(-1, 5, 2)
        p, q = corners.unbind(2)
        length = (
            p * p * aa[:, None]
            + q * q * bb[:, None]
            + 2 * (p * q * ab[:, None] - p * ac[:, None] - q * bc[:, None])
        )
        length[:, 4] -= 1e-6 * metric[:, 2, 2]  # stay where nothing is gained
        nearest = corners.gather(1, length.argmin(dim=1)[:, None, None].expand(-1, 1, 2))[:, 0]
        # c is measured against the a and b of before, so it moves only where b stays
        step[:, 2, :2] = torch.where((step[:, 1, 0] == 0)[:, None], -nearest, torch.zeros_like(nearest))
        if bool((step == torch.eye(3).to(cell)).all()):
            break
        basis, change = step @ basis, step @ change
    sign = torch.linalg.det(change).round()[:, None, None]
    return basis * sign, change * sign


def _rounded(ratio: Tensor) -> Tensor:
    """To the nearest integer; ratios that are 1/2 but for rounding errors go to 0, so that the loop stops."""
    return torch.where(ratio.abs() < 0.5 + 1e-6, torch.zeros_like(ratio), ratio.round())
