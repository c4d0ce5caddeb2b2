"""The candidates of a search that are left after filtering, and which of them go on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch

from csp.crystals import Crystals
from csp.protocols import Provenance
from csp.rank import order

__all__ = ["Pool", "both_ways", "by_score", "interleave"]


@dataclass(frozen=True, slots=True)
class Pool:
    """N distinct plausible candidates, in the order of (generator, index)."""

    ids: list[str]
    crystals: Crystals
    provenance: list[Provenance]

    def take(self, index: Sequence[int]) -> Pool:
        return Pool([self.ids[k] for k in index], self.crystals[index], [self.provenance[k] for k in index])


def both_ways(pool: Pool, per_atom: Sequence[float], n: int) -> list[int]:
    """The first n of a pool with energies, eV/atom (NaN: none).

    Each generator's lowest energies take turns with the generator's own order, where it has one:
    its scores know the chemistry, the energies of unrelaxed crystals know the geometry, and each
    is often wrong where the other is right.
    """
    lists: list[list[int]] = []
    for members in by_score(pool).values():
        known = [k for k in members if math.isfinite(per_atom[k])]
        energies = torch.tensor([per_atom[k] for k in known], dtype=torch.float64)
        by_energy = [known[k] for k in order(energies, [pool.ids[k] for k in known]).tolist()]
        scored = len({pool.provenance[k].score for k in members}) > 1
        lists += [by_energy, members] if scored or not known else [by_energy]
    return interleave(lists, n)


def by_score(pool: Pool) -> dict[str, list[int]]:
    """Candidates of each generator, best score first, as proposed where scores tie."""
    members: dict[str, list[int]] = {}
    for k, provenance in enumerate(pool.provenance):
        members.setdefault(provenance.generator, []).append(k)
    return {
        name: sorted(index, key=lambda k: (-pool.provenance[k].score, pool.provenance[k].index))
        for name, index in members.items()
    }


def interleave(lists: Iterable[Sequence[int]], n: int) -> list[int]:
    """The first n distinct entries of the lists, taking turns."""
    turns = (k for turn in zip_longest(*lists) for k in turn if k is not None)
    return list(dict.fromkeys(turns))[:n]
