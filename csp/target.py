"""What is asked for: a formula, and the constraints that proposals obey."""

from __future__ import annotations

from dataclasses import dataclass, field

from csp.cell_file import Cell
from csp.errors import InputError
from csp.formula import electronegativity_key, read_formula

__all__ = ["CRYSTAL_SYSTEMS", "Target"]

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
        name: The formula as it was asked for (NH3 where `formula` is H3N) if it is plain letters and digits
            that mean the same, else `formula`. Folders are named by it.
        formula_note: What was made of the formula as it was written, one sentence; "" for nothing.
    """

    formula: str
    numbers: tuple[int, ...]
    counts: tuple[int, ...]
    max_atoms: int = 100
    z: int | None = None
    space_groups: frozenset[int] | None = None
    pressure: float = 0.0
    cell: Cell | None = None
    name: str = field(default="", compare=False)
    formula_note: str = field(default="", compare=False)

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
        """Read a formula such as `SrTiO3` or `Ba(FeAs)2` (`csp.formula`).

        Args:
            formula: The formula as written.
            max_atoms: Largest primitive cell, atoms.
            z: Formula units in the primitive cell; None: any that fits `max_atoms`.
            space_groups: Space groups that proposals may have; None: all 230.
            pressure: GPa.
            cell: A known cell, lattice vectors in Å; None: any.

        Raises:
            InputError: In one sentence, for what is not a formula and for formula units larger than
                `max_atoms`.
        """
        read = read_formula(formula)
        counts = read.counts
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
            formula=str(read),
            numbers=tuple(_atomic_number(s) for s in ordered),
            counts=tuple(counts[s] for s in ordered),
            max_atoms=max_atoms,
            z=z,
            space_groups=space_groups,
            pressure=pressure,
            cell=cell,
            name=formula if formula.isascii() and formula.isalnum() and not read.change else str(read),
            formula_note=read.change,
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


def _atomic_number(symbol: str) -> int:
    from pymatgen.core import Element

    return int(Element(symbol).Z)
