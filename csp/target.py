"""What is asked for: a formula, and the constraints that proposals obey."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from csp.cell_file import Cell
from csp.errors import InputError

__all__ = ["CRYSTAL_SYSTEMS", "Target", "electronegativity_key"]

MAX_ELEMENTS = 12
CRYSTAL_SYSTEMS = {
    "triclinic": range(1, 3),
    "monoclinic": range(3, 16),
    "orthorhombic": range(16, 75),
    "tetragonal": range(75, 143),
    "trigonal": range(143, 168),
    "hexagonal": range(168, 195),
    "cubic": range(195, 231),
}
"""The space groups of each."""


@dataclass(frozen=True, slots=True)
class Target:
    """A composition to predict, in formula units, with the constraints every generator obeys.

    Attributes:
        formula: The reduced formula, elements by electronegativity.
        numbers: Atomic numbers in the order of electronegativity (as in the formula).
        counts: Atoms of each in one formula unit; coprime.
        max_atoms: Largest primitive cell, atoms.
        z: Formula units in the primitive cell; None: any that fits `max_atoms`.
        space_groups: Numbers of the space groups that proposals may have; None: all 230.
        pressure: Hydrostatic pressure, GPa.
        cell: Lattice vectors, Å, of a primitive or conventional cell that proposals of `space_group` and
            `random` have; None: any.
    """

    formula: str
    numbers: tuple[int, ...]
    counts: tuple[int, ...]
    max_atoms: int = 100
    z: int | None = None
    space_groups: frozenset[int] | None = None
    pressure: float = 0.0
    cell: Cell | None = None

    @classmethod
    def parse(
        cls,
        formula: str,
        *,
        max_atoms: int = 100,
        z: int | None = None,
        space_groups: frozenset[int] | None = None,
        pressure: float = 0.0,
        cell: Cell | None = None,
    ) -> Target:
        """Read a formula such as `SrTiO3` or `Ba(FeAs)2`; amounts are reduced to coprime integers.

        Args:
            formula: The formula as written.
            max_atoms: Largest primitive cell, atoms.
            z: Formula units in the primitive cell; None: any that fits `max_atoms`.
            space_groups: Space groups that proposals may have; None: all 230.
            pressure: GPa.
            cell: A known cell, lattice vectors in Å; None: any.

        Raises:
            InputError: In one sentence, for what is not a formula, for fractional amounts that no multiple
                up to 100 makes whole, and for formula units larger than `max_atoms`.
        """
        counts = _parse_counts(formula)
        if len(counts) > MAX_ELEMENTS:
            raise InputError(f"{formula!r} has {len(counts)} elements; at most {MAX_ELEMENTS} are supported.")
        ordered = sorted(counts, key=electronegativity_key)
        size = sum(counts.values())
        n_atoms = size * (z or 1)
        if n_atoms > max_atoms:
            raise InputError(
                f"{z or 1} formula unit(s) of {formula!r} are {n_atoms} atoms, more than the allowed "
                f"{max_atoms}; raise `max_atoms`{' or lower `z`' if z else ''}."
            )
        if space_groups is not None and not space_groups:
            raise InputError("No space group is left to propose in; allow at least one of 1-230.")
        return cls(
            formula="".join(f"{s}{counts[s] if counts[s] > 1 else ''}" for s in ordered),
            numbers=tuple(_atomic_number(s) for s in ordered),
            counts=tuple(counts[s] for s in ordered),
            max_atoms=max_atoms,
            z=z,
            space_groups=space_groups,
            pressure=pressure,
            cell=cell,
        )

    @property
    def n_atoms(self) -> int:
        """Atoms in one formula unit."""
        return sum(self.counts)

    @property
    def anonymous(self) -> tuple[int, ...]:
        """The counts in ascending order: (1, 1, 3) for SrTiO3. The library is indexed by it."""
        return tuple(sorted(self.counts))

    @property
    def formula_units(self) -> range | tuple[int, ...]:
        """The allowed numbers of formula units in the primitive cell."""
        return (self.z,) if self.z else range(1, self.max_atoms // self.n_atoms + 1)

    def allows_group(self, number: int) -> bool:
        """May proposals have this space group?"""
        return self.space_groups is None or number in self.space_groups


def _parse_counts(formula: str) -> dict[str, int]:
    """Element symbol → coprime integer amount."""
    from pymatgen.core import Composition, Element

    text = re.sub(r"\s+", "", formula)
    if not text:
        raise InputError("The formula is empty; write one such as SrTiO3.")
    not_one = f"{formula!r} is not a chemical formula; write one such as SrTiO3 or Ba(FeAs)2."
    if not re.fullmatch(r"(?:[A-Z][a-z]?|[()\[\]]|\d+(?:\.\d+)?)+", text):
        raise InputError(not_one)
    if text.count("(") != text.count(")") or text.count("[") != text.count("]"):
        raise InputError(f"{formula!r} has a bracket that is not closed; write for example Ba(FeAs)2.")
    unknown = [s for s in re.findall(r"[A-Z][a-z]?", text) if not Element.is_valid_symbol(s) or s in "DT"]
    if unknown:
        raise InputError(f"{formula!r} is not a chemical formula: there is no element {unknown[0]}.")
    try:
        composition = Composition(text)
    except ValueError as error:
        raise InputError(not_one) from error
    amounts = {e.symbol: float(x) for e, x in composition.items() if x > 0}
    if not amounts:
        raise InputError(f"{formula!r} contains no atoms.")
    for multiple in range(1, 101):
        scaled = {s: x * multiple for s, x in amounts.items()}
        if all(abs(x - round(x)) < 1e-6 and round(x) > 0 for x in scaled.values()):
            whole = {s: round(x) for s, x in scaled.items()}
            divisor = math.gcd(*whole.values())
            return {s: n // divisor for s, n in whole.items()}
    raise InputError(f"The amounts in {formula!r} cannot be made whole numbers; write an ordered formula.")


def electronegativity_key(symbol: str) -> tuple[float, str]:
    """Sorts element symbols as formulas list them: by electronegativity (Pauling), unknown ones last."""
    from pymatgen.core import Element

    chi = Element(symbol).data.get("X")
    return (float(chi) if isinstance(chi, (int, float)) else 99.0, symbol)


def _atomic_number(symbol: str) -> int:
    from pymatgen.core import Element

    return int(Element(symbol).Z)
