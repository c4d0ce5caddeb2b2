"""A correction of a surrogate's energies that its weights cannot hold: a function of its last features.

With f̄ [W] the mean features of a crystal's atoms, w the old weights of the last layer, e = w·(f̄ − m) the
old energy per atom up to a constant and φ = (f̄ − m)/ς,

    Δ = b + a e + k(s)·c + (1 + k(s)·d) (v·φ)

is added to the energy per atom. k are five Gaussians of s = e/std(e), which decay where no label is near.
`surrogates.transfer.fit_correction` says how the weights are found.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

__all__ = ["CENTRES", "LastLayerCorrection"]

CENTRES = torch.linspace(-2.0, 2.0, 5, dtype=torch.float64)  # of the Gaussians, whose width is 1


@dataclass(frozen=True, slots=True, eq=False)
class LastLayerCorrection:
    """A fitted correction. Tensors are float64, for W features; P is the length of a row of `terms`.

    Attributes:
        centre: m, [W].
        spread: ς, [W].
        old: w, [W].
        scale: std(e), eV/atom.
        b: eV/atom.
        a: Without unit.
        c: [5], eV/atom.
        v: [W], eV/atom.
        d: [5].
        factor: L of the weights' covariance LLᵀ, [P, P]; the noise is in that of b.
    """

    centre: Tensor
    spread: Tensor
    old: Tensor
    scale: Tensor
    b: Tensor
    a: Tensor
    c: Tensor
    v: Tensor
    d: Tensor
    factor: Tensor

    @classmethod
    def of(cls, features: Tensor, old: Tensor) -> LastLayerCorrection:
        """The one that changes nothing, for crystals with features [N, W]."""
        centre = features.mean(0)
        zero = features.new_zeros(())
        return cls(
            centre,
            features.std(0, correction=0).clamp(min=1e-6),
            old,
            ((features - centre) @ old).std(correction=0).clamp(min=1e-6),
            b=zero,
            a=zero,
            c=torch.zeros_like(CENTRES),
            v=torch.zeros_like(old),
            d=torch.zeros_like(CENTRES),
            factor=features.new_zeros(0, 0),
        )

    def to(self, device: torch.device) -> LastLayerCorrection:
        return LastLayerCorrection(*(getattr(self, field.name).to(device) for field in fields(self)))

    @property
    def is_linear(self) -> bool:
        return not bool(self.c.any() or self.d.any())

    def change(self, features: Tensor) -> Tensor:
        """float64 [B]: Δ, eV/atom, from mean features [B, W]."""
        e, k, phi = self._parts(features)
        return self.b + self.a * e + k @ self.c + (1.0 + k @ self.d) * (phi @ self.v)

    def sigma(self, features: Tensor) -> Tensor:
        """float64 [B]: one standard deviation, eV/atom."""
        return (torch.cat(self.terms(features), 1) @ self.factor).norm(dim=1)

    def terms(self, features: Tensor) -> list[Tensor]:
        """Derivatives [B, 1], [B, 1], [B, 5], [B, W], [B, 5] of Δ by b, a, c, v and d."""
        e, k, phi = self._parts(features)
        by_v, by_d = (1.0 + k @ self.d)[:, None] * phi, (phi @ self.v)[:, None] * k
        return [torch.ones_like(e)[:, None], e[:, None], k, by_v, by_d]

    def as_linear(self) -> tuple[Tensor, Tensor]:
        """For one that is linear in the features: the change of the last layer's weights and constant,
        [W + 1], and the factor [W + 1, P] of their covariance."""
        width = len(self.old)
        zero = self.old.new_zeros(1)
        directions = [
            torch.cat([torch.zeros_like(self.old), zero + 1.0])[:, None],
            torch.cat([self.old, -(self.centre @ self.old)[None]])[:, None],
            self.old.new_zeros(width + 1, len(CENTRES)),
            torch.cat([torch.diag(1.0 / self.spread), -(self.centre / self.spread)[None]]),
            self.old.new_zeros(width + 1, len(CENTRES)),
        ]
        by_weight = torch.cat(directions, 1)
        return by_weight @ torch.cat(
            [self.b[None], self.a[None], self.c, self.v, self.d]
        ), by_weight @ self.factor

    @property
    def weights(self) -> Tensor:
        """float64 [P]: b, a, c, v, d."""
        return torch.cat([self.b[None], self.a[None], self.c, self.v, self.d])

    def linear_part(self, features: Tensor) -> Tensor:
        """float64 [B]: v·φ."""
        return self._parts(features)[2] @ self.v

    def _parts(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """e [B], k [B, 5], φ [B, W]."""
        centred = features - self.centre
        e = centred @ self.old
        k = torch.exp(-0.5 * (e[:, None] / self.scale - CENTRES.to(e.device)) ** 2)
        return e, k, centred / self.spread
