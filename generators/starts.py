"""Starts that a person gives: crystals of other runs or of files, of the target or of the same amounts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from ase.data import chemical_symbols

from csp.crystallography.symmetry import primitive, space_groups
from csp.crystals import Crystals
from csp.errors import InputError
from csp.library.given import GivenCrystals
from csp.library.volume import VolumePrior
from csp.protocols import Proposals, Provenance
from csp.target import Target
from generators.templates.assignments import Assignments

__all__ = ["Starts"]

SYMPREC = 0.01  # Å; what was relaxed keeping its symmetry has it exactly


@dataclass(frozen=True, slots=True)
class _Start:
    crystal: Crystals
    why: str


class Starts:
    """Proposes crystals that are given, those of the target's own composition first and as they are.

    In crystals of other elements in the same amounts the target's take their places, in every way once, at
    the volume that the prior gives them relative to the other. Deterministic: the seed plays no role.

    Args:
        given: Crystals and their names, the best first.
        target: What they have to fit.
        compression: Volume that proposals are going to be scaled by, which crystals of the target are not.

    Raises:
        InputError: None of them can be a start.
    """

    name = "starts"

    def __init__(
        self, given: GivenCrystals, target: Target, volume: VolumePrior, compression: float = 1.0
    ) -> None:
        crystals = given.crystals
        own, others = list[_Start](), list[_Start]()
        ways = Assignments.of(target)
        for k, name in enumerate(given.names):
            numbers, counts = _reduced(crystals[k])
            if counts != target.anonymous:
                continue
            if numbers == tuple(ways.elements.tolist()):
                own.append(_Start(crystals[k].scaled_to(crystals[k].volumes / compression), name))
            else:
                others += _exchanged(crystals[k], name, numbers, counts, ways, volume)
        self._starts = [one for start in (*own, *others) if (one := _allowed(start, target)) is not None]
        if not self._starts:
            why = "of this composition or its amounts" if not own and not others else "that the target allows"
            amounts = ":".join(map(str, target.anonymous))
            raise InputError(
                f"None of {len(crystals)} crystals is one {why}, which are {amounts}.", setting="starts"
            )

    def __len__(self) -> int:
        return len(self._starts)

    def ids(self) -> list[str]:
        """Of the crystals, as `Crystals` has them."""
        return [one.crystal.ids()[0] for one in self._starts]

    def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
        """See `csp.protocols.Generator`."""
        chosen = self._starts[start : start + n]
        groups = space_groups(Crystals.cat([one.crystal for one in chosen]), SYMPREC) if chosen else []
        provenance = [
            Provenance(self.name, start + k, seed, groups[k], score=-float(start + k), why=one.why)
            for k, one in enumerate(chosen)
        ]
        crystals = Crystals.cat([one.crystal for one in chosen]) if chosen else Crystals.empty()
        return Proposals(crystals, provenance, n, +Counter(exhausted=n - len(chosen)))


def _reduced(crystal: Crystals) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Elements and their amounts in the reduced formula, sorted by amount, then atomic number."""
    numbers, found = crystal.numbers.unique(return_counts=True)
    unit = math.gcd(*found.tolist())
    counts, numbers_of = zip(
        *sorted((n // unit, z) for n, z in zip(found.tolist(), numbers.tolist(), strict=True)), strict=True
    )
    return numbers_of, counts


def _exchanged(
    crystal: Crystals,
    name: str,
    numbers: Sequence[int],
    counts: Sequence[int],
    ways: Assignments,
    volume: VolumePrior,
) -> list[_Start]:
    """The crystal with the target's elements in the places of its own, in every way."""
    place = (crystal.numbers[:, None] == torch.tensor(numbers)).int().argmax(1)
    found = []
    for order in ways.orders:
        new = torch.from_numpy(ways.elements[order])
        ratio = volume.predict(new.tolist(), counts) / volume.predict(numbers, counts)
        exchanged = Crystals(crystal.cell, crystal.frac, new[place], crystal.offsets)
        changes = ", ".join(
            f"{chemical_symbols[a]}→{chemical_symbols[b]}"
            for a, b in zip(numbers, new.tolist(), strict=True)
            if a != b
        )
        found.append(_Start(exchanged.scaled_to(ratio * crystal.volumes), f"{name} with {changes}"))
    return found


def _allowed(start: _Start, target: Target) -> _Start | None:
    """With its primitive cell; None where the target wants another size or symmetry."""
    crystal = primitive(start.crystal, SYMPREC)
    if int(crystal.n_atoms[0]) // target.n_atoms not in target.formula_units:
        return None
    return _Start(crystal, start.why) if target.allows_group(space_groups(crystal, SYMPREC)[0]) else None
