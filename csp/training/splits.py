"""Names and hashes of compositions, and the committed rule of which are held out of all training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

__all__ = ["FOLDS", "HELD_OUT", "VALIDATION", "composition_name", "fold", "hashed"]

FOLDS = 50
HELD_OUT = 0  # the fold that benchmarks draw from
VALIDATION = 1  # the fold that settings are chosen by


def composition_name(numbers: Iterable[int], counts: Iterable[int]) -> str:
    """A reduced composition as "8:3 22:1 38:1" (atomic number : coprime amount); amount 0 pads."""
    amounts = sorted((int(z), int(n)) for z, n in zip(numbers, counts, strict=True) if n)
    return " ".join(f"{z}:{n}" for z, n in amounts)


def hashed(composition: str) -> int:
    """63 bits of a hash: how weights remember the compositions that they have seen."""
    digest = hashlib.blake2b(composition.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def fold(composition: str) -> int:
    """In which of 50 folds a composition is, by its name alone: the same in every library."""
    return hashed(f"fold of {composition}") % FOLDS
