"""How fast energy models are, against their packages' own calculators called one by one in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from csp.crystals import Crystals
from csp.protocols import EnergyModel

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

__all__ = ["EnergyRate", "energy_rate"]


@dataclass(frozen=True, slots=True)
class EnergyRate:
    """Seconds per crystal for energy, forces and stress; the best of the rounds of each."""

    n_crystals: int
    model: float
    reference: float

    @property
    def ratio(self) -> float:
        """How many times faster the model is."""
        return self.reference / self.model


def energy_rate(
    model: EnergyModel,
    reference: Calculator,
    crystals: Crystals,
    sizes: Sequence[int] = (1, 2, 5, 10, 20, 50, 100, 200),
    *,
    rounds: int = 3,
) -> list[EnergyRate]:
    """Time batches of the first n crystals, for each n of `sizes`, against the reference calculator.

    The reference is called for one crystal after the other, on the same crystals, at most 20 of them;
    model and reference take turns, so that both meet the same load of the machine. Both warm up first.
    """

    def one_by_one(n: int) -> None:
        for atoms in crystals[:n].atoms():
            reference.reset()  # or it answers from memory
            atoms.calc = reference
            atoms.get_forces()

    model.evaluate(crystals[:2], forces=True)
    one_by_one(1)
    rates = []
    for n in sizes:
        batch, n_reference = crystals[:n], min(n, 20)
        ours = theirs = float("inf")
        for _ in range(rounds):
            ours = min(ours, _seconds(partial(model.evaluate, batch, forces=True)) / n)
            theirs = min(theirs, _seconds(partial(one_by_one, n_reference)) / n_reference)
        rates.append(EnergyRate(n, ours, theirs))
    return rates


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
