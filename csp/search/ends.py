"""All crystals that the last model relaxed, with where each comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from csp.crystallography.symmetry import space_group_symbol
from csp.relaxation.rattle import REAL_GAIN
from csp.relaxation.relax import RelaxationResult
from csp.search.dynamics import Lower

__all__ = ["Ends"]


@dataclass(frozen=True, slots=True)
class Ends:
    """All that the last model relaxed, rattled crystals after the others.

    Attributes:
        candidate: Of each the id of what was proposed.
        gained: eV/atom that rattling gained for the crystal that each was or comes from; None: not rattled.
        led_from: Of each that lies below a saddle which saddle, and along which of its modes; "" of others.
    """

    result: RelaxationResult
    candidate: list[str]
    gained: list[float | None]
    led_from: list[str]

    @staticmethod
    def unrattled(result: RelaxationResult, candidate: list[str]) -> Ends:
        """Those that were not rattled."""
        return Ends(result, candidate, [None] * len(candidate), [""] * len(candidate))

    def take(self, rows: list[int]) -> Ends:
        """The chosen crystals, in this order."""
        return Ends(
            self.result.take(rows),
            [self.candidate[row] for row in rows],
            [self.gained[row] for row in rows],
            [self.led_from[row] for row in rows],
        )

    def with_what_lies_below(
        self, saddles: Sequence[tuple[int, Sequence[int], Lower]], per_atom: Tensor
    ) -> Ends:
        """What lies below saddles in the place of them.

        Args:
            saddles: The row of each saddle, the rows of all that is taken for it, and what lies below it.
            per_atom: float64 [B], eV/atom, energies or enthalpies.
        """
        gone = {
            row
            for _, rows, lower in saddles
            for row in rows
            if float(per_atom[row]) > lower.saddle - REAL_GAIN
        }
        kept = self.take([row for row in range(len(self.candidate)) if row not in gone])
        result, candidate, led_from = kept.result, list(kept.candidate), list(kept.led_from)
        for saddle, _, lower in saddles:
            result = result.followed_by(lower.result)
            candidate += [self.candidate[saddle]] * len(lower.ways)
            symbol = space_group_symbol(lower.space_group)
            led_from += [f"{symbol} along {way}" for way in lower.ways]
        gained = [*kept.gained, *[None] * (len(candidate) - len(kept.gained))]
        return Ends(result, candidate, gained, led_from)
