"""Symmetry analysis: space groups, Wyckoff positions and standard cells.

The only place that imports spglib or moyopy. moyo (https://github.com/spglib/moyo) does the analysis,
about four times faster than spglib. All standard cells and Wyckoff letters are in one setting, the standard
one of the International Tables A: unique axis b and cell choice 1 for monoclinic, hexagonal axes for
rhombohedral and origin choice 2 for centrosymmetric groups.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from csp.crystals import Crystals

if TYPE_CHECKING:
    from moyopy import MoyoDataset

__all__ = [
    "StandardCell",
    "Symmetrized",
    "crystal_system",
    "moyo_datasets",
    "number_of_operations",
    "primitive",
    "primitive_sites",
    "reported_space_groups",
    "reported_symmetrized",
    "site_coordinates",
    "space_group_symbol",
    "space_groups",
    "standard_cells",
    "standard_operations",
    "symmetrized",
    "wyckoff_text",
    "wyckoffs",
]

SYMPREC = 0.01  # Å

logging.getLogger("moyo").setLevel(logging.ERROR)  # it warns of every cell that is not primitive
# spglib prints lines where a group is hard to find, into whatever is on the terminal
os.environ.setdefault("SPGLIB_WARNING", "OFF")


def space_groups(crystals: Crystals, symprec: float = SYMPREC) -> list[int]:
    """Space group number of each crystal, 0 where the analysis fails (for instance overlapping atoms)."""
    return [0 if data is None else data.number for data in moyo_datasets(crystals, symprec)]


def reported_space_groups(crystals: Crystals, symprec: float) -> list[int]:
    """Space group number of each crystal by spglib, whose groups most people quote; 0 where the analysis
    fails.

    moyo agrees for 99 in 100 crystals, at tolerances of 0.01 and 0.1 Å. Near the tolerance the two go
    different ways to a consistent group, and what is reported is what people will compare with.

    Args:
        symprec: Å.
    """
    import spglib

    failed: type[Exception] = getattr(spglib, "SpglibError", RuntimeError)  # what newer versions raise
    numbers = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Set OLD_ERROR_HANDLING", DeprecationWarning)
        for cell in crystals.arrays():
            try:
                data = spglib.get_symmetry_dataset(cell, symprec=symprec)
            except failed:
                data = None
            numbers.append(0 if data is None else int(data.number))
    return numbers


def number_of_operations(rotations: np.ndarray, translations: np.ndarray) -> int:
    """Number of the space group with these operations in whichever setting, 0 for none.

    Args:
        rotations: [G, 3, 3] on fractional columns.
        translations: [G, 3].
    """
    import spglib

    failed: type[Exception] = getattr(spglib, "SpglibError", RuntimeError)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Set OLD_ERROR_HANDLING", DeprecationWarning)
        try:
            kind = spglib.get_spacegroup_type_from_symmetry(rotations.astype("intc"), translations)
        except failed:
            kind = None
    return 0 if kind is None else int(kind.number)


def space_group_symbol(number: int) -> str:
    """Short Hermann-Mauguin symbol of a space group, for instance "Pnma" for 62."""
    import moyopy

    return moyopy.SpaceGroupType(number).hm_short.replace(" ", "")


def crystal_system(number: int) -> str:
    """ "triclinic", "monoclinic", … "cubic" of a space group."""
    import moyopy

    return moyopy.SpaceGroupType(number).crystal_system.lower()


def standard_operations(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A space group in the standard setting, conventional cell.

    rotations int [G, 3, 3] and translations [G, 3] on fractional columns, centring included; and the integer
    matrix M [3, 3] to the primitive cell, x_primitive = M x.
    """
    import moyopy

    standard = moyopy.Setting.standard()
    found = moyopy.operations_from_number(number, setting=standard)
    rotations, translations = np.array(found.rotations), np.array(found.translations)
    pure = translations[(rotations == np.eye(3)).all(axis=(1, 2))] % 1.0
    for hall in range(1, 531):  # a centring is known by its lattice points
        centring = moyopy.HallSymbolEntry(hall).centering
        points = np.array(centring.lattice_points)
        if len(points) == len(pure) and np.allclose(points[_order(points)], pure[_order(pure)], atol=1e-6):
            return rotations, translations, np.array(centring.linear)
    raise LookupError(f"no centring with the lattice points of space group {number}")


