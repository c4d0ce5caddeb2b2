"""What is recorded of one deep search for a known crystal."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["SAME", "DeepOutcome"]

SAME = 0.001  # eV/atom; what two relaxations of one crystal differ by


class DeepOutcome(BaseModel):
    """One search.

    name, formula, n_atoms   of the truth, in its primitive cell
    rank                     of the truth in the whole ranking by energy, None if it is not there
    rank_before              the same after the search that comes before all rounds
    lowest, lowest_before    eV/atom, the lowest that was found, after all rounds and before them
    truth                    eV/atom of the relaxed truth by the same model, None where it has no energy
    rounds, candidates       done
    ended                    why
    share, share_95          of the low crystals found, as the search told, with its interval
    low                      distinct low crystals known
    leak                     whether models and generators have seen the composition
    seconds                  of each part; cpu of all threads of the process
    """

    model_config = ConfigDict(frozen=True)

    name: str
    formula: str
    n_atoms: int
    rank: int | None
    rank_before: int | None
    lowest: float | None
    lowest_before: float | None
    truth: float | None
    rounds: int
    candidates: int
    ended: str
    share: float
    share_95: tuple[float, float]
    low: int
    leak: dict[str, str] = {}
    seconds: dict[str, float] = {}

    @property
    def above_truth(self) -> float | None:
        """The lowest found minus the truth, eV/atom; negative: the model prefers another crystal."""
        return None if self.lowest is None or self.truth is None else self.lowest - self.truth

    @property
    def gained(self) -> float | None:
        """By how much the rounds lowered the lowest, eV/atom."""
        if self.lowest is None or self.lowest_before is None:
            return None
        return self.lowest_before - self.lowest

    @property
    def right(self) -> bool | None:
        """Is the lowest found the lowest, as far as is known: does the truth not lie below it?"""
        return None if self.above_truth is None else self.above_truth < SAME

    def line(self) -> str:
        """For the terminal."""
        above = "" if self.above_truth is None else f"{1000 * self.above_truth:+.1f} meV/atom to the truth"
        gained = "" if not self.gained else f", lowered by {1000 * self.gained:.1f}"
        return (
            f"{self.name:<12} {self.formula:<14} rank {self.rank or '–'} (before {self.rank_before or '–'}), "
            f"{above}{gained}, {self.rounds} rounds, told {self.share:.2f}, "
            f"{self.seconds.get('all', 0.0):.0f} s"
        )
