"""How a deep search went, round by round, and why it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from csp.search.completeness import Completeness

__all__ = ["ENDINGS", "Heard", "History", "Round"]

ENDINGS = {
    "complete": "what is low has been found, by the estimate",
    "exhausted": "nothing new was left to try",
    "rounds": "there were as many rounds as asked for",
    "time": "the time was over",
}


@dataclass(frozen=True, slots=True)
class Round:
    """What was known after a round; round 0 is the search before all rounds.

    Attributes:
        number: From 0.
        proposed: Candidates so far.
        relaxed: Relaxations by the first model so far, those of a few steps included.
        plausible: Candidates of this round that were.
        fresh: Of these, each structure once: what was relaxed.
        lowest_ev_per_atom: Lowest energy (enthalpy under pressure) that the model that ranks has relaxed to;
            None: nothing yet.
        low: Distinct crystals known within 50 meV/atom of the lowest.
        completeness: What the draws say of those.
    """

    number: int
    proposed: int
    relaxed: int
    plausible: int
    fresh: int
    lowest_ev_per_atom: float | None
    low: int
    completeness: Completeness

    def as_dict(self) -> dict[str, Any]:
        """As in `ranked.json`."""
        found, (low, high) = self.completeness, self.completeness.interval
        return {
            "round": self.number,
            "proposed": self.proposed,
            "relaxed": self.relaxed,
            "lowest_ev_per_atom": _rounded(self.lowest_ev_per_atom),
            "low": self.low,
            "draws_of_low": found.finds,
            "drawn": found.seen,
            "drawn_once": found.once,
            "drawn_twice": found.twice,
            "unseen": _rounded(found.unseen),
            "next_is_new": _rounded(found.next_is_new),
            "found_share": _rounded(found.share),
            "found_share_95": [_rounded(low), _rounded(high)],
        }

    def line(self, before: Round | None = None) -> str:
        """For a terminal or a log."""
        lowest = "nothing low yet"
        if self.lowest_ev_per_atom is not None:
            lowest = f"lowest {self.lowest_ev_per_atom:.4f} eV/atom"
            if before is not None and before.lowest_ev_per_atom is not None:
                gained = 1000 * (self.lowest_ev_per_atom - before.lowest_ev_per_atom)
                lowest += f" ({gained:+.1f} meV)" if abs(gained) >= 0.05 else ""
        told = "their share cannot be told yet"
        if self.completeness.finds:
            share, (low, high) = self.completeness.share, self.completeness.interval
            told = f"{100 * share:.0f} % of them found [{100 * low:.0f}–{100 * high:.0f}]"
        return f"round {self.number}: {self.proposed:,} candidates, {lowest}, {self.low} low crystals, {told}"


Heard = Callable[[Round, Round | None], None]
"""Called with a round that was closed and the one before it."""


@dataclass(frozen=True, slots=True)
class History:
    """Attributes:
    rounds: Round 0 first.
    ended: A key of `ENDINGS`.
    """

    rounds: tuple[Round, ...]
    ended: str

    @property
    def probability(self) -> float:
        """That the lowest that was found is the lowest."""
        return self.rounds[-1].completeness.share

    def sentence(self) -> str:
        """For people."""
        last = self.rounds[-1]
        low, high = last.completeness.interval
        drawn, rounds = last.completeness, "1 round" if last.number == 1 else f"{last.number} rounds"
        ended = f"Ended after {rounds} and {last.proposed:,} candidates: {ENDINGS[self.ended]}. "
        if not drawn.finds:
            return ended + (
                "No draw of a round has led to a low crystal, so how probable it is that the lowest is the "
                "lowest cannot be told."
            )
        return ended + (
            f"The lowest is the lowest with a probability of {self.probability:.2f} "
            f"({low:.2f} to {high:.2f}), by {drawn.finds} draws of {drawn.seen} low crystals, "
            f"{drawn.once} of them drawn once."
        )

    def as_dict(self) -> dict[str, Any]:
        """As in `ranked.json`."""
        return {
            "ended": self.ended,
            "probably_lowest": _rounded(self.probability),
            "rounds": [one.as_dict() for one in self.rounds],
        }


def _rounded(value: float | None) -> float | None:
    """To what JSON can hold and a file needs."""
    if value is None or value in (float("inf"), float("-inf")):
        return None
    return round(value, 6)
