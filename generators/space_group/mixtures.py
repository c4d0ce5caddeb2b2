"""Mixtures for what is continuous in a crystal: von Mises for coordinates, Gaussians for cell parameters.

Draws take their random numbers from outside (uniform, per candidate) and so can be repeated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["GaussianMixture", "VonMisesMixture"]

KAPPA = (0.05, 2000.0)  # nearly uniform; 0.0036 of a lattice vector
SIGMA = (0.005, 1.0)
TRIES = 12  # each is accepted with a probability of at least 0.65
TINY = 2.0**-54


def _bounded(raw: Tensor, limits: tuple[float, float]) -> Tensor:
    """Logarithm of a positive number within the limits."""
    low, high = map(math.log, limits)
    return low + (high - low) * torch.sigmoid(raw)


@dataclass(frozen=True, slots=True, eq=False)
class VonMisesMixture:
    """Densities on the circle [0, 1): log_weight, mean (radians) and kappa, each [..., M]."""

    log_weight: Tensor
    mean: Tensor
    kappa: Tensor

    @classmethod
    def of(cls, raw: Tensor) -> VonMisesMixture:
        """From the 4 M outputs [..., 4 M] of a network."""
        weight, x, y, k = raw.chunk(4, dim=-1)
        return cls(weight.log_softmax(-1), torch.atan2(y, x + 1e-6), _bounded(k, KAPPA).exp())

    def log_prob(self, u: Tensor) -> Tensor:
        """ln of the density per unit of u [...]: ∫₀¹ p du = 1."""
        angle = 2.0 * math.pi * u[..., None] - self.mean
        each = self.kappa * (torch.cos(angle) - 1.0) - torch.special.i0e(self.kappa).log()
        return (self.log_weight + each).logsumexp(-1)

    def sample(self, uniform: Tensor, temperature: float = 1.0) -> Tensor:
        """[N] in [0, 1) from uniform [N, 1 + 3 TRIES]; weights^(1/T) and kappa / T.

        Best and Fisher, J. R. Stat. Soc. C 28, 152 (1979): rejection from a wrapped Cauchy distribution.
        After 12 rejections, one draw in 10⁵ at most, the mean is taken.
        """
        which = _chosen(self.log_weight / temperature, uniform[:, :1])
        mean, kappa = (t.double().gather(1, which) for t in (self.mean, self.kappa / temperature))
        u1, u2, u3 = uniform[:, 1:].chunk(3, dim=1)
        tau = 1.0 + (1.0 + 4.0 * kappa**2).sqrt()
        rho = (tau - (2.0 * tau).sqrt()) / (2.0 * kappa)
        r = (1.0 + rho**2) / (2.0 * rho)
        z = torch.cos(math.pi * u1)
        f = (1.0 + r * z) / (r + z)
        c = kappa * (r - f)
        accepted = (c / (u2 + TINY)).log() + 1.0 - c >= 0.0
        accepted |= c * (2.0 - c) - u2 > 0.0
        first = accepted.to(torch.uint8).argmax(1, keepdim=True)
        turn = torch.where(u3 < 0.5, -1.0, 1.0) * torch.arccos(f.clamp(-1.0, 1.0))
        angle = mean + torch.where(accepted.any(1, keepdim=True), turn.gather(1, first), 0.0)
        return (angle[:, 0] / (2.0 * math.pi)) % 1.0


VON_MISES_DRAWS = 1 + 3 * TRIES  # uniform numbers for a draw


@dataclass(frozen=True, slots=True, eq=False)
class GaussianMixture:
    """Mixtures of M diagonal Gaussians in D dimensions: log_weight [..., M]; mean, log_sigma [..., M, D]."""

    log_weight: Tensor
    mean: Tensor
    log_sigma: Tensor

    @classmethod
    def of(cls, raw: Tensor, dimensions: int) -> GaussianMixture:
        """From the M (1 + 2 D) outputs of a network."""
        parts = raw.unflatten(-1, (-1, 1 + 2 * dimensions))
        mean, sigma = parts[..., 1 : 1 + dimensions], parts[..., 1 + dimensions :]
        return cls(parts[..., 0].log_softmax(-1), mean, _bounded(sigma, SIGMA))

    def log_prob(self, x: Tensor, free: Tensor) -> Tensor:
        """ln of the density of the free ones of x [..., D].

        Args:
            free: [..., D], 0 or 1.
        """
        scaled = (x[..., None, :] - self.mean) * (-self.log_sigma).exp()
        each = -0.5 * scaled**2 - self.log_sigma - 0.5 * math.log(2.0 * math.pi)
        return (self.log_weight + (each * free[..., None, :]).sum(-1)).logsumexp(-1)

    def sample(self, uniform: Tensor, temperature: float = 1.0) -> Tensor:
        """[N, D] from uniform [N, 1 + D]: one component for all dimensions; weights^(1/T), σ √T."""
        which = _chosen(self.log_weight / temperature, uniform[:, :1])
        index = which[..., None].expand(-1, 1, self.mean.shape[-1])
        mean, sigma = (
            self.mean.double().gather(1, index)[:, 0],
            self.log_sigma.double().gather(1, index)[:, 0].exp(),
        )
        return mean + math.sqrt(temperature) * sigma * torch.special.ndtri(uniform[:, 1:] + TINY)


def _chosen(log_weight: Tensor, uniform: Tensor) -> Tensor:
    """int64 [N, 1]: a component each, log_weight [N, M] need not be normalised."""
    edges = log_weight.double().softmax(-1).cumsum(-1)
    return (uniform * edges[:, -1:] >= edges).sum(1, keepdim=True).clamp(max=log_weight.shape[1] - 1)
