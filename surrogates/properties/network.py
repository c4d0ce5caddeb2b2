"""The two encoders of property models: of a crystal's pooled features, and of a composition alone.

Both turn what they are given into features h [B, H] that the value is linear in, so that one last layer,
one σ and one way of transfer serve both.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from surrogates.transformer.network import MAX_Z, periodic_table

__all__ = ["CompositionEncoder", "CrystalEncoder", "Encoder", "joined"]

FAR = 6.0  # standard deviations at which features are cut: beyond lies what no training crystal had


class Encoder(Protocol):
    """What turns x [B, …] into features [K, B, h] of K members, each with a last layer of its own."""

    members: int
    width: int

    def __call__(self, x: Tensor) -> Tensor: ...


class CrystalEncoder(nn.Module):
    """K small networks side by side on the pooled features [B, F] of crystals.

    Args:
        centre: float [F], mean of each feature over the training crystals.
        spread: float [F], its standard deviation.
        plain: float [F, h]: combinations of the scaled features that stand beside the members as they are,
            as one more of them; None: there are none.
        raw: Do all scaled features stand beside the members as they are, as so many more as they fill?
    """

    centre: Tensor
    spread: Tensor
    plain: Tensor | None

    def __init__(
        self,
        centre: Tensor,
        spread: Tensor,
        *,
        members: int = 3,
        width: int = 64,
        plain: Tensor | None = None,
        raw: bool = False,
    ) -> None:
        super().__init__()
        self.learned, self.width, self.raw = members, width, raw
        self.members = members + (plain is not None) + (math.ceil(len(centre) / width) if raw else 0)
        self.register_buffer("plain", plain)
        self.register_buffer("centre", centre.float())
        self.register_buffer("spread", spread.float())
        n = len(centre)
        self.first = nn.Parameter(torch.randn(n, members * width) / math.sqrt(n))
        self.first_bias = nn.Parameter(torch.zeros(members * width))
        self.second = nn.Parameter(torch.randn(members, width, width) / math.sqrt(width))
        self.second_bias = nn.Parameter(torch.zeros(members, 1, width))
        self.dropout = nn.Dropout(0.1)

    @property
    def architecture(self) -> dict[str, Any]:
        return {
            "input": "crystal",
            "features": len(self.centre),
            "members": self.learned,
            "width": self.width,
            "plain": self.plain is not None,
            "raw": self.raw,
        }

    @classmethod
    def empty(
        cls, *, features: int, members: int, width: int, plain: bool = False, raw: bool = False
    ) -> CrystalEncoder:
        """One to load weights into."""
        return cls(
            torch.zeros(features),
            torch.ones(features),
            members=members,
            width=width,
            plain=torch.zeros(features, width) if plain else None,
            raw=raw,
        )

    def with_plain(self, x: Tensor) -> CrystalEncoder:
        """A copy that hands on the principal components of inputs x [N, F] as well, beside its members."""
        scaled = self.scaled(x)
        direction = torch.linalg.svd(scaled - scaled.mean(0), full_matrices=False)[2][: self.width]
        plain = torch.zeros(x.shape[1], self.width)
        plain[:, : len(direction)] = direction.T / math.sqrt(x.shape[1])
        other = copy.deepcopy(self)
        other.plain, other.raw, other.members = plain, False, self.learned + 1
        return other

    def with_raw(self) -> CrystalEncoder:
        """A copy that hands on all features as well, beside its members."""
        other = copy.deepcopy(self)
        other.plain, other.raw = None, True
        other.members = self.learned + math.ceil(len(self.centre) / self.width)
        return other

    def scaled(self, x: Tensor) -> Tensor:
        """Inputs as the members read them."""
        return ((x - self.centre) / self.spread).clamp(-FAR, FAR)

    def forward(self, x: Tensor) -> Tensor:
        """float [K, B, h]."""
        x = self.scaled(x)
        a = functional.silu(x @ self.first + self.first_bias)
        a = self.dropout(a.unflatten(1, (self.learned, self.width)).transpose(0, 1))
        a = self.dropout(a + functional.silu(a @ self.second + self.second_bias))
        if self.raw:
            filled = functional.pad(x, (0, -x.shape[1] % self.width))
            return torch.cat([a, filled.unflatten(1, (-1, self.width)).transpose(0, 1)])
        return a if self.plain is None else torch.cat([a, (x @ self.plain)[None]])


class CompositionEncoder(nn.Module):
    """Attention over the elements of a composition (as Roost, Goodall and Lee, Nat. Commun. 11, 6280, 2020):
    each element attends to all, weighted by the amounts; the outcome is pooled likewise, by several heads.
    """

    place: Tensor

    def __init__(self, *, width: int = 64, layers: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.members, self.width, self.layers, self.heads = 1, width, layers, heads
        place = periodic_table()
        self.register_buffer("place", place, persistent=False)
        self.project = nn.Linear(place.shape[1] + 1, width)  # the amount is the last input
        self.own = nn.Embedding(MAX_Z + 1, width)
        nn.init.normal_(self.own.weight, std=0.1)
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(layers))
        self.attend = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        self.feed = nn.ModuleList(
            nn.Sequential(
                nn.RMSNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
            )
            for _ in range(layers)
        )
        self.pool = nn.Linear(width, heads)
        self.last = nn.Sequential(nn.Linear(heads * width, width), nn.SiLU())
        self.dropout = nn.Dropout(0.05)

    @property
    def architecture(self) -> dict[str, Any]:
        return {"input": "composition", "width": self.width, "layers": self.layers, "heads": self.heads}

    def forward(self, x: Tensor) -> Tensor:
        """float [1, B, h] from [B, L, 2]: atomic numbers (0 pads) and shares that sum to 1."""
        numbers, share = x[..., 0].long(), x[..., 1]
        h = self.own(numbers) + self.project(torch.cat([self.place[numbers], share[..., None]], -1))
        weight = torch.where(numbers > 0, share, 0.0).clamp(min=1e-12).log()  # an absent one counts nothing
        for norm, attend, feed in zip(self.norms, self.attend, self.feed, strict=True):
            q, k, v = (
                part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in attend(norm(h)).chunk(3, -1)
            )
            score = q @ k.mT / math.sqrt(q.shape[-1]) + weight[:, None, None, :]
            h = h + (torch.softmax(score, -1) @ v).transpose(1, 2).flatten(2)
            h = h + feed(h)
        pooled = torch.softmax(self.pool(h) + weight[..., None], 1).mT @ h
        return self.dropout(self.last(pooled.flatten(1)))[None]


def joined(encoders: Sequence[CrystalEncoder]) -> CrystalEncoder:
    """The first member of each, side by side: features that know several properties at once."""
    first = encoders[0]
    both = CrystalEncoder(first.centre, first.spread, members=len(encoders), width=first.width)
    w = first.width
    with torch.no_grad():
        both.first.copy_(torch.cat([one.first[:, :w] * _rescale(one, first) for one in encoders], 1))
        both.first_bias.copy_(torch.cat([one.first_bias[:w] + _shift(one, first) for one in encoders]))
        both.second.copy_(torch.stack([one.second[0] for one in encoders]))
        both.second_bias.copy_(torch.stack([one.second_bias[0] for one in encoders]))
    return both.eval().requires_grad_(False)


def _rescale(one: CrystalEncoder, first: CrystalEncoder) -> Tensor:
    """[F, 1]: features scaled as `first` does, to features as `one` does."""
    return (first.spread / one.spread)[:, None]


def _shift(one: CrystalEncoder, first: CrystalEncoder) -> Tensor:
    return ((first.centre - one.centre) / one.spread) @ one.first[:, : one.width]
