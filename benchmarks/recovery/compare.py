"""Two recovery benchmarks beside each other: which targets were won and lost, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.recovery.outcome import Outcome, read_outcomes

__all__ = ["Change", "Comparison", "compare"]


@dataclass(frozen=True, slots=True)
class Change:
    """A target that only one of two benchmarks found among the first ten."""

    name: str
    before: Outcome
    after: Outcome

    @property
    def won(self) -> bool:
        return self.after.found

    def __str__(self) -> str:
        return f"{self.name}: {_verdict(self.before)} → {_verdict(self.after)}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """B after A over the n targets that are in both; targets of only one are counted apart."""

    n: int
    won: list[Change]
    lost: list[Change]
    found_by_both: int
    found_by_none: int
    only_in_one: list[str]

    def summary(self) -> dict[str, Any]:
        """Flat."""
        return {
            "n": self.n,
            "won": len(self.won),
            "lost": len(self.lost),
            "found_by_both": self.found_by_both,
            "found_by_none": self.found_by_none,
            "only_in_one": len(self.only_in_one),
        }


def compare(before: Path, after: Path) -> Comparison:
    """What the second benchmark found that the first did not, and the other way round."""
    a, b = ({o.name: o for o in read_outcomes(place)} for place in (before, after))
    both = [name for name in a if name in b]
    changes = [Change(name, a[name], b[name]) for name in both if a[name].found != b[name].found]
    return Comparison(
        n=len(both),
        won=[change for change in changes if change.won],
        lost=[change for change in changes if not change.won],
        found_by_both=sum(a[name].found and b[name].found for name in both),
        found_by_none=sum(not a[name].found and not b[name].found for name in both),
        only_in_one=sorted(a.keys() ^ b.keys()),
    )


def _verdict(outcome: Outcome) -> str:
    """Rank, or why it was missed, with what tells an energy model's mistake from a missing candidate."""
    if outcome.found:
        return f"rank {outcome.rank}"
    above = outcome.best_above_truth
    best = "" if above is None else f", best found {1000 * above:+.0f} meV/atom from the truth"
    rank = f" at {outcome.rank}" if outcome.rank else ""
    return f"{str(outcome.miss).replace('_', ' ')}{rank}{best}"
