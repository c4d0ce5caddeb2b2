"""Known crystals with other elements in their places: the template generator."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from csp.crystals import Crystals
from csp.library import Library
from csp.protocols import Proposals, Provenance
from csp.symmetry import primitive, wyckoffs
from csp.target import Target
from csp.volume import VolumePrior
from generators.prototypes import Prototypes, shells
from generators.scale import pettifor_scale

__all__ = ["TemplateGenerator"]

SYMPREC = 0.05  # Å, as in the libraries' own space groups
BLOCK = 256  # proposals looked at together
MAX_ASSIGNMENTS = 50_000  # of the elements to the places of one template; 8 equal amounts have 40,320


@dataclass(frozen=True, slots=True)
class Proposal:
    """A library entry with the target's elements in its places.

    row         of the library
    numbers     the target's atomic numbers, in the order of the entry's `Library.elements`
    replaced    the entry's atomic numbers
    distance    mean difference of the elements on the scale
    """

    row: int
    numbers: tuple[int, ...]
    replaced: tuple[int, ...]
    distance: float


class TemplateGenerator:
    """All library entries of the target's anonymous composition, nearest elements first.

    The distance of an entry is the mean difference, over the atoms, between each element and the one
    it takes the place of, on the modified Pettifor scale; entries at one distance (polymorphs) come
    in the order of the size of the cell, then of the space group, highest first. Of the entries that
    are one prototype (one space group, like shells of neighbours) with one placing of the elements
    only the nearest is proposed. Its primitive cell, made exactly symmetric, is scaled by the ratio of
    the volumes that the prior predicts for the two compositions. Deterministic: the seed plays no
    role.
    """

    name = "template"

    def __init__(self, library: Library, volume: VolumePrior) -> None:
        self._library = library
        self._volume = volume
        self._scale = pettifor_scale()
        self._rankings: dict[Target, Ranking] = {}

    def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
        """See `csp.protocols.Generator`. `score` is minus the distance, in places on the scale."""
        ranking = self._rankings.setdefault(target, Ranking(self._library, target, self._scale))
        chosen = ranking.upto(start + n)[start:]
        crystals, fits = self._build(target, chosen)
        sites = wyckoffs(crystals, SYMPREC)
        provenance = [
            Provenance(
                generator=self.name,
                index=start + i,
                seed=seed,
                space_group=int(self._library.space_group[p.row]),
                template_id=str(self._library.material_id[p.row]),
                wyckoff=sites[i],
                score=-p.distance,
                why=self._why(p),
            )
            for i, p in enumerate(chosen)
        ]
        failed = Counter(exhausted=n - len(chosen), template_cell_not_reducible=int((~fits).sum()))
        kept = np.flatnonzero(fits)
        return Proposals(crystals[kept], [provenance[i] for i in kept], n, +failed)

    def _build(self, target: Target, proposals: list[Proposal]) -> tuple[Crystals, NDArray[np.bool_]]:
        """The crystals of the proposals, and which of them are of the size the target allows."""
        if not proposals:
            return Crystals.empty(), np.zeros(0, bool)
        templates = primitive(self._library.crystals([p.row for p in proposals]), SYMPREC)
        new = torch.tensor([p.numbers for p in proposals])
        old = torch.tensor([p.replaced for p in proposals])
        counts = torch.tensor(target.anonymous).expand_as(new)
        place = (templates.numbers[:, None] == old[templates.batch]).int().argmax(1)
        crystals = Crystals(templates.cell, templates.frac, new[templates.batch, place], templates.offsets)
        ratio = self._volume.volumes(new, counts) / self._volume.volumes(old, counts)
        fits = np.isin(crystals.n_atoms.numpy() / target.n_atoms, target.formula_units)
        return crystals.scaled_to(crystals.volumes * ratio), fits

    def _why(self, proposal: Proposal) -> str:
        from ase.data import chemical_symbols as symbol

        changes = [
            f"{symbol[old]}→{symbol[new]}"
            for old, new in zip(proposal.replaced, proposal.numbers, strict=True)
            if old != new
        ]
        name = self._library.material_id[proposal.row]
        return f"{name} with {', '.join(changes)}" if changes else f"{name} as it is"


class Ranking:
    """The distinct proposals for a target, looked for as far as they were asked for."""

    def __init__(self, library: Library, target: Target, scale: NDArray[np.float64]) -> None:
        self._library = library
        self._target = target
        self._found: list[Proposal] = []
        self._search = self._distinct(scale)

    def upto(self, n: int) -> list[Proposal]:
        """The first n, or all there are."""
        self._found += itertools.islice(self._search, max(0, n - len(self._found)))
        return self._found[:n]

    def _distinct(self, scale: NDArray[np.float64]) -> Iterator[Proposal]:
        library, anonymous = self._library, self._target.anonymous
        rows, elements = library.rows(anonymous), library.elements(anonymous)
        allowed = self._allowed(rows)
        rows, elements = rows[allowed], elements[allowed]
        assignments = _assignments(self._target)
        weights = np.array(anonymous) / self._target.n_atoms
        distance = sum(
            w * np.abs(scale[assignments[:, k]] - scale[elements[:, k], None]) for k, w in enumerate(weights)
        )
        size, group = library.n_atoms[rows], library.space_group[rows]
        order = np.lexsort(
            [np.broadcast_to(x[:, None], distance.shape).ravel() for x in (-group, size)]
            + [distance.round(6).ravel()]
        )
        met: dict[int, NDArray[np.float64]] = {}  # shells of an entry, its elements in their order
        prototypes = Prototypes()
        for start in range(0, len(order), BLOCK):
            entry, assignment = np.divmod(order[start : start + BLOCK], len(assignments))
            new = np.setdiff1d(entry, list(met))
            met |= zip(new.tolist(), self._shells(rows[new], elements[new]), strict=True)
            for e, a in zip(entry.tolist(), assignment.tolist(), strict=True):
                place = np.argsort(assignments[a])  # where each element of the target goes
                if prototypes.add(int(group[e]), met[e][np.ix_(place, place)]):
                    yield Proposal(
                        row=int(rows[e]),
                        numbers=tuple(assignments[a].tolist()),
                        replaced=tuple(elements[e].tolist()),
                        distance=float(distance[e, a]),
                    )

    def _shells(self, rows: NDArray[np.int64], elements: NDArray[np.int64]) -> NDArray[np.float64]:
        """[n, k, k, R]: shells of these rows, whose elements [n, k] are their kinds."""
        crystals = self._library.crystals(rows)
        kind = (crystals.numbers[:, None] == torch.from_numpy(elements)[crystals.batch]).int().argmax(1)
        return shells(replace(crystals, numbers=kind), elements.shape[1]).numpy()

    def _allowed(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """bool: entries with a space group and a primitive cell that the target allows."""
        target, library = self._target, self._library
        allowed = np.ones(len(rows), bool)
        if target.space_groups is not None:
            allowed &= np.isin(library.space_group[rows], list(target.space_groups))
        unsure = allowed & ((library.n_atoms[rows] > target.max_atoms) | (target.z is not None))
        z = library.n_primitive(rows[unsure]) // target.n_atoms
        allowed[unsure] = np.isin(z, target.formula_units)
        return allowed


def _assignments(target: Target) -> NDArray[np.int64]:
    """[P, k]: all ways to put the target's elements on the places of an entry with equal amounts, the places
    by ascending amount."""
    elements = sorted(zip(target.counts, target.numbers, strict=True))
    equal = [[z for _, z in same] for _, same in itertools.groupby(elements, key=lambda e: e[0])]
    ways = itertools.product(*(itertools.permutations(group) for group in equal))
    return np.array([sum(way, ()) for way in itertools.islice(ways, MAX_ASSIGNMENTS)])
