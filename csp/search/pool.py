"""The candidates of a search that are left after filtering, and which of them go on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch

from csp.crystals import Crystals
from csp.protocols import Provenance
from csp.ranking.rank import order

__all__ = ["Pool", "merge_provenance", "order_by_score", "round_robin", "select_round_robin"]


@dataclass(frozen=True, slots=True)
class Pool:
    """N distinct plausible candidates, in the order of (generator, index).

    Attributes:
        ids: Of the candidates as they were built.
        crystals: The candidates, as they are now.
        provenance: Where each comes from: of each generator that proposed it the best, the one whose crystal
            stands for it first.
    """

    ids: list[str]
    crystals: Crystals
    provenance: list[tuple[Provenance, ...]]

    def take(self, index: Sequence[int]) -> Pool:
        """The chosen candidates, in this order."""
        return Pool([self.ids[k] for k in index], self.crystals[index], [self.provenance[k] for k in index])


def select_round_robin(pool: Pool, n: int, *energies: Sequence[float]) -> list[int]:
    """The first n of a pool with energies of one or more kinds, eV/atom (NaN: none).

    Each generator's lowest energies take turns with the generator's own order, where it has one:
    its scores know the chemistry, the energies of unrelaxed crystals know the geometry, and each
    is often wrong where the other is right.
    """
    lists: list[list[int]] = []
    for name, members in order_by_score(pool).items():
        by_energy = [_lowest_first(pool, members, per_atom) for per_atom in energies]
        scored = len({_own(pool.provenance[k], name).score for k in members}) > 1
        lists += [*by_energy, members] if scored or not any(by_energy) else by_energy
    return round_robin(lists, n)


def _lowest_first(pool: Pool, members: Sequence[int], per_atom: Sequence[float]) -> list[int]:
    """Those of the members that have an energy."""
    known = [k for k in members if math.isfinite(per_atom[k])]
    energies = torch.tensor([per_atom[k] for k in known], dtype=torch.float64)
    return [known[k] for k in order(energies, [pool.ids[k] for k in known]).tolist()]


def order_by_score(pool: Pool) -> dict[str, list[int]]:
    """Candidates of each generator, entries of the target itself and then the best score first, as proposed
    where scores tie.

    What several generators proposed is a candidate of each.
    """
    members: dict[str, list[int]] = {}
    for k, provenance in enumerate(pool.provenance):
        for one in provenance:
            members.setdefault(one.generator, []).append(k)
    return {
        name: sorted(index, key=lambda k: _best_first(_own(pool.provenance[k], name)))
        for name, index in members.items()
    }


def merge_provenance(
    same: Sequence[int], provenance: Iterable[Iterable[Provenance]]
) -> Mapping[int, tuple[Provenance, ...]]:
    """The provenance of each distinct candidate, from that of all that are the same.

    Args:
        same: [N], of each candidate the place of the one that stands for it, as
            `csp.matching.fingerprints.unique` gives it.
        provenance: Of each candidate.
    """
    found: dict[int, dict[str, Provenance]] = {k: {} for k in same}
    first: dict[int, str] = {}
    for place, (k, own) in enumerate(zip(same, provenance, strict=True)):
        for one in own:
            before = found[k].get(one.generator)
            if before is None or _best_first(one) < _best_first(before):
                found[k][one.generator] = one
            if place == k:
                first.setdefault(k, one.generator)
    return {k: tuple(sorted(found[k].values(), key=lambda p: p.generator != first[k])) for k in sorted(found)}


def _own(provenance: Iterable[Provenance], generator: str) -> Provenance:
    return next(p for p in provenance if p.generator == generator)


def _best_first(provenance: Provenance) -> tuple[bool, float, int]:
    """Entries of the target itself before all others."""
    return not provenance.own, -provenance.score, provenance.index


def round_robin(lists: Iterable[Sequence[int]], n: int) -> list[int]:
    """The first n distinct entries of the lists, taking turns."""
    turns = (k for turn in zip_longest(*lists) for k in turn if k is not None)
    return list(dict.fromkeys(turns))[:n]
