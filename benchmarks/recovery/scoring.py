"""Is the truth there, and where was it lost: the score of one finished search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from csp.crystallography.symmetry import space_groups
from csp.crystals import Crystals
from csp.matching.matcher import Matcher
from csp.search.prediction import Prediction
from csp.search.search import Search

__all__ = [
    "RANKS",
    "SYMPRECS",
    "TOLERANCES",
    "Found",
    "Miss",
    "Run",
    "Score",
    "groups",
    "miss",
    "score",
    "wilson",
]

RANKS = (1, 5, 10, 20)
HIT = 10  # a target is found if the truth is among so many
TOLERANCES: Mapping[str, Matcher] = {"default": Matcher.DEFAULT, "loose": Matcher.LOOSE}
SYMPRECS = (0.01, 0.1)  # Å


class Miss(StrEnum):
    """Where the truth was lost; the first stage that no longer has it."""

    NOT_PROPOSED = "not_proposed"
    SCREENED_OUT = "screened_out"  # filtered or not chosen for relaxation
    RELAXED_AWAY = "relaxed_away"
    OUTRANKED = "outranked"  # relaxed to it, but not among the first ten
    REFUSED = "refused"  # the search could not be run at all


@dataclass(frozen=True, slots=True)
class Run:
    """What one search leaves to be judged.

    Attributes:
        proposed: P crystals as the generators made them.
        generators: [P], of each of them.
        relaxed: bool [P], was it chosen for relaxation by the model that ranks?
        starts: What that model relaxed: the proposals, or what a surrogate made of them.
        ends: All ends of relaxations that have an energy.
        ranked: R crystals, best first.
        energies: [R], eV/atom; the ranking may be by another measure.
        reached: [R], generators whose candidates relaxed to each of them or a duplicate.
    """

    proposed: Crystals
    generators: Sequence[str]
    relaxed: Tensor
    starts: Crystals
    ends: Crystals
    ranked: Crystals
    energies: Sequence[float]
    reached: Sequence[frozenset[str]]

    @classmethod
    def read(cls, search: Search, prediction: Prediction) -> Run:
        """From a finished search and its whole ranking."""
        candidates = search.store.candidates()
        begun = search.funnel.starts
        starts, relaxed = search.funnel.relaxed()
        rattled = search.store.relaxed("rattle", search.funnel.ranking_model.label)[1]
        good = relaxed.with_energy()
        rattled_good = rattled.with_energy()
        ends = relaxed.crystals[good]
        chosen = set(starts)
        return cls(
            proposed=candidates.crystals,
            generators=[p.generator for p in candidates.provenance],
            relaxed=torch.tensor([i in chosen for i in candidates.ids], dtype=torch.bool),
            starts=begun.crystals,
            ends=Crystals.cat([ends, rattled.crystals[rattled_good]]),
            ranked=prediction.crystals,
            energies=[r.energy_ev_per_atom for r in prediction.results],
            reached=[frozenset(r.proposed_by.split()) for r in prediction.results],
        )


class Found(BaseModel):
    """The truth under one tolerance.

    Attributes:
        proposed: Matching proposals of each generator.
        relaxed_from: Matching proposals among those relaxed; none: matching starts, which came of other
            proposals.
        relaxed_to: Matching crystals among their ends.
        rank: Of the best match, None if there is none.
        rank_energy: The same in the order of energy.
        rank_of: The same among the crystals that each generator alone would have led to.
        rms: Of the best match, in units of (V/N)^(1/3).
        volume_ratio: Found / true, per atom, which the rms does not tell: StructureMatcher scales cells.
        space_groups: symprec → space group of the best match.
    """

    model_config = ConfigDict(frozen=True)

    proposed: dict[str, int]
    relaxed_from: int
    relaxed_to: int
    rank: int | None
    rank_energy: int | None = None
    rank_of: dict[str, int | None]
    rms: float | None = None
    volume_ratio: float | None = None
    space_groups: dict[str, int] = {}

    def within(self, k: int) -> bool:
        return self.rank is not None and self.rank <= k


class Score(BaseModel):
    """The truth in a run, under each tolerance; `miss` is None if it is found among the first ten."""

    model_config = ConfigDict(frozen=True)

    default: Found
    loose: Found
    miss: Miss | None
    best_ev_per_atom: float | None


def score(truth: Crystals, run: Run, generators: Sequence[str]) -> Score:
    """Look for one crystal in a run of these generators, under all tolerances."""
    found = {name: _found(truth, run, generators, matcher) for name, matcher in TOLERANCES.items()}
    return Score(**found, miss=miss(found["default"]), best_ev_per_atom=min(run.energies, default=None))


def miss(found: Found) -> Miss | None:
    """Why the truth is not among the first ten; None if it is."""
    if found.within(HIT):
        return None
    if found.relaxed_to:
        return Miss.OUTRANKED
    if found.relaxed_from:
        return Miss.RELAXED_AWAY
    return Miss.SCREENED_OUT if any(found.proposed.values()) else Miss.NOT_PROPOSED


def _found(truth: Crystals, run: Run, generators: Sequence[str], matcher: Matcher) -> Found:
    proposed = matcher.fits(truth, run.proposed)
    ranked = matcher.fits(truth, run.ranked).tolist()
    by_generator = dict.fromkeys(generators, 0)
    for k in proposed.nonzero().flatten().tolist():
        by_generator[run.generators[k]] += 1
    rank = _first(ranked)
    return Found(
        proposed=by_generator,
        relaxed_from=int((proposed & run.relaxed).sum()) or int(matcher.fits(truth, run.starts).sum()),
        relaxed_to=int(matcher.fits(truth, run.ends).sum()),
        rank=rank,
        rank_energy=_first([fit for _, fit in sorted(zip(run.energies, ranked, strict=True), key=_energy)]),
        rank_of={
            name: _first([fit for fit, names in zip(ranked, run.reached, strict=True) if name in names])
            for name in generators
        },
        **({} if rank is None else _compared(truth, run.ranked[rank - 1], matcher)),
    )


def _energy(crystal: tuple[float, bool]) -> float:
    return crystal[0]


def _first(fits: Sequence[bool]) -> int | None:
    """The rank, counted from 1, of the first that fits."""
    return fits.index(True) + 1 if True in fits else None


def _compared(truth: Crystals, crystal: Crystals, matcher: Matcher) -> dict[str, Any]:
    def volume(one: Crystals) -> float:
        return float(one.volumes / one.n_atoms)

    return {
        "rms": float(matcher.rms(truth, crystal)),
        "volume_ratio": volume(crystal) / volume(truth),
        "space_groups": groups(crystal),
    }


def groups(crystal: Crystals) -> dict[str, int]:
    """symprec → space group number of one crystal, 0 where the analysis fails."""
    return {str(symprec): space_groups(crystal, symprec)[0] for symprec in SYMPRECS}


def wilson(successes: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """The score interval, by default 95 %, of a proportion; (0, 1) for n = 0.

    Wilson, J. Am. Stat. Assoc. 22, 209 (1927).
    """
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    centre = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