def site_coordinates(crystal: Crystals, symprec: float) -> tuple[int, set[tuple[str, int, str, str]]]:
    """Space group of one crystal and, of each Wyckoff position that its atoms occupy, or occupy with another
    choice of origin, letter, multiplicity, site symmetry and
    coordinates such as "x,-x,1/4"."""
    (data,) = moyo_datasets(crystal, symprec)
    if data is None:
        return 0, set()
    try:
        choices = [sites for _, sites in data.normalizer_wyckoff_positions().coset_representatives]
    except ValueError:  # moyo finds the tolerance too large for this cell
        return 0, set()
    return data.number, {
        (site.letter, site.multiplicity, site.site_symmetry, site.coordinates)
        for sites in choices
        for site in sites
    }


def wyckoffs(crystals: Crystals, symprec: float = SYMPREC) -> list[str]:
    """Occupied Wyckoff positions of each crystal, "Sr:a Ti:b O:c"; "" where the analysis fails."""
    numbers = [n for _, _, n in crystals.arrays()]
    return [
        "" if data is None else _occupied(data, n)
        for data, n in zip(moyo_datasets(crystals, symprec), numbers, strict=True)
    ]


def wyckoff_text(sites: Iterable[tuple[int, str]]) -> str:
    """The one way of writing occupied positions: (atomic number, letter) per orbit to "Sr:a Ti:b O:c"."""
    from ase.data import chemical_symbols

    ordered = sorted((letter, chemical_symbols[number]) for number, letter in sites)
    return " ".join(f"{symbol}:{letter}" for letter, symbol in ordered)


def primitive(crystals: Crystals, symprec: float = SYMPREC) -> Crystals:
    """The primitive standard cell of each crystal, atoms in their symmetric places.

    A crystal that cannot be analysed stays as it is.
    """
    return primitive_sites(crystals, symprec)[0]


def primitive_sites(
    crystals: Crystals, symprec: float = SYMPREC
) -> tuple[Crystals, list[list[tuple[int, str]]]]:
    """`primitive`, and of each crystal the (atomic number, Wyckoff letter) of its orbits; none where the
    analysis fails."""
    parts: list[tuple[Any, Any, Any]] = []
    sites: list[list[tuple[int, str]]] = []
    for data, given in zip(moyo_datasets(crystals, symprec), crystals.arrays(), strict=True):
        if data is None:
            parts.append(given)
            sites.append([])
        else:
            cell = data.prim_std_cell
            parts.append((cell.basis, cell.positions, cell.numbers))
            sites.append(_orbits(data, given[2]))
    found = Crystals.from_arrays(*([part[k] for part in parts] for k in range(3)))
    return found.to(device=crystals.device, dtype=crystals.cell.dtype), sites


@dataclass(frozen=True, slots=True)
class StandardCell:
    """The primitive standard cell of one crystal with n atoms in their symmetric places.

    Attributes:
        space_group: Its number.
        cell: [3, 3], Å; rows are the lattice vectors.
        frac: [n, 3], fractional coordinates.
        numbers: int [n], atomic numbers.
        letters: str [n], Wyckoff letter of each atom.
        orbits: int [n], equal for symmetry-equivalent atoms.
    """

    space_group: int
    cell: np.ndarray
    frac: np.ndarray
    numbers: np.ndarray
    letters: list[str]
    orbits: np.ndarray


def standard_cells(crystals: Crystals, symprec: float = SYMPREC) -> list[StandardCell | None]:
    """The primitive standard cell of each crystal, None where the analysis fails."""
    return [None if data is None else _standard_cell(data) for data in moyo_datasets(crystals, symprec)]


def _standard_cell(data: MoyoDataset) -> StandardCell:
    reduced = data.prim_std_cell
    _, source = np.unique(data.mapping_std_prim, return_index=True)  # an atom as given for each primitive one
    return StandardCell(
        data.number,
        np.array(reduced.basis),
        np.array(reduced.positions),
        np.array(reduced.numbers),
        [data.wyckoffs[k] for k in source],
        np.array(data.orbits)[source],
    )


@dataclass(frozen=True, slots=True)
class Symmetrized:
    """A crystal made exactly symmetric, in its standard cells.

    Attributes:
        space_group: Its number.
        conventional: The conventional cell, a batch of one.
        primitive: The primitive cell, a batch of one.
        wyckoff: Occupied positions, "Sr:a Ti:b O:c".
        rms_displacement: Å, by how much symmetrising moved the atoms, a common shift taken out.
        origins: Of each atom of the conventional cell an atom as given that stands there, or is a
            translation of the lattice away.
    """

    space_group: int
    conventional: Crystals
    primitive: Crystals
    wyckoff: str
    rms_displacement: float
    origins: tuple[int, ...]


