"""The radial networks of all layers as one table of few functions.

A layer of Nequix weighs its messages by R_c(r), some 1,300 functions of the distance alone. They come from
a network of 64 hidden units on a curve (one distance in, no other input), so that far fewer functions span
them: R(r) = Φ(r) V with the singular vectors of R on a grid of distances. Φ is tabulated as a cubic between
neighbouring distances; V stays a matrix. Both errors are below the rounding of single precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

__all__ = ["RadialTable", "radial_basis"]

KNOTS = 3000  # over the cutoff; cubics between them are right to 1e-8
RANK_TOLERANCE = 2e-7  # of the largest singular value
RANK_MULTIPLE = 16  # matrix products are faster with round numbers
CLOSEST = 1.0  # Å; distances below it, rare in crystals, have less weight


def radial_basis(r: Tensor, cutoff: float, n: int, power: float) -> Tensor:
    """Bessel functions under a polynomial envelope (Gasteiger et al., DimeNet, eq. 8): [N] → [N, n]."""
    k = torch.arange(1, n + 1, dtype=r.dtype, device=r.device) * (math.pi / cutoff)
    t, p = r / cutoff, power
    rest = (p + 1) * (p + 2) / 2 - p * (p + 2) * t + p * (p + 1) / 2 * t * t
    envelope = (1.0 - t**p * rest) * (t < 1)
    # sin(k r) / r = k sinc(k r / π), which is smooth at r = 0
    return (2.0 / cutoff) * k * torch.sinc(k / math.pi * r[:, None]) * envelope[:, None]


class RadialTable:
    """Φ of all layers side by side, as functions of the distance.

    Attributes:
        mix: float64 [q, columns] of each layer, V.
        sizes: q of each layer.
    """

    def __init__(
        self, networks: Sequence[Sequence[Tensor]], *, cutoff: float, n_basis: int, power: float
    ) -> None:
        self.cutoff = cutoff
        knots = torch.linspace(0.0, cutoff, KNOTS + 1, dtype=torch.float64)
        weight = (knots / CLOSEST).clamp(max=1.0)[:, None] ** 2
        spacing = cutoff / KNOTS
        values, slopes = [], []
        self.mix: list[Tensor] = []
        for w0, w1, w2 in networks:

            def hidden(r: Tensor, w0: Tensor = w0, w1: Tensor = w1) -> Tensor:
                return silu(silu(radial_basis(r, cutoff, n_basis, power) @ w0.double()) @ w1.double())

            left, size, right = torch.linalg.svd(w2.double(), full_matrices=False)
            to_output = left * size  # R = hidden @ to_output @ right, of which `right` keeps lengths
            value, slope = _with_slope(hidden, knots)
            _, s, directions = torch.linalg.svd(weight * (value @ to_output), full_matrices=False)
            rank = int((s > RANK_TOLERANCE * s[0]).sum())
            kept = directions[: RANK_MULTIPLE * math.ceil(rank / RANK_MULTIPLE)]
            values.append(value @ to_output @ kept.T)
            slopes.append(slope @ to_output @ kept.T)
            self.mix.append(kept @ right)
        self.sizes = [len(v) for v in self.mix]
        f, d = torch.cat(values, 1), spacing * torch.cat(slopes, 1)
        rise = f[1:] - f[:-1]
        # Hermite's cubic in t ∈ [0, 1] between two knots: [KNOTS, 4, q]
        self.coefficients = torch.stack(
            [f[:-1], d[:-1], 3 * rise - 2 * d[:-1] - d[1:], d[:-1] + d[1:] - 2 * rise], 1
        )

    def to(self, device: torch.device, dtype: torch.dtype) -> RadialTable:
        """In place; the matrices `mix` stay as they are."""
        self.coefficients = self.coefficients.to(device, dtype).contiguous()
        return self

    def __call__(self, r: Tensor) -> Tensor:
        """float [N, Σ q]: Φ at the distances [N], Å; zero from the cutoff on. Differentiable once."""
        found: Tensor = _Cubic.apply(r, self.coefficients, self.cutoff / KNOTS)
        return found


def _with_slope(function: Callable[[Tensor], Tensor], r: Tensor) -> tuple[Tensor, Tensor]:
    """A function of each r [N] by itself, with n values, and its slopes: each [N, n].

    The gradient is linear in the weights of the values: its own gradient by them are the slopes.
    """
    r = r.clone().requires_grad_()
    with torch.enable_grad():
        value = function(r)
        weights = torch.zeros_like(value, requires_grad=True)
        (total,) = torch.autograd.grad(value, r, weights, create_graph=True)
        (slope,) = torch.autograd.grad(total.sum(), weights)
    return value.detach(), slope


class _Cubic(torch.autograd.Function):
    """Piecewise cubics; their slopes are kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, r: Tensor, coefficients: Tensor, spacing: float) -> Tensor:
        place = (r / spacing).clamp(max=float(len(coefficients)))
        knot = place.long().clamp(max=len(coefficients) - 1)
        t = (place - knot)[:, None]
        c0, c1, c2, c3 = coefficients.index_select(0, knot).unbind(1)
        if ctx.needs_input_grad[0]:
            slope = torch.addcmul(c1, torch.addcmul(2 * c2, t, c3, value=3), t).div_(spacing)
            ctx.save_for_backward(slope)
        return torch.addcmul(c0, torch.addcmul(c1, torch.addcmul(c2, t, c3), t), t)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return (grads[0] * slope).sum(1), None, None
