"""In which ratios known crystals are made of their elements.

Ratios are counted by rising electronegativity, and in compounds of metals alone apart from the others: of two
metals 2:17 nearly always has 17 of the more electronegative, as Th2Co17, and few salts have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from csp.formula import electronegativity_key
from csp.library.library import MAX_NUMBER, Library
from csp.target import Target

__all__ = ["Ratios"]


@dataclass(frozen=True)
class Ratios:
    """How many crystals a library has of each ratio, elements by electronegativity.

    Attributes:
        counted: By whether all elements are metals, and amounts.
        stand_ins: By ascending amounts, of crystals whose elements stand for others: nobody knows which.
    """

    counted: dict[tuple[bool, tuple[int, ...]], int]
    stand_ins: dict[tuple[int, ...], int]

    @classmethod
    def of(cls, library: Library) -> Ratios:
        """Those of a library."""
        rows = library.all_rows()
        numbers, ascending = library.compositions(rows)
        amounts = np.take_along_axis(ascending, np.argsort(_places()[numbers], axis=1), axis=1)
        metals = (_metals()[numbers] | (numbers == 0)).all(axis=1)
        stand_ins = library.stand_in(rows)
        own = _counted(np.column_stack([metals, amounts])[~stand_ins])
        return cls({(bool(key[0]), key[1:]): n for key, n in own}, dict(_counted(ascending[stand_ins])))

    def count(self, target: Target) -> int:
        """Crystals of the ratio of a composition, of metals alone if it is, else not."""
        own = self.counted.get((_of_metals(target), target.counts), 0)
        return own + self.stand_ins.get(target.anonymous, 0)

    def total(self, target: Target) -> int:
        """Crystals of all ratios that are of metals alone, if a composition is, else not."""
        return self._totals[_of_metals(target)]

    @cached_property
    def _totals(self) -> dict[bool, int]:
        stand_ins = sum(self.stand_ins.values())
        return {
            kind: stand_ins + sum(n for (metals, _), n in self.counted.items() if metals == kind)
            for kind in (True, False)
        }


def _counted(table: NDArray[np.int64]) -> Iterator[tuple[tuple[int, ...], int]]:
    """The different rows and how often each is there; without zeros at the end, which pad."""
    rows, counts = np.unique(table, axis=0, return_counts=True)
    for row, n in zip(rows.tolist(), counts.tolist(), strict=True):
        while len(row) > 1 and not row[-1]:
            row.pop()
        yield tuple(row), n


def _of_metals(target: Target) -> bool:
    return bool(_metals()[list(target.numbers)].all())


@cache
def _metals() -> NDArray[np.bool_]:
    """By atomic number."""
    from pymatgen.core import Element

    return np.array([z > 0 and Element.from_Z(z).is_metal for z in range(MAX_NUMBER + 1)])


@cache
def _places() -> NDArray[np.int64]:
    """By atomic number, the place among all elements by electronegativity; 0, which pads, comes last."""
    ordered = sorted(range(1, MAX_NUMBER + 1), key=lambda z: electronegativity_key(chemical_symbols[z]))
    return np.argsort([*ordered, 0])  # the inverse of a permutation