def symmetrized(crystal: Crystals, symprec: float = SYMPREC) -> Symmetrized | None:
    """The standard conventional and primitive cells of one crystal, or None where the analysis fails."""
    (given,) = crystal.arrays()
    (data,) = moyo_datasets(crystal, symprec)
    if data is None:
        return None
    standard, reduced = data.std_cell, data.prim_std_cell
    target = np.array(reduced.positions)[data.mapping_std_prim]
    placed = np.linalg.solve(np.array(data.prim_std_linear), (given[1] - data.prim_std_origin_shift).T).T
    moved = target - placed
    moved -= np.rint(moved)
    moved = (moved - moved.mean(axis=0)) @ np.array(reduced.basis)
    among = np.array(standard.positions) @ np.array(standard.basis) @ np.linalg.inv(np.array(reduced.basis))
    apart = among[:, None] - np.array(reduced.positions)
    to_primitive = np.linalg.norm(apart - np.rint(apart), axis=2).argmin(axis=1)
    return Symmetrized(
        space_group=data.number,
        conventional=Crystals.from_arrays([standard.basis], [standard.positions], [standard.numbers]),
        primitive=Crystals.from_arrays([reduced.basis], [reduced.positions], [reduced.numbers]),
        wyckoff=_occupied(data, given[2]),
        rms_displacement=float(np.sqrt((moved**2).sum(axis=1).mean())),
        origins=_origins(to_primitive.tolist(), data.mapping_std_prim),
    )


def _origins(of_cell: Iterable[int], of_given: Iterable[int]) -> tuple[int, ...]:
    """The first atom as given that each atom of a cell is, by the primitive cell's atoms that both are."""
    first: dict[int, int] = {}
    for k, atom in enumerate(of_given):
        first.setdefault(int(atom), k)
    return tuple(first[int(atom)] for atom in of_cell)


def reported_symmetrized(crystal: Crystals, symprec: float) -> Symmetrized | None:
    """As `symmetrized`, in the space group that `reported_space_groups` gives: by spglib where moyo finds
    another."""
    symmetric = symmetrized(crystal, symprec)
    (number,) = reported_space_groups(crystal, symprec)
    if number == 0 or (symmetric is not None and symmetric.space_group == number):
        return symmetric
    return _symmetrized_by_spglib(crystal, symprec)


def _symmetrized_by_spglib(crystal: Crystals, symprec: float) -> Symmetrized:
    import spglib

    (given,) = crystal.arrays()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Set OLD_ERROR_HANDLING", DeprecationWarning)
        data = spglib.get_symmetry_dataset(given, symprec=symprec)
        reduced = spglib.standardize_cell(given, to_primitive=True, symprec=symprec)
    conventional = Crystals.from_arrays([data.std_lattice], [data.std_positions], [data.std_types])
    placed = given[1] @ data.transformation_matrix.T + data.origin_shift
    moved = data.std_positions[None] - placed[:, None]
    moved = (moved - np.rint(moved)) @ data.std_lattice  # [N, standard atoms, 3]
    apart = np.where(given[2][:, None] == data.std_types[None], np.linalg.norm(moved, axis=2), np.inf)
    moved = moved[np.arange(len(placed)), apart.argmin(axis=1)]
    moved -= moved.mean(axis=0)
    return Symmetrized(
        space_group=int(data.number),
        conventional=conventional,
        primitive=Crystals.from_arrays(*([part] for part in reduced)),
        wyckoff=wyckoff_text(
            (int(given[2][k]), data.wyckoffs[k]) for k in sorted(set(data.equivalent_atoms))
        ),
        rms_displacement=float(np.sqrt((moved**2).sum(axis=1).mean())),
        origins=_origins(data.std_mapping_to_primitive, data.mapping_to_primitive),
    )


def moyo_datasets(crystals: Crystals, symprec: float) -> list[MoyoDataset | None]:
    """moyo's analysis of each crystal; None where it finds no consistent symmetry."""
    import moyopy

    standard = moyopy.Setting.standard()
    found = []
    for cell, frac, numbers in crystals.arrays():
        basis = moyopy.Cell(cell.tolist(), frac.tolist(), numbers.tolist())
        try:
            found.append(moyopy.MoyoDataset(basis, symprec=symprec, setting=standard))
        except ValueError:
            found.append(None)
    return found


def _occupied(data: MoyoDataset, numbers: np.ndarray) -> str:
    return wyckoff_text(_orbits(data, numbers))


def _orbits(data: MoyoDataset, numbers: np.ndarray) -> list[tuple[int, str]]:
    return [(int(numbers[i]), data.wyckoffs[i]) for i in sorted(set(data.orbits))]


def _order(points: np.ndarray) -> np.ndarray:
    return np.lexsort(np.rint(points * 24).T)
