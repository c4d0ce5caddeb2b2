"""Starts that a person gives: crystals of other runs or of files, of the target or of the same amounts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from csp.crystallography.symmetry import primitive, space_groups
from csp.crystals import Crystals
from csp.errors import InputError
from csp.library.given import GivenCrystals
from csp.library.volume import VolumePrior
from csp.protocols import Proposals, Provenance
from csp.target import Target
from generators.templates.assignments import Assignments
from generators.templates.substitution import Ranking, exchanges

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
        self._given, self._target, self._volume, self._compression = given, target, volume, compression
        self._ways = Assignments.of(target)
        kinds = [_reduced(given.crystals[k]) for k in range(len(given.names))]
        fit = [k for k, (_, counts) in enumerate(kinds) if counts == target.anonymous]
        self._ranking = Ranking(self._found(fit, [numbers for numbers, _ in kinds]), "exhausted")
        if not self._ranking.upto(1):
            why = "that the target allows" if fit else "of this composition or its amounts"
            amounts = ":".join(map(str, target.anonymous))
            raise InputError(
                f"None of {len(kinds)} crystals is one {why}, which are {amounts}.", setting="starts"
            )

    def ids(self, n: int) -> list[str]:
        """Of the first n proposals, as `Crystals` has them."""
        return [one.crystal.ids()[0] for one in self._ranking.upto(n)]

    def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
        """See `csp.protocols.Generator`."""
        chosen = self._ranking.upto(start + n)[start:]
        crystals = Crystals.cat([Crystals.empty(), *(one.crystal for one in chosen)])
        provenance = [
            Provenance(self.name, start + k, seed, group, score=-float(start + k), why=one.why)
            for k, (one, group) in enumerate(zip(chosen, space_groups(crystals, SYMPREC), strict=True))
        ]
        return Proposals(crystals, provenance, n, +Counter({self._ranking.end: n - len(chosen)}))

    def _found(self, fit: Sequence[int], numbers: Sequence[tuple[int, ...]]) -> Iterator[_Start]:
        """What the target allows, in the order of proposals; made when it is asked for.

        Args:
            fit: Places of the crystals with the target's amounts.
            numbers: Elements of each crystal, as `_reduced` gives them.
        """
        elements = tuple(self._ways.elements.tolist())
        for k in sorted(fit, key=lambda k: numbers[k] != elements):
            crystal, name = self._given.crystals[k], self._given.names[k]
            if numbers[k] == elements:
                starts = iter([_Start(crystal.scaled_to(crystal.volumes / self._compression), name)])
            else:
                starts = self._exchanged(crystal, name, numbers[k])
            yield from (one for start in starts if (one := _allowed(start, self._target)) is not None)

    def _exchanged(self, crystal: Crystals, name: str, numbers: tuple[int, ...]) -> Iterator[_Start]:
        """The crystal with the target's elements in the places of its own, in every way."""
        counts = self._target.anonymous
        place = (crystal.numbers[:, None] == torch.tensor(numbers)).int().argmax(1)
        for order in self._ways.orders:
            new = torch.from_numpy(self._ways.elements[order])
            ratio = self._volume.predict(new.tolist(), counts) / self._volume.predict(numbers, counts)
            exchanged = Crystals(crystal.cell, crystal.frac, new[place], crystal.offsets)
            why = f"{name} with {exchanges(numbers, new.tolist())}"
            yield _Start(exchanged.scaled_to(ratio * crystal.volumes), why)


def _reduced(crystal: Crystals) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Elements and their amounts in the reduced formula, sorted by amount, then atomic number."""
    numbers, found = (one.tolist() for one in crystal.numbers.unique(return_counts=True))
    unit = math.gcd(*found)
    pairs = sorted((n // unit, z) for n, z in zip(found, numbers, strict=True))
    return tuple(z for _, z in pairs), tuple(n for n, _ in pairs)


def _allowed(start: _Start, target: Target) -> _Start | None:
    """With its primitive cell; None where the target wants another size or symmetry."""
    crystal = primitive(start.crystal, SYMPREC)
    if int(crystal.n_atoms[0]) // target.n_atoms not in target.formula_units:
        return None
    return _Start(crystal, start.why) if target.allows_group(space_groups(crystal, SYMPREC)[0]) else None
