"""The published values that property models learn, and the features of their crystals, kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from csp.crystals import Crystals
from csp.errors import InputError
from csp.files import write_arrays
from csp.library.tables import read_table
from csp.training.splits import hashed
from surrogates.properties.catalogue import PROPERTIES, Property, forward
from surrogates.properties.features import pooled
from surrogates.properties.model import composition_input
from surrogates.training.labelled import compositions, read_structures
from surrogates.transformer.surrogate import Surrogate

__all__ = ["Values", "chosen_ids", "read_values"]

AT_ONCE = 2000  # crystals whose features are computed, and kept, together


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """Crystals with values of some properties.

    Attributes:
        features: float32 [N, F], the surrogate's.
        composition: float32 [N, L, 2], see `composition_input`.
        names: [N], compositions as `surrogates.training.labelled.compositions` writes them.
        y: property → float64 [N], as it is learned (see `Property.scale`), NaN where it is not known.
        elements: [N], the atomic numbers of each.
    """

    ids: list[str]
    features: Tensor
    composition: Tensor
    names: list[str]
    y: dict[str, Tensor]
    elements: list[frozenset[int]]

    def rows(self, name: str) -> Tensor:
        """int64: where a property is known."""
        return torch.isfinite(self.y[name]).nonzero().flatten()


def chosen_ids(known: dict[str, dict[str, float]], limit: int | None) -> set[str]:
    """Ids to learn from: `limit` of each property, the same ones in every run, chosen by a hash of the id so
    that properties share most of them; None: all."""
    if limit is None:
        return {name for values in known.values() for name in values}
    return {name for values in known.values() for name in sorted(values, key=hashed)[:limit]}


def read_values(
    structures: Path,
    tables: Iterable[Path],
    surrogate: Surrogate,
    cache: Path,
    *,
    limit: int | None,
    max_atoms: int,
    exclude: frozenset[str] = frozenset(),
    properties: Iterable[str] = PROPERTIES,
    log: Callable[[str], None],
) -> Values:
    """The published values with features, which are kept in the folder `cache` and read the next time.

    Args:
        tables: Parquet tables with `material_id` and columns of `PROPERTIES`.
        limit: Crystals of each property at most.
        max_atoms: Larger cells are left out.
        exclude: Compositions of which no crystal is returned.
        properties: Names of `PROPERTIES`; the tables need have no others.
    """
    known = {name: _column(tables, PROPERTIES[name]) for name in properties}
    crystals, ids = read_structures(structures, chosen_ids(known, limit))
    names = compositions(crystals)
    elements = [frozenset(numbers.tolist()) for _, _, numbers in crystals.arrays()]
    usable = [
        k
        for k, (name, there) in enumerate(zip(names, elements, strict=True))
        if there <= surrogate.elements and name not in exclude and int(crystals.n_atoms[k]) <= max_atoms
    ]
    log(f"{len(usable):,} of {len(ids):,} crystals have known elements and at most {max_atoms} atoms.")
    crystals, ids = crystals[usable], [ids[k] for k in usable]
    y = {}
    for name, values in known.items():
        one = PROPERTIES[name]
        raw = torch.tensor([values.get(i, float("nan")) for i in ids], dtype=torch.float64)
        y[name] = raw if one.logged else forward(raw, one.scale)
    return Values(
        ids,
        _features(crystals, surrogate, cache, log),
        composition_input(crystals),
        [names[k] for k in usable],
        y,
        [elements[k] for k in usable],
    )


def _column(tables: Iterable[Path], one: Property) -> dict[str, float]:
    """id → value of a property, from the first of the tables that has its column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = list(tables)
    for path in tables:
        if one.column in pq.read_schema(path).names:
            columns = {"material_id": pa.large_string(), one.column: pa.float32()}
            table = read_table(path, columns, "table of properties")
            ids, values = table["material_id"].to_pylist(), table[one.column].to_pylist()
            return {i: v for i, v in zip(ids, values, strict=True) if v is not None and np.isfinite(v)}
    raise InputError(f"None of {', '.join(map(str, tables))} has the column {one.column} of {one.title}.")


def _features(crystals: Crystals, surrogate: Surrogate, cache: Path, log: Callable[[str], None]) -> Tensor:
    """float32 [N, F]; parts that are on disk for the same crystals and surrogate are read."""
    identity = f"{surrogate.label.checkpoint} {len(crystals)} {hashed(' '.join(crystals.ids()))}"
    parts: list[Tensor] = []
    for first in range(0, len(crystals), AT_ONCE):
        path = cache / f"features-{hashed(identity):016x}-{first:06d}.npz"
        if path.is_file():
            with np.load(path, allow_pickle=False) as kept:
                part: Any = kept["features"]
        else:
            part = (
                pooled(surrogate, crystals[range(first, min(first + AT_ONCE, len(crystals)))]).half().numpy()
            )
            write_arrays(path, features=part)
            log(f"features of {min(first + AT_ONCE, len(crystals)):,} of {len(crystals):,} crystals")
        parts.append(torch.from_numpy(part).float())
    return torch.cat(parts)
