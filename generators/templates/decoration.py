"""Skeletons of other ratios: known crystals whose orbits can be given a target's elements in its amounts.

A crystal of a new ratio often is a known arrangement of sites with its elements distributed otherwise: yttrium
aluminium garnet, Y3Al5O12, has aluminium on two kinds of sites of grossular, Ca3Al2Si3O12. So an entry is a
skeleton for a target if whole orbits can be given its elements in exactly its amounts; one element may come on
what are several elements' sites (a merge), or several on one's (a split). Of 100 crystals that no entry of
their own ratio has as structure, 18 have one of another ratio as skeleton, in the same space group and with as
many atoms. (Colouring the sites of a known skeleton otherwise is an old idea of crystal chemistry: derivative
structures, M. J. Buerger, J. Chem. Phys. 15, 1 (1947).)
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray

from csp.crystallography.symmetry import StandardCell, standard_cells, wyckoff_text
from csp.crystallography.wyckoff import LETTERS, wyckoff_table
from csp.crystals import Crystals
from csp.formula import reduced_formula
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.protocols import Proposals, Provenance
from csp.target import Target
from generators.templates.orbits import OrbitIndex, ways_to_fill
from generators.templates.prototypes import Leaders, radial_counts
from generators.templates.similarity import LearnedSimilarity
from generators.templates.substitution import SYMPREC, Ranking

__all__ = ["Decoration"]

SHARE = 0.05
MAX_ATOMS = 100
ANALYSED = 3000  # entries, those with the likest elements
WAYS = 10  # to fill the orbits of one entry that are looked at
PER_ARRANGEMENT = 3
AT_ONCE = 128  # crystals made and compared

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Decorated:
    """A skeleton with a target's elements on its orbits.

    Attributes:
        row: Of the library.
        score: ln of the probability of this structure.
        crystal: The primitive cell, a batch of one.
        space_group: Its number.
        wyckoff: Occupied positions, "Sr:a Ti:b O:c".
        sites: Which sites of the entry each element takes, in words.
    """

    row: int
    score: float
    crystal: Crystals
    space_group: int
    wyckoff: str
    sites: str


class Decoration:
    """Proposes entries with a target's elements on their orbits, likest elements first.

    How readily an element takes a site is what the learned substitutions say, averaged over the atoms; it is
    the measure that ranks the entries of the target's own ratio.
    """

    def __init__(self, name: str, library: Library, volume: VolumePrior, similarity: LearnedSimilarity) -> None:
        self._name = name
        self._library = library
        self._volume = volume
        self._similarity = similarity
        self._orbits = OrbitIndex(library)
        self._rankings: dict[Target, Ranking[Decorated]] = {}

    def propose(
        self, target: Target, n: int, *, seed: int, first: Proposals, start: int, remark: str = ""
    ) -> Proposals:
        """The decorated skeletons start … start + n − 1.

        Args:
            first: All candidates of the target's own ratio, after which these come: none of them is proposed
                again, and none is held for more probable than the last of them.
            remark: What is added to each `why`.
        """
        if target not in self._rankings:
            self._rankings[target] = Ranking(self._search(target, first), "exhausted")
        chosen = self._rankings[target].upto(start + n)[start:]
        before = first.requested + start
        provenance = [
            Provenance(
                generator=self._name,
                index=before + i,
                seed=seed,
                space_group=one.space_group,
                template_id=str(self._library.material_id[one.row]),
                wyckoff=one.wyckoff,
                score=one.score,
                why=self._why(one) + remark,
            )
            for i, one in enumerate(chosen)
        ]
        crystals = Crystals.cat([Crystals.empty(), *(one.crystal for one in chosen)])
        return Proposals(crystals, provenance, n, +Counter(exhausted=n - len(chosen)))

    def _search(self, target: Target, first: Proposals) -> Iterator[Decorated]:
        """Different crystals, the most probable first."""
        seen: dict[int, Leaders] = defaultdict(Leaders)
        arrangements: dict[tuple[int, int], Leaders] = defaultdict(Leaders)
        members: Counter[int] = Counter()
        for own, counts in zip(first.provenance, _shells(target, first.crystals), strict=True):
            seen[own.space_group].add(counts, 0)
        least = min((one.score for one in first.provenance), default=0.0)
        found = self._ranked(target)
        for start in range(0, len(found), AT_ONCE):
            part = found[start : start + AT_ONCE]
            made = self._made(target, [(row, way) for _, row, way in part])
            kept = [k for k, one in enumerate(made) if one is not None]
            if not kept:
                continue
            crystals = Crystals.cat([made[k].crystal for k in kept])
            shells = _shells(target, crystals)
            share = _shares(target)
            for k, counts in zip(kept, shells, strict=True):
                one = made[k]
                if next(seen[one.space_group].like(counts[None]), None) is not None:
                    continue
                blind = np.einsum("a,abr->r", share, counts)[None, None]
                group = arrangements[one.space_group, int(one.crystal.n_atoms)]
                like = next(group.like(blind[None]), None)
                number = len(members) if like is None else like[0]
                if members[number] >= PER_ARRANGEMENT:
                    continue
                if like is None:
                    group.add(blind, number)
                members[number] += 1
                seen[one.space_group].add(counts, 0)
                yield replace(one, score=min(part[k][0] + math.log(SHARE), least))

    # -- which entries, filled how ------------------------------------------------------------------

    def _ranked(self, target: Target) -> list[tuple[float, int, Ints]]:
        """(ln p, row, element of each orbit) of all that is looked at, the most probable first."""
        rows = self._chosen(target)
        numbers, counts = self._library.compositions(rows)
        apart = self._similarity.apart(target, numbers, counts)
        weights: list[float] = []
        filled: list[tuple[int, Ints]] = []
        for row, own, whole, atom, cell in zip(
            rows.tolist(), numbers, apart.whole, apart.atom, self._orbits.of(rows), strict=True
        ):
            if cell is None or len(cell.numbers) // target.n_atoms not in target.formula_units:
                continue
            units = len(cell.numbers) / target.n_atoms
            if units % 1:
                continue
            _, site, size = np.unique(cell.orbits, return_index=True, return_counts=True)
            ways = ways_to_fill(tuple(size.tolist()), tuple(int(units) * c for c in target.counts))
            kind = (cell.numbers[site][:, None] == own).argmax(1)
            ways = ways[~_exchanged(ways, kind, len(target.counts))]
            cost = atom[ways, kind] @ (size / size.sum())
            best = np.argsort(cost.round(9), kind="stable")[:WAYS]
            s = self._similarity.kernel(whole + cost[best], np.array(units))
            weights += s.tolist()
            filled += [(row, way) for way in ways[best]]
        if not weights:
            return []
        w = np.array(weights)
        ln_p = w - np.logaddexp.reduce(w)
        return [(float(ln_p[k]), *filled[k]) for k in np.argsort(-ln_p.round(9), kind="stable").tolist()]

    def _chosen(self, target: Target) -> Ints:
        """The entries with the likest elements of those that can have the number of atoms, in order."""
        library = self._library
        rows = library.all_rows()
        n = library.n_atoms[rows]
        sizes = target.n_atoms * np.array(target.formula_units)
        sizes = np.unique(sizes[sizes <= MAX_ATOMS] * np.array([[1], [2], [3], [4]]))  # as stored: centred
        fits = np.isin(n, sizes) & (library.space_group[rows] > 1)
        if target.space_groups is not None:
            fits &= np.isin(library.space_group[rows], list(target.space_groups))
        rows = np.setdiff1d(rows[fits], library.own_rows(target))
        numbers, counts = library.compositions(rows)
        apart = self._similarity.apart(target, numbers, counts)
        amount = np.array(target.counts) / target.n_atoms
        padded = np.where(counts[:, None] == 0, np.inf, apart.atom)
        share = counts / counts.sum(1, keepdims=True)
        nearest = np.maximum(
            padded.min(2, initial=np.inf) @ amount, (apart.atom.min(1, initial=np.inf) * share).sum(1)
        )
        s = self._similarity.kernel(apart.whole + nearest, library.n_atoms[rows] / target.n_atoms)
        return np.sort(rows[np.argsort(-s.round(9), kind="stable")[:ANALYSED]])

    # -- the crystals -------------------------------------------------------------------------------

    def _made(self, target: Target, filled: list[tuple[int, Ints]]) -> list[Decorated | None]:
        """None where the target's constraints do not allow what comes out."""
        rows = np.array([row for row, _ in filled])
        skeletons = [cell for cell in self._orbits.of(rows) if cell is not None]
        elements = np.array(target.numbers)
        atoms = [
            elements[way[np.unique(cell.orbits, return_inverse=True)[1]]]
            for cell, (_, way) in zip(skeletons, filled, strict=True)
        ]
        crystals = Crystals.from_arrays([c.cell for c in skeletons], [c.frac for c in skeletons], atoms)
        crystals = crystals.scaled_to(self._volumes(target, rows, crystals))
        found: list[Decorated | None] = []
        for cell, skeleton, (row, way) in zip(
            standard_cells(crystals, SYMPREC), skeletons, filled, strict=True
        ):
            if (
                cell is None
                or not target.allows_group(cell.space_group)
                or len(cell.numbers) // target.n_atoms not in target.formula_units
            ):
                found.append(None)
                continue
            _, site = np.unique(cell.orbits, return_index=True)
            found.append(
                Decorated(
                    row,
                    0.0,
                    Crystals.from_arrays([cell.cell], [cell.frac], [cell.numbers]),
                    cell.space_group,
                    wyckoff_text((int(cell.numbers[k]), cell.letters[k]) for k in site),
                    _sites(elements, skeleton, way),
                )
            )
        return found

    def _volumes(self, target: Target, rows: Ints, crystals: Crystals) -> torch.Tensor:
        """Å³ [B]: those of the entries by the ratio of what the prior predicts for the two compositions; of
        entries whose elements stand in for others, what it predicts for the target."""
        numbers, counts = (torch.from_numpy(x) for x in self._library.compositions(rows))
        units = crystals.n_atoms / target.n_atoms
        new = units * self._volume.predict(target.numbers, target.counts)
        old = self._volume.volumes(numbers, counts) * crystals.n_atoms / counts.sum(1)
        stands_in = torch.from_numpy(self._library.stand_in(rows))
        return torch.where(stands_in, new, crystals.volumes * new / old)

    def _why(self, one: Decorated) -> str:
        entry = self._library.crystals([one.row])
        formula, name = reduced_formula(entry.numbers.tolist()), self._library.material_id[one.row]
        return f"sites of {formula} ({name}) given other elements: {one.sites}"


