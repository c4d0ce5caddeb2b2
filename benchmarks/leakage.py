"""Has a model seen a composition in training? Told for each target, never hidden."""

from __future__ import annotations

from enum import StrEnum

from csp.target import Target
from csp.training import cards
from surrogates.training.labelled import hashed
from surrogates.zoo import is_ours, seen_compositions

__all__ = ["Leak", "leak", "learned_by", "seen_by"]


class Leak(StrEnum):
    CLEAN = "clean"
    SEEN = "seen"
    UNKNOWN = "unknown"  # the training data of a published potential is not listed


def seen_by(model: str) -> frozenset[int] | None:
    """Hashed compositions in the weights of a model of ours; None for any other, whose data is not known."""
    return seen_compositions(model) if is_ours(model) else None


def learned_by(generator: str) -> frozenset[int] | None:
    """Hashed compositions in the weights of a generator; None for one that has learned nothing."""
    weights = cards.shipped(generator)
    return cards.seen_compositions(weights) if weights.is_file() else None


def leak(formula: str, seen: frozenset[int] | None) -> Leak:
    """Is the reduced composition of a formula among the hashed ones?"""
    if seen is None:
        return Leak.UNKNOWN
    target = Target.parse(formula)
    amounts = sorted(zip(target.numbers, target.counts, strict=True))
    return Leak.SEEN if hashed(" ".join(f"{z}:{n}" for z, n in amounts)) in seen else Leak.CLEAN
