"""What rotations do to features: spherical harmonics to l = 3, their couplings and their rotation matrices.

Real harmonics of component normalisation, Σ_m Y_lm² = 2l + 1, in the order that e3nn gives them (l = 1 is
x, y, z; y is the polar axis), which is the one that Nequix was trained with. Features of order l have the
parity (-1)^l throughout, so that improper operations need no separate treatment.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

__all__ = ["HARMONICS", "L_MAX", "coupling", "rotation_matrices", "spherical_harmonics"]

L_MAX = 3
HARMONICS = (L_MAX + 1) ** 2


def spherical_harmonics(unit: Tensor) -> Tensor:
    """All Y_lm up to l = 3 of unit vectors: float [..., 3] → [..., 16]."""
    x, y, z = unit.unbind(-1)
    x2z2, y2 = x * x + z * z, y * y
    a, b = math.sqrt(15) * x * z, math.sqrt(15) / 2 * (z * z - x * x)
    s3, s5, s7, s15 = (math.sqrt(k) for k in (3, 5, 7, 15))
    s42, s168 = math.sqrt(42) / 6, math.sqrt(168) / 8
    return torch.stack(
        [
            torch.ones_like(x),
            s3 * x,
            s3 * y,
            s3 * z,
            a,
            s15 * x * y,
            s5 * (y2 - x2z2 / 2),
            s15 * y * z,
            b,
            s42 * (a * z + b * x),
            s7 * a * y,
            s168 * (4 * y2 - x2z2) * x,
            s7 / 2 * y * (2 * y2 - 3 * x2z2),
            s168 * z * (4 * y2 - x2z2),
            s7 * b * y,
            s42 * (b * z - a * x),
        ],
        -1,
    )


def rotation_matrices(operation: Tensor) -> list[Tensor]:
    """D_l for l = 0 … 3 with Y_l(v Q) = Y_l(v) D_l of orthogonal Q, float64 [N, 3, 3] → [N, 2l + 1, 2l + 1].

    Solved from the harmonics at fixed points, more of them than there are unknowns.
    """
    points = torch.nn.functional.normalize(_points().to(operation), dim=1)
    before, after = spherical_harmonics(points), spherical_harmonics(points @ operation)
    blocks = [slice(ell * ell, (ell + 1) ** 2) for ell in range(L_MAX + 1)]
    return [torch.linalg.pinv(before[:, block]) @ after[..., block] for block in blocks]


@cache
def _points() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(24, 3)))


@cache
def coupling(l1: int, l2: int, l3: int) -> np.ndarray:
    """Real Clebsch-Gordan coefficients [2 l1 + 1, 2 l2 + 1, 2 l3 + 1], Σ C² = 2 l3 + 1."""
    real = [_to_real(ell) for ell in (l1, l2, l3)]
    c = np.einsum("ij,kl,mn,ikn->jlm", real[0], real[1], real[2].conj().T, _clebsch_gordan(l1, l2, l3)).real
    return c / np.linalg.norm(c) * math.sqrt(2 * l3 + 1)


def _clebsch_gordan(j1: int, j2: int, j3: int) -> np.ndarray:
    """Coefficients of SU(2) by Racah's formula, [2 j1 + 1, 2 j2 + 1, 2 j3 + 1]."""
    f = math.factorial
    c = np.zeros((2 * j1 + 1, 2 * j2 + 1, 2 * j3 + 1))
    triangle = f(j3 + j1 - j2) * f(j3 - j1 + j2) * f(j1 + j2 - j3) / f(j1 + j2 + j3 + 1)
    for m1 in range(-j1, j1 + 1):
        for m2 in range(max(-j2, -j3 - m1), min(j2, j3 - m1) + 1):
            m3 = m1 + m2
            moments = math.prod(map(f, (j3 + m3, j3 - m3, j1 - m1, j1 + m1, j2 - m2, j2 + m2)))
            total = 0.0
            for k in range(j1 + j2 - j3 + 1):
                terms = (k, j1 + j2 - j3 - k, j1 - m1 - k, j2 + m2 - k, j3 - j2 + m1 + k, j3 - j1 - m2 + k)
                if min(terms) >= 0:
                    total += (-1) ** k / math.prod(map(f, terms))
            c[j1 + m1, j2 + m2, j3 + m3] = math.sqrt((2 * j3 + 1) * triangle * moments) * total
    return c


def _to_real(ell: int) -> np.ndarray:
    """From complex harmonics to real ones, with the phase (-i)^l that makes real couplings of them."""
    q = np.zeros((2 * ell + 1, 2 * ell + 1), dtype=complex)
    q[ell, ell] = 1.0
    root = math.sqrt(0.5)
    for m in range(1, ell + 1):
        q[ell - m, ell + m], q[ell - m, ell - m] = root, -1j * root
        q[ell + m, ell + m], q[ell + m, ell - m] = (-1) ** m * root, 1j * (-1) ** m * root
    return (-1j) ** ell * q
