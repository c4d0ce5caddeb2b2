"""The distinct crystals that a deep search has found, and how often each was drawn.

What is remembered is bounded: the few thousand lowest, with a fingerprint of each by which it is known again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from csp.crystals import Crystals
from csp.matching.duplicates import SAME_ENERGY
from csp.matching.fingerprints import SAME_STRUCTURE, fingerprints
from csp.matching.matcher import Matcher
from csp.protocols import Provenance
from csp.search.pool import Pool

__all__ = ["LOW", "WORTH_A_LOOK", "Basins"]

LOW = 0.05  # eV/atom above the lowest, by the model that ranks
WORTH_A_LOOK = 0.15  # eV/atom above the lowest by the first model, which errs by some tens of meV/atom
MOST = 4000
ALIKE = 0.3  # distance of fingerprints beyond which StructureMatcher is not asked; see `SAME_STRUCTURE`


def _numbers(value: float = torch.nan) -> Tensor:
    return torch.full((0,), value, dtype=torch.float64)


@dataclass
class Basins:
    """N distinct crystals as the first model relaxed them, in the order in which they were found.

    Attributes:
        crystals: The crystals.
        ids: Theirs.
        candidates: The ids of the proposals that first led to them.
        provenance: Of these.
        first: float64 [N], eV/atom by the first model (enthalpy under pressure).
        single: float64 [N], eV/atom by the model that ranks, of the crystal as it is here; NaN: not known.
        refined: float64 [N], the same of what that model relaxed it to.
        draws: int64 [N], independent proposals that led to it (`csp.search.completeness`).
        times: int64 [N], proposals of any kind, in rounds, that led to it.
        in_round: int64 [N], in which it was found; 0: before all rounds.
        points: float [N, F], fingerprints.
    """

    crystals: Crystals = field(default_factory=Crystals.empty)
    ids: list[str] = field(default_factory=list)
    candidates: list[str] = field(default_factory=list)
    provenance: list[tuple[Provenance, ...]] = field(default_factory=list)
    first: Tensor = field(default_factory=_numbers)
    single: Tensor = field(default_factory=_numbers)
    refined: Tensor = field(default_factory=_numbers)
    draws: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    times: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    in_round: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    points: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def copy(self) -> Basins:
        """Of its own: attributes are replaced, never changed in place."""
        return replace(self)

    # -- which are known ----------------------------------------------------------------------------

    def known(self, crystals: Crystals, per_atom: Tensor) -> list[int]:
        """The place of the basin that each crystal is in by fingerprint and energy; −1 for a new one."""
        if not len(self) or not len(crystals):
            return [-1] * len(crystals)
        return [self._near(p, e)[0] for p, e in zip(fingerprints(crystals), per_atom.tolist(), strict=True)]

    def add(self, found: Pool, per_atom: Tensor, number: int) -> list[int]:
        """Take up what was found in a round; of each crystal the place of its basin, a new one or not.

        Those whose fingerprints and energies are close are one; where only one of both holds, low crystals
        are one if StructureMatcher takes them for one (as in `csp.matching.duplicates`).
        """
        points = fingerprints(found.crystals) if len(found.ids) else None
        places = [-1] * len(found.ids)
        for k in per_atom.argsort(stable=True).tolist():
            assert points is not None
            place = self._place(points[k], float(per_atom[k]), found.crystals[k])
            if place < 0:
                place = len(self)
                self._append(found.take([k]), per_atom[k : k + 1], points[k : k + 1], number)
            places[k] = place
        return places

    def _near(self, point: Tensor, per_atom: float) -> tuple[int, list[int]]:
        """The basin of a crystal, −1 if in none for sure; and those that it may be in, nearest first."""
        assert self.points is not None
        far = (self.points - point).norm(dim=1)
        off = (self.first - per_atom).abs()
        close, level = far <= SAME_STRUCTURE, off < SAME_ENERGY
        both = (close & level).nonzero().flatten()
        if len(both):
            return int(both[far[both].argmin()]), []
        either = (close | (level & (far <= ALIKE))).nonzero().flatten()
        return -1, either[far[either].argsort(stable=True)].tolist()

    def _place(self, point: Tensor, per_atom: float, crystal: Crystals) -> int:
        if not len(self):
            return -1
        sure, maybe = self._near(point, per_atom)
        if sure >= 0 or not maybe or per_atom > float(self.first.min()) + WORTH_A_LOOK:
            return sure
        same = Matcher.DEFAULT.fits(crystal, self.crystals[maybe]).nonzero().flatten().tolist()
        return maybe[same[0]] if same else -1

    def _append(self, found: Pool, per_atom: Tensor, points: Tensor, number: int) -> None:
        nothing = torch.full_like(per_atom, torch.nan)
        self.crystals = Crystals.cat([self.crystals, found.crystals])
        self.ids = self.ids + found.crystals.ids()
        self.candidates = self.candidates + found.ids
        self.provenance = self.provenance + found.provenance
        self.first = torch.cat([self.first, per_atom])
        self.single = torch.cat([self.single, nothing])
        self.refined = torch.cat([self.refined, nothing])
        never = torch.zeros(len(per_atom), dtype=torch.int64)
        self.draws, self.times = torch.cat([self.draws, never]), torch.cat([self.times, never])
        self.in_round = torch.cat([self.in_round, torch.full((len(per_atom),), number)])
        self.points = points if self.points is None else torch.cat([self.points, points])

    def forget(self) -> None:
        """Keep the few thousand lowest."""
        if len(self) <= MOST:
            return
        kept = self.first.argsort(stable=True)[:MOST].sort().values
        chosen = kept.tolist()
        assert self.points is not None
        self.crystals, self.points = self.crystals[kept], self.points[kept]
        self.ids = [self.ids[k] for k in chosen]
        self.candidates = [self.candidates[k] for k in chosen]
        self.provenance = [self.provenance[k] for k in chosen]
        self.first, self.single, self.refined = self.first[kept], self.single[kept], self.refined[kept]
        self.draws, self.times, self.in_round = self.draws[kept], self.times[kept], self.in_round[kept]

    # -- what is known of them ----------------------------------------------------------------------

    def learn(self, which: str, ids: Sequence[str], per_atom: Tensor) -> None:
        """Energies, eV/atom, of crystals by their ids: `which` is "single" or "refined"."""
        place = {i: k for k, i in enumerate(self.ids)}
        there = [(place[i], e) for i, e in zip(ids, per_atom.tolist(), strict=True) if i in place]
        values = getattr(self, which).clone()
        values[[k for k, _ in there]] = torch.tensor([e for _, e in there], dtype=torch.float64)
        setattr(self, which, values)

    @property
    def last(self) -> Tensor:
        """float64 [N], eV/atom by the model that ranks: of the single point where there is one, since these
        compare with each other; else of the refined crystal; NaN where neither is known."""
        return torch.where(self.single.isfinite(), self.single, self.refined)

    def low(self) -> list[int]:
        """Those within `LOW` of the lowest by the model that ranks, lowest first."""
        last = self.last.nan_to_num(torch.inf)
        if not len(self) or not bool(last.isfinite().any()):
            return []
        order = last.argsort(stable=True)
        return order[last[order] <= last.min() + LOW].tolist()

    def lowest_first(self, values: Tensor, within: float, n: int) -> list[int]:
        """At most n whose value, NaN being none, is within so much of the lowest of all, lowest first."""
        known = values.nan_to_num(torch.inf)
        if not len(self) or not bool(known.isfinite().any()):
            return []
        order = known.argsort(stable=True)
        return order[known[order] <= known.min() + within][:n].tolist()
