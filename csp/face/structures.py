"""Between what people have, pymatgen structures and ASE atoms, one or many, and `Crystals`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union

from csp.crystals import Crystals
from csp.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

__all__ = ["AnyStructures", "GivenStructures", "read_structures"]

AnyStructures: TypeAlias = Union["Structure", "Atoms", "Iterable[Structure]", "Iterable[Atoms]", Crystals]
Kind = Literal["pymatgen", "ase", "crystals"]


@dataclass(frozen=True, slots=True)
class GivenStructures:
    """Structures as they were given, and as the engine works with them.

    Attributes:
        single: Was one structure given, not several?
        originals: Of pymatgen or ASE; empty for `Crystals`.
    """

    kind: Kind
    single: bool
    originals: list[Any]
    crystals: Crystals

    def moved(self, ends: Crystals, energies: Sequence[float]) -> list[Any]:
        """Copies of the originals in other cells and places, with all else that they carry.

        Args:
            energies: eV per cell, which ASE atoms get as their calculator's result.
        """
        if self.kind == "crystals":
            return [ends[k] for k in range(len(ends))]
        moved = _moved_structure if self.kind == "pymatgen" else _moved_atoms
        return [
            moved(original, cell, frac, energy)
            for original, (cell, frac, _), energy in zip(self.originals, ends.arrays(), energies, strict=True)
        ]


def read_structures(given: AnyStructures) -> GivenStructures:
    """What was given, whichever of the kinds it is.

    Raises:
        InputError: It is none of them, a mixture, not periodic, disordered, or constrained.
    """
    if isinstance(given, Crystals):
        return GivenStructures("crystals", False, [], given)
    single = _kind(given) is not None
    originals: list[Any] = list(given) if isinstance(given, Iterable) and not single else [given]
    kinds = {_kind(one) for one in originals}
    if not kinds:
        return GivenStructures("pymatgen", False, [], Crystals.empty())
    if None in kinds:
        strange = next(type(one).__name__ for one in originals if _kind(one) is None)
        raise InputError(
            f"Give structures of pymatgen, atoms of ASE or csp.Crystals, not the type {strange}."
        )
    if len(kinds) > 1:
        raise InputError("Give structures of pymatgen or atoms of ASE, not both at once.")
    if "ase" in kinds:
        _check_atoms(originals)
        return GivenStructures("ase", single, originals, Crystals.from_atoms(originals))
    if not all(one.is_ordered for one in originals):
        raise InputError("A structure is disordered; each site must hold one element.")
    return GivenStructures("pymatgen", single, originals, Crystals.from_structures(originals))


def _kind(given: Any) -> Kind | None:
    """Only a package that is imported can have made an object: none is imported to find out."""
    if (core := sys.modules.get("pymatgen.core")) and isinstance(given, core.IStructure):
        return "pymatgen"
    if (ase := sys.modules.get("ase")) and isinstance(given, ase.Atoms):
        return "ase"
    return None


def _check_atoms(originals: list[Any]) -> None:
    if not all(atoms.pbc.all() for atoms in originals):
        raise InputError("Atoms must be periodic in all three directions: set pbc=True.")
    if any(atoms.constraints for atoms in originals):
        raise InputError("Constraints of ASE are not kept; remove them first: atoms.set_constraint().")


def _moved_structure(original: Any, cell: Any, frac: Any, energy: float) -> Any:
    from pymatgen.core import Lattice

    return type(original)(
        Lattice(cell),
        original.species,
        frac,
        charge=original._charge,
        site_properties=original.site_properties,
        labels=original.labels,
        properties=dict(original.properties),
    )


def _moved_atoms(original: Any, cell: Any, frac: Any, energy: float) -> Any:
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = original.copy()
    atoms.set_cell(cell)
    atoms.set_scaled_positions(frac)
    if energy == energy:  # there is one
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
    return atoms
