"""Random numbers that are a pure function of what they are for.

Each candidate has a key made of (seed, generator, index), and every draw hashes the key with the
purpose of the draw. So a candidate comes out the same in whatever batch, shard, order or process it
is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import torch
from torch import Tensor

__all__ = ["Streams"]

GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # 2^64 / golden ratio, the increment of SplitMix64
FIRST, SECOND = 0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64)


@dataclass(frozen=True, slots=True)
class Streams:
    """N independent streams: key int64 [N].

    The generator is SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), random access by its counter.
    """

    key: Tensor

    @classmethod
    def of(cls, seed: int, name: str, index: Tensor) -> Streams:
        """The streams of the candidates index [N] of a generator."""
        root = cls(torch.tensor([seed & ((1 << 63) - 1)])).child(crc32(name.encode()))
        return cls(root.key.expand(len(index))).child(index)

    def __getitem__(self, index: Tensor) -> Streams:
        return Streams(self.key[index])

    def child(self, purpose: int | Tensor) -> Streams:
        """Streams for a purpose, one number for all or one for each [N]."""
        return Streams(_mixed(_mixed(self.key) + (torch.as_tensor(purpose) + 1) * GOLDEN))

    def uniform(self, n: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """[N, n] in [0, 1)."""
        counter = torch.arange(1, n + 1, device=self.key.device) * GOLDEN
        bits = _mixed(self.key[:, None] + counter)
        digits = 53 if dtype == torch.float64 else 24
        return ((bits >> (64 - digits)) & ((1 << digits) - 1)).to(dtype) * 2.0**-digits

    def normal(self, n: int) -> Tensor:
        """[N, n], standard normal, float64."""
        return torch.special.ndtri(self.uniform(n) + 2.0**-54)


def _mixed(x: Tensor) -> Tensor:
    """SplitMix64's output function; int64 wraps as uint64 does, shifts are made logical."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * FIRST
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * SECOND
    return x ^ ((x >> 31) & ((1 << 33) - 1))
