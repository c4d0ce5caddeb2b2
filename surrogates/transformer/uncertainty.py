"""How far may the surrogate be off? Last-layer prediction rigidity.

The energy is linear in the features of the last layer, so the spread of that layer's weights which the
training data leaves open gives a spread of the energy: σ² = α² φᵀ(ΦᵀΦ + ς²)⁻¹φ (Bigi, Chong, Ceriotti,
Grasselli, Mach. Learn.: Sci. Technol. 5, 045018, 2024). It costs one small matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Rigidity", "widening", "with_constant"]

RIDGES = torch.logspace(-8.0, 0.0, 17, dtype=torch.float64)  # of the mean square feature, times N
ROUNDING = 1e-4  # of a q, which is at most 1; where one is as close to that, it is lost in rounding how close


@dataclass(frozen=True, slots=True, eq=False)
class Rigidity:
    """σ(x) = |φ(x) L|, φ the mean features of a crystal's atoms and a 1.

    Attributes:
        factor: float64 [W + 1, W + 1]: L, a Cholesky factor of the covariance of the last weights, eV/atom.
    """

    factor: Tensor

    @classmethod
    def fit(cls, features: Tensor, held_out: Tensor | None, errors: Tensor) -> Rigidity:
        """From the features [N, W] of training crystals; ridge and α² by the likelihood of `errors` [M],
        eV/atom, made on crystals that were not trained on, with features held_out [M, W]. Of few errors it is
        as wide as Student's.

        held_out None: the errors are of the training crystals themselves, each made without it.
        """
        phi = with_constant(features)
        others = phi if held_out is None else with_constant(held_out)
        gram = phi.T @ phi
        scale = gram.diagonal().mean()
        best: tuple[float, Tensor] | None = None
        for ridge in RIDGES:
            covariance = torch.linalg.inv(gram + ridge * scale * torch.eye(len(gram), dtype=gram.dtype))
            q = torch.einsum("mi,ij,mj->m", others, covariance, others)
            if held_out is None:
                if float(q.max()) > 1.0 - ROUNDING:
                    continue
                q = q / (1.0 - q)  # what it is with the crystal left out of `gram` (Sherman-Morrison)
            alpha2 = (errors.double() ** 2 / q).mean()
            surprise = float((torch.log(alpha2 * q)).mean())  # twice −ln likelihood, constants aside
            if best is None or surprise < best[0]:
                best = surprise, alpha2 * covariance
        assert best is not None
        return cls(widening(len(errors)) * torch.linalg.cholesky(0.5 * (best[1] + best[1].T)))

    def sigma(self, features: Tensor) -> Tensor:
        """float64 [B], eV/atom, from mean features [B, W]."""
        return (with_constant(features) @ self.factor.to(features.device)).norm(dim=1)


def widening(freedom: int) -> float:
    """By how much to widen a σ that was found from so many degrees of freedom, so that ±σ holds as much as of
    a normal distribution, 68 %: by Student's. None is taken for one."""
    from scipy.stats import norm, t  # trainings, which import this, run where there is no SciPy

    return float(t.ppf(norm.cdf(1.0), max(freedom, 1)))


def with_constant(features: Tensor) -> Tensor:
    """float64 [B, W + 1]: features [B, W] and a column of ones, for the bias."""
    features = features.double()
    return torch.cat([features, features.new_ones(len(features), 1)], 1)