def _exchanged(ways: Ints, kind: Ints, k: int) -> NDArray[np.bool_]:
    """bool [W]: which ways only exchange the entry's elements, kinds [r] of the orbits, for others?"""
    pairs = ways * (kind.max() + 1) + kind
    n_pairs = (np.diff(np.sort(pairs, axis=1), axis=1) > 0).sum(1) + 1
    return (n_pairs == k) & (len(np.unique(kind)) == k)


def _sites(elements: Ints, skeleton: StandardCell, way: Ints) -> str:
    """Such as "Al in 16a and 24d, O in 96h"."""
    table = wyckoff_table()
    _, site = np.unique(skeleton.orbits, return_index=True)
    named = []
    for k, z in enumerate(elements.tolist()):
        letters = sorted(skeleton.letters[s] for s in site[way == k])
        places = [int(table.first[skeleton.space_group]) + LETTERS.index(letter) for letter in letters]
        own = [f"{int(table.multiplicity[p])}{letter}" for p, letter in zip(places, letters, strict=True)]
        listed = " and ".join([", ".join(own[:-1]), own[-1]]) if len(own) > 1 else own[0]
        named.append(f"{chemical_symbols[z]} in {listed}")
    return ", ".join(named)


def _shells(target: Target, crystals: Crystals) -> NDArray[np.float32]:
    """float [B, k, k, R]: `radial_counts`, the kinds being the target's elements."""
    k = len(target.numbers)
    kind = (crystals.numbers[:, None] == torch.tensor(target.numbers)).int().argmax(1)
    return radial_counts(replace(crystals.to(dtype=torch.float32), numbers=kind), k).numpy()


def _shares(target: Target) -> Floats:
    return np.array(target.counts) / target.n_atoms
