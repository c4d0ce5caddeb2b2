"""What is recorded of one target of the recovery benchmark."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from benchmarks.leakage import Leak
from benchmarks.recovery.scoring import HIT, Miss, Score
from csp.errors import InputError

__all__ = ["Chance", "Outcome", "read_outcomes"]


class Chance(BaseModel):
    """What random plausible crystals would find: how many of `n` match, under each tolerance."""

    model_config = ConfigDict(frozen=True)

    n: int
    default: int
    loose: int


class Outcome(BaseModel):
    """One target, scored.

    Attributes:
        n_atoms: In the truth's primitive cell.
        score: None where the search was refused, for the reason in `refused`.
        truth_ev_per_atom: The relaxed truth under the same model, None where it has no energy.
        space_groups_true: symprec → space group of the truth.
        funnel: Crystals after each stage of the search.
        seconds: Of each stage and of the scoring.
        published: method → was it found (1) or not (0).
    """

    model_config = ConfigDict(frozen=True)

    name: str
    formula: str
    n_atoms: int
    label: str = ""
    score: Score | None
    refused: str = ""
    chance: Chance | None = None
    truth_ev_per_atom: float | None = None
    space_groups_true: dict[str, int]
    funnel: dict[str, int] = {}
    seconds: dict[str, float] = {}
    leak: dict[str, Leak] = {}
    published: dict[str, int] = {}

    @property
    def miss(self) -> Miss | None:
        return Miss.REFUSED if self.score is None else self.score.miss

    @property
    def found(self) -> bool:
        """Is the truth among the first ten?"""
        return self.miss is None

    @property
    def rank(self) -> int | None:
        return None if self.score is None else self.score.default.rank

    @property
    def best_above_truth(self) -> float | None:
        """Energy of the best found crystal minus that of the relaxed truth, eV/atom. Negative: the model
        prefers another crystal to the truth."""
        if self.score is None or self.score.best_ev_per_atom is None or self.truth_ev_per_atom is None:
            return None
        return self.score.best_ev_per_atom - self.truth_ev_per_atom

    def within(self, k: int, tolerance: str = "default") -> bool:
        return self.score is not None and getattr(self.score, tolerance).within(k)

    def line(self) -> str:
        """For the terminal."""
        if self.found:
            verdict = f"rank {self.rank}"
        else:
            verdict = str(self.miss) + (f" (rank {self.rank})" if self.rank and self.rank > HIT else "")
            verdict += f": {self.refused}" if self.refused else ""
        return f"{self.name:<12} {verdict:<26} {sum(self.seconds.values()):7.0f} s"


def read_outcomes(place: Path) -> list[Outcome]:
    """Of an out folder of `csp benchmark recovery`, or its `recovery.json`.

    Raises:
        InputError: It is anything else.
    """
    path = place / "recovery.json" if place.is_dir() else place
    try:
        return [
            Outcome.model_validate(one) for one in json.loads(path.read_text(encoding="utf-8"))["targets"]
        ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{place} does not hold the results of a recovery benchmark.") from error
