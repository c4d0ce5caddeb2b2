"""Rows of the store's tables from tensors, and tensors from rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import sqlalchemy as sql
import torch
from torch import Tensor

from csp.crystals import Crystals
from csp.protocols import Label

__all__ = ["blobs", "column", "crystals_of", "label_row", "vectors", "vectors_of"]


def label_row(label: Label) -> dict[str, str]:
    """The columns of a label."""
    return {name: getattr(label, name) for name in Label.__slots__}


def column(rows: Sequence[sql.RowMapping], name: str) -> Tensor:
    """float64 [R]: a column of numbers; NaN where there is none."""
    values = [torch.nan if row[name] is None else row[name] for row in rows]
    return torch.tensor(values, dtype=torch.float64)


def blobs(crystals: Crystals) -> Iterator[dict[str, bytes]]:
    """The columns that hold each crystal, exactly."""
    for cell, frac, numbers in crystals.arrays():
        yield {
            "cell": cell.astype("<f8").tobytes(),
            "frac": frac.astype("<f8").tobytes(),
            "numbers": numbers.astype("u1").tobytes(),
        }


def crystals_of(rows: Sequence[sql.RowMapping]) -> Crystals:
    """The crystals of rows."""

    def joined(name: str, kind: str) -> np.ndarray:
        native = np.dtype(kind).newbyteorder("=")
        return np.frombuffer(b"".join(row[name] for row in rows), kind).astype(native)

    counts = [len(row["numbers"]) for row in rows]
    return Crystals(
        torch.from_numpy(joined("cell", "<f8").reshape(-1, 3, 3)),
        torch.from_numpy(joined("frac", "<f8").reshape(-1, 3)),
        torch.from_numpy(joined("numbers", "u1").astype(np.int64)),
        torch.from_numpy(np.cumsum([0, *counts], dtype=np.int64)),
    )


def vectors(values: Tensor, crystals: Crystals) -> list[bytes]:
    """Of each crystal the vectors of its atoms, values [A, 3], exactly: little-endian float64."""
    parts = values.double().cpu().split(crystals.n_atoms.tolist())
    return [part.numpy().astype("<f8").tobytes() for part in parts]


def vectors_of(rows: Sequence[sql.RowMapping], name: str) -> list[Tensor]:
    """float64 [n, 3] of each row."""
    return [
        torch.from_numpy(np.frombuffer(row[name], "<f8").astype(np.float64).reshape(-1, 3)) for row in rows
    ]
