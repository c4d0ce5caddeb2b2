"""Skeletons: known crystals whose orbits can be given a target's elements in exactly its amounts.

A crystal of a new ratio often is a known arrangement of sites with its elements distributed otherwise:
yttrium aluminium garnet, Y3Al5O12, has aluminium on two kinds of sites of grossular, Ca3Al2Si3O12. So an
entry of any ratio is a skeleton for a target if whole orbits can be given its elements in its amounts. One
element may come on the sites of several (a merge), or several on the sites of one (a split). Of 215
crystals of at most 15 atoms that no entry of their own ratio has as structure, 48 have an entry with the
same arrangement of sites, in the same space group and with as many atoms.

That sites of a known arrangement are coloured otherwise is an old idea of crystal chemistry: derivative
structures, M. J. Buerger, J. Chem. Phys. 15, 1 (1947).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

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
"""Probability that a decorated skeleton is the ground truth, over all of them. Of 1,728 held-out
compositions a fifth (352) has no entry of its own ratio as structure, and for 18 to 22 % of such crystals a
skeleton of another ratio is known: 4 %, and a little for skeletons in other space groups. ln p of one is ln
of this share and of its weight among all skeletons; never above what the generator holds possible for an
entry of the target's own ratio, which is better evidence."""
MAX_ATOMS = 100  # in the primitive cell
ANALYSED = 50_000  # atoms in the entries that are looked at, those with the likest elements
WAYS = 5  # to fill the orbits of one entry that are looked at
LOOKED_AT = 6000  # filled entries, the most probable
SAME_CRYSTAL = 0.1  # shells of crystals of one size that differ by less are the same, see `SAME_PROTOTYPE`
PER_ARRANGEMENT = 3  # ways to fill one arrangement of sites that are proposed: others are to have their turn
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


class Filled(NamedTuple):
    """Row of an entry, the element of each of its orbits (place in the target's), and ln p."""

    row: int
    way: Ints
    score: float


