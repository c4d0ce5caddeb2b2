"""Compositions as the encoders read them, from formulas."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from csp.formula import Formula
from surrogates.properties.model import shares
from surrogates.transformer.network import MAX_Z

__all__ = ["composition_of"]


def composition_of(formulas: Sequence[Formula]) -> Tensor:
    """float32 [B, L, 2], see `surrogates.properties.network.CompositionEncoder`."""
    from ase.data import atomic_numbers

    rows = []
    for formula in formulas:
        amounts = torch.zeros(MAX_Z + 1, dtype=torch.int64)
        for symbol, amount in formula.counts.items():
            amounts[atomic_numbers[symbol]] = amount
        rows.append(amounts)
    return shares(rows)
