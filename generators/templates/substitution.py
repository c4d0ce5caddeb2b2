"""From ranked library entries to crystals of a target: what both template generators share."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray

from csp.crystallography.symmetry import primitive_sites, wyckoff_text
from csp.crystals import Crystals
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.protocols import Proposals, Provenance
from csp.target import Target
from generators.templates.assignments import MAX_ASSIGNMENTS, Assignments, Candidate, candidates
from generators.templates.prototypes import PrototypeIndex, Prototypes

__all__ = ["Ranking", "Similarity", "Substitution", "exchanges"]

T = TypeVar("T")

SYMPREC = 0.05  # Å, as in the libraries' own space groups

Similarity = Callable[[Target, Prototypes, Assignments], NDArray[np.float64]]
"""ln of the weight of each entry of the target's anonymous composition with each assignment, [n, P]."""


class Substitution:
    """Proposes the entries of the target's anonymous composition with its elements in their places.

    The entries of the target itself come first, then the others ranked by `similarity`, each structure once.
    The primitive cell of an entry, made exactly symmetric, is scaled by the ratio of the volumes that the
    prior predicts for the two compositions; that of an entry whose elements stand in for others gets the
    volume predicted. Deterministic: the seed plays no role.
    """

    def __init__(
        self, name: str, library: Library, index: PrototypeIndex, volume: VolumePrior, similarity: Similarity
    ) -> None:
        self._name = name
        self._library = library
        self._index = index
        self._volume = volume
        self._similarity = similarity
        self._rankings: dict[Target, Ranking[Candidate]] = {}

    def propose(self, target: Target, n: int, *, seed: int, start: int = 0, remark: str = "") -> Proposals:
        """See `csp.protocols.Generator`. `score` is ln p.

        Args:
            remark: What is added to each `why`.
        """
        ranking = self._ranked(target)
        chosen = ranking.upto(start + n)[start:]
        crystals, wyckoff, fits = self._build(target, chosen)
        provenance = [
            Provenance(
                generator=self._name,
                index=start + i,
                seed=seed,
                space_group=int(self._library.space_group[candidate.row]),
                template_id=str(self._library.material_id[candidate.row]),
                wyckoff=wyckoff[i],
                score=candidate.score,
                why=self._why(candidate) + remark,
                own=candidate.own,
            )
            for i, candidate in enumerate(chosen)
        ]
        failed = Counter({ranking.end: n - len(chosen), "template_cell_not_reducible": int((~fits).sum())})
        kept = np.flatnonzero(fits)
        return Proposals(crystals[kept], [provenance[i] for i in kept], n, +failed)

    def available(self, target: Target, n: int) -> int:
        """How many of the first n candidates there are."""
        return len(self._ranked(target).upto(n))

    def _ranked(self, target: Target) -> Ranking[Candidate]:
        if target not in self._rankings:
            self._rankings[target] = self._ranking(target)
        return self._rankings[target]

    def _ranking(self, target: Target) -> Ranking[Candidate]:
        prototypes = self._index.of(target.anonymous)
        if len(prototypes) == 0:
            return Ranking(iter(()), "no_library_entry_of_this_ratio")
        assignments = Assignments.of(target)
        prototypes = prototypes.among(self._allowed(target, prototypes.rows))
        similarity = self._similarity(target, prototypes, assignments)
        end = "exhausted" if assignments.complete else f"more_than_{MAX_ASSIGNMENTS}_assignments"
        own = np.isin(prototypes.rows, self._library.own_rows(target))
        return Ranking(candidates(prototypes, assignments, similarity, own), end)

    def _allowed(self, target: Target, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """bool: entries with a space group and a primitive cell that the target allows."""
        library = self._library
        allowed = np.ones(len(rows), bool)
        if target.space_groups is not None:
            allowed &= np.isin(library.space_group[rows], list(target.space_groups))
        unsure = allowed & ((library.n_atoms[rows] > target.max_atoms) | (target.z is not None))
        z = library.n_primitive(rows[unsure]) // target.n_atoms
        allowed[unsure] = np.isin(z, target.formula_units)
        return allowed

    def _build(
        self, target: Target, chosen: list[Candidate]
    ) -> tuple[Crystals, list[str], NDArray[np.bool_]]:
        """The crystals of the candidates, their occupied positions, and which are of a size that the target
        allows."""
        if not chosen:
            return Crystals.empty(), [], np.zeros(0, bool)
        templates, sites = primitive_sites(self._library.crystals([c.row for c in chosen]), SYMPREC)
        new = torch.tensor([c.numbers for c in chosen])
        old = torch.tensor([c.replaced for c in chosen])
        counts = torch.tensor(target.anonymous).expand_as(new)
        place = (templates.numbers[:, None] == old[templates.batch]).int().argmax(1)
        crystals = Crystals(templates.cell, templates.frac, new[templates.batch, place], templates.offsets)
        predicted = self._volume.volumes(new, counts)
        ratio = predicted / self._volume.volumes(old, counts)
        stands_in = torch.from_numpy(self._library.stand_in(np.array([c.row for c in chosen])))
        units = crystals.n_atoms / target.n_atoms
        ratio = torch.where(stands_in, predicted * units / crystals.volumes, ratio)
        fits = np.isin(crystals.n_atoms.numpy() / target.n_atoms, target.formula_units)
        wyckoff = [
            wyckoff_text((dict(zip(c.replaced, c.numbers, strict=True))[z], letter) for z, letter in orbits)
            for c, orbits in zip(chosen, sites, strict=True)
        ]
        return crystals.scaled_to(crystals.volumes * ratio), wyckoff, fits

    def _why(self, candidate: Candidate) -> str:
        changes = exchanges(candidate.replaced, candidate.numbers)
        name = self._library.material_id[candidate.row]
        others = f"; {candidate.n_entries} entries are this prototype" if candidate.n_entries > 1 else ""
        return (f"{name} with {changes}" if changes else f"{name} as it is") + others


def exchanges(old: Sequence[int], new: Sequence[int]) -> str:
    """Which elements, by atomic number, others take the places of: "Ga→Zn, As→Se"; "" for none."""
    return ", ".join(
        f"{chemical_symbols[a]}→{chemical_symbols[b]}" for a, b in zip(old, new, strict=True) if a != b
    )


class Ranking(Generic[T]):
    """The candidates for a target, looked for as far as they were asked for, and why they end."""

    def __init__(self, search: Iterator[T], end: str) -> None:
        self.end = end
        self._search = search
        self._found: list[T] = []

    def upto(self, n: int) -> list[T]:
        """The first n, or all there are."""
        self._found += itertools.islice(self._search, max(0, n - len(self._found)))
        return self._found[:n]