class Decoration:
    """Proposes entries with a target's elements on their orbits, likest elements first.

    How readily an element takes a site is what the learned substitutions say, averaged over the atoms; it is
    the measure that ranks the entries of the target's own ratio.
    """

    def __init__(
        self, name: str, library: Library, volume: VolumePrior, similarity: LearnedSimilarity
    ) -> None:
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
        seen: dict[tuple[int, int], Leaders] = defaultdict(lambda: Leaders(SAME_CRYSTAL))
        sizes = first.crystals.n_atoms.tolist()
        for own, n, counts in zip(first.provenance, sizes, _shells(target, first.crystals), strict=True):
            seen[own.space_group, n].add(counts, 0)
        arrangements: dict[tuple[int, int], Leaders] = defaultdict(Leaders)
        members: Counter[int] = Counter()
        least = min((one.score for one in first.provenance), default=0.0)
        share = np.array(target.counts) / target.n_atoms
        found = self._ranked(target)
        for start in range(0, len(found), AT_ONCE):
            made = self._made(target, found[start : start + AT_ONCE])
            shells = _shells(target, Crystals.cat([Crystals.empty(), *(one.crystal for one in made)]))
            for one, counts in zip(made, shells, strict=True):
                blind = np.einsum("a,abr->r", share, counts)[None, None]
                kind = one.space_group, int(one.crystal.n_atoms)
                group, known = arrangements[kind], seen[kind]
                like = next(group.like(blind[None]), (len(members), 0))[0]
                if members[like] >= PER_ARRANGEMENT or any(known.like(counts[None])):
                    continue
                if like == len(members):
                    group.add(blind, like)
                members[like] += 1
                known.add(counts, 0)
                yield replace(one, score=min(one.score + math.log(SHARE), least))

    # -- which entries, filled how ------------------------------------------------------------------

    def _ranked(self, target: Target) -> list[Filled]:
        """All that is looked at, the most probable first; `score` is ln p among these."""
        rows = self._chosen(target)
        numbers, counts = self._library.compositions(rows)
        apart = self._similarity.apart(target, numbers, counts)
        weights: list[float] = []
        filled: list[tuple[int, Ints]] = []
        for row, own, whole, atom, cell in zip(
            rows.tolist(), numbers, apart.whole, apart.atom, self._orbits.of(rows), strict=True
        ):
            units, rest = divmod(len(cell.numbers), target.n_atoms) if cell is not None else (0, 0)
            if cell is None or rest or units not in target.formula_units:
                continue
            site, size = _orbits(cell)
            ways = ways_to_fill(tuple(size.tolist()), tuple(units * c for c in target.counts))
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
        order = np.argsort(-ln_p.round(9), kind="stable")[:LOOKED_AT].tolist()
        return [Filled(filled[k][0], filled[k][1], float(ln_p[k])) for k in order]

    def _chosen(self, target: Target) -> Ints:
        """The entries with the likest elements that may have a right number of atoms, by their rows."""
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
        likest = rows[np.argsort(-s.round(9), kind="stable")]
        return np.sort(likest[np.cumsum(library.n_atoms[likest]) <= ANALYSED])

    # -- the crystals -------------------------------------------------------------------------------

    def _made(self, target: Target, filled: list[Filled]) -> list[Decorated]:
        """The crystals that the target's constraints allow, in order."""
        rows = np.array([one.row for one in filled])
        skeletons = [cell for cell in self._orbits.of(rows) if cell is not None]
        elements = np.array(target.numbers)
        atoms = [
            elements[one.way[(cell.orbits[:, None] == cell.orbits[_orbits(cell)[0]]).argmax(1)]]
            for cell, one in zip(skeletons, filled, strict=True)
        ]
        crystals = Crystals.from_arrays([c.cell for c in skeletons], [c.frac for c in skeletons], atoms)
        crystals = crystals.scaled_to(self._volumes(target, rows, skeletons, crystals))
        analysed = zip(standard_cells(crystals, SYMPREC), skeletons, filled, strict=True)
        return [
            Decorated(
                one.row,
                one.score,
                Crystals.from_arrays([cell.cell], [cell.frac], [cell.numbers]),
                cell.space_group,
                wyckoff_text((int(cell.numbers[k]), cell.letters[k]) for k in _orbits(cell)[0]),
                _sites(elements, skeleton, one.way),
            )
            for cell, skeleton, one in analysed
            if cell is not None
            and target.allows_group(cell.space_group)
            and len(cell.numbers) // target.n_atoms in target.formula_units
        ]

    def _volumes(
        self, target: Target, rows: Ints, skeletons: list[StandardCell], crystals: Crystals
    ) -> torch.Tensor:
        """Å³ [B]: those of the entries by the ratio of what the prior predicts for the two compositions; of
        entries whose elements stand in for others, what it predicts for the target."""
        old = [self._volume.predict(*_amounts(cell.numbers)) for cell in skeletons]
        new = crystals.n_atoms / target.n_atoms * self._volume.predict(target.numbers, target.counts)
        stands_in = torch.from_numpy(self._library.stand_in(rows))
        return torch.where(stands_in, new, crystals.volumes * new / torch.tensor(old))

    def _why(self, one: Decorated) -> str:
        entry = self._library.crystals([one.row])
        formula, name = reduced_formula(entry.numbers.tolist()), self._library.material_id[one.row]
        return f"sites of {formula} ({name}) given other elements: {one.sites}"


def _orbits(cell: StandardCell) -> tuple[Ints, Ints]:
    """The first atom and the number of atoms of each orbit, large ones first: entries share ways to fill."""
    _, site, size = np.unique(cell.orbits, return_index=True, return_counts=True)
    order = np.argsort(-size, kind="stable")
    return site[order], size[order]


def _exchanged(ways: Ints, kind: Ints, k: int) -> NDArray[np.bool_]:
    """bool [W]: which ways only exchange the entry's elements, kinds [r] of the orbits, for others?"""
    pairs = ways * (kind.max() + 1) + kind
    n_pairs = (np.diff(np.sort(pairs, axis=1), axis=1) > 0).sum(1) + 1
    return (n_pairs == k) & (len(np.unique(kind)) == k)


def _sites(elements: Ints, skeleton: StandardCell, way: Ints) -> str:
    """Such as "Al in 16a and 24d, O in 96h"."""
    table = wyckoff_table()
    site, _ = _orbits(skeleton)
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


def _amounts(numbers: Ints) -> tuple[list[int], list[int]]:
    """Elements and how many atoms of each."""
    elements, counts = np.unique(numbers, return_counts=True)
    return elements.tolist(), counts.tolist()
