"""Is the search done? How many low crystals exist, from how often each of them was found.

Counted are *independent* proposals alone: draws of the generators that a search begins with, each made
without looking at what was found. Geometries of skeletons that led low, and moves on low crystals, go where
the search has been: that they find the same again says nothing about what is elsewhere, and counting them
would make any search look done. What they find has no count; if some of it lies below all that was drawn, the
draws have missed at least so many, whatever their counts say.

Of S low crystals that n draws found, f₁ were found once and f₂ twice.

* Good and Turing: a further low find would be a new crystal with probability f₁/n (Good, Biometrika 40, 237
  (1953)). We reckon (f₁ + 1)/(n + 1), as if the next were new: two finds of one crystal do not make a
  search complete.
* Chao: at least f₁(f₁ − 1)/(2(f₂ + 1)) low crystals have not been found (Chao, Scand. J. Stat. 11, 265
  (1984), in its bias-corrected form), with the interval of Chao, Biometrics 43, 783 (1987).

If what a crystal's energy is has nothing to do with how often it is drawn, each of the low crystals that
there are is as likely as any other to be the lowest, and the lowest that was found is the lowest with the
probability that it is among the found ones: S of S + unseen. (Low crystals have wide funnels more often than
not, which errs on the safe side; crystals larger than any that is drawn are not spoken of.) The smaller of
the two shares is told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Completeness", "completeness"]

Z95 = 1.959963984540054  # normal quantile of a two-sided 95 % interval


@dataclass(frozen=True, slots=True)
class Completeness:
    """What the counts of draws say about the low crystals.

    Attributes:
        finds: n, draws that led to a low crystal.
        seen: S, low crystals that were drawn.
        once: f₁, of these found by one draw.
        twice: f₂, by two.
        unseen: Low crystals that no draw has found, by estimate, at least.
        unseen_low: Lower end of the 95 % interval of `unseen`.
        unseen_high: Its upper end.
        next_is_new: Probability that the next low find is of a new crystal.
    """

    finds: int
    seen: int
    once: int
    twice: int
    unseen: float
    unseen_low: float
    unseen_high: float
    next_is_new: float

    @property
    def share(self) -> float:
        """Of the low crystals that is found: the probability that the lowest found is the lowest, 0 to 1."""
        return self._share(self.unseen)

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, of `share`."""
        return self._share(self.unseen_high), self._share(self.unseen_low)

    def _share(self, unseen: float) -> float:
        if not self.seen:
            return 0.0
        return min(1.0 - self.next_is_new, self.seen / (self.seen + unseen))


def completeness(counts: Sequence[int], missed: int = 0) -> Completeness:
    """From the counts of the low crystals.

    Args:
        counts: How many draws led to each low crystal; 0 for what only other ways found.
        missed: Crystals below all that was drawn, which only other ways found: the least there is unseen.
    """
    drawn = [count for count in counts if count]
    finds, seen = sum(drawn), len(drawn)
    once, twice = drawn.count(1), drawn.count(2)
    unseen = once * (once - 1) / (2 * (twice + 1))
    low, high = _interval(finds, seen, once, twice, unseen)
    return Completeness(
        finds,
        seen,
        once,
        twice,
        max(unseen, missed),
        max(low, missed),
        max(high, missed),
        (once + 1) / (finds + 1),
    )


def _interval(finds: int, seen: int, once: int, twice: int, unseen: float) -> tuple[float, float]:
    """95 % of the number unseen (Chao 1987; the variances as EstimateS lists them, appendix B)."""
    if not seen:
        return 0.0, math.inf
    if unseen > 0:
        pairs, odds = once * (once - 1), once * (2 * once - 1) ** 2
        if twice:
            variance = pairs / (2 * (twice + 1)) + odds / (4 * (twice + 1) ** 2)
            variance += once**2 * twice * (once - 1) ** 2 / (4 * (twice + 1) ** 4)
        else:
            variance = pairs / 2 + odds / 4 - once**4 / (4 * (seen + unseen))
        spread = math.exp(Z95 * math.sqrt(math.log1p(variance / unseen**2)))
        return unseen / spread, unseen * spread
    # none or one was found once: the number is at least `seen`, and not many more
    missing = math.exp(-finds / seen)
    middle = seen / (1 - missing)
    spread = Z95 * math.sqrt(seen * missing / (1 - missing))
    return max(0.0, middle - spread - seen), middle + spread - seen
