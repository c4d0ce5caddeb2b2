"""What a chemist asks of a crystal: cell, sites, bonds, coordination, oxidation states, gaps of layers."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from csp.crystallography.gaps import widest_gap
from csp.crystallography.symmetry import moyo_datasets, reported_symmetrized
from csp.crystals import Crystals
from csp.formula import electronegativity_key
from csp.report.powder import Reflection, powder_pattern

if TYPE_CHECKING:
    from pymatgen.core import Structure

__all__ = ["Bond", "Description", "Shell", "Site", "describe"]

EXACT = 1e-3  # Å; symprec for a cell whose atoms are in their symmetric places
SAME_LENGTH = 0.02  # Å; neighbours of one kind that are no further apart in distance are one shell
MOST_SITES = 64  # distinct sites whose neighbours are looked for: about 20 ms each


@dataclass(frozen=True, slots=True)
class Shell:
    """Neighbours of one element at nearly one distance.

    Attributes:
        shortest, longest: Å.
    """

    element: str
    count: int
    shortest: float
    longest: float


@dataclass(frozen=True, slots=True)
class Site:
    """An occupied Wyckoff position.

    Attributes:
        multiplicity: Atoms in the conventional cell.
        letter: Of the Wyckoff position.
        place: Fractional coordinates of its first atom.
        shells: Bonded neighbours by CrystalNN, nearest first; none where they were not looked for.
        charge: Oxidation state; None where they do not balance.
    """

    element: str
    multiplicity: int
    letter: str
    place: tuple[float, float, float]
    shells: tuple[Shell, ...] = ()
    charge: int | None = None

    @property
    def coordination(self) -> int:
        """Number of bonded neighbours."""
        return sum(shell.count for shell in self.shells)


@dataclass(frozen=True, slots=True)
class Bond:
    """A bond between two atoms of the conventional cell: from atom `i` to the image of atom `j` in the cell
    that is `image` away."""

    i: int
    j: int
    image: tuple[int, int, int]
    length: float


@dataclass(frozen=True)
class Description:
    """A crystal in the conventional cell of its space group, atoms in their symmetric places.

    Attributes:
        crystal: That cell, a batch of one; as it was given where the symmetry analysis fails.
        primitive: The same in its primitive cell.
        space_group: Its number; 1 where the analysis fails.
        moved: Å, root-mean-square displacement by which symmetrising moved the atoms; None where it failed.
        sites: The occupied positions, metals first.
        orbit: int [N], of each atom its place in `sites`.
        origins: int [N], of each atom one of the crystal as given that it is, a translation aside.
        bonds: Of all atoms to those that their position is bonded to.
        gap: Å, see `csp.crystallography.gaps.widest_gap`.
        analysed: Were neighbours looked for? Not where there are more than `MOST_SITES` positions.
    """

    crystal: Crystals
    primitive: Crystals
    space_group: int
    moved: float | None
    sites: tuple[Site, ...]
    orbit: tuple[int, ...]
    origins: tuple[int, ...]
    bonds: tuple[Bond, ...]
    gap: float
    analysed: bool

    @property
    def parameters(self) -> tuple[float, ...]:
        """a, b, c in Å, α, β, γ in degrees."""
        lattice = self.structure.lattice
        return (*lattice.abc, *lattice.angles)

    @property
    def structure(self) -> Structure:
        """The cell as pymatgen's structure."""
        return self.crystal.structures()[0]

    @cached_property
    def reflections(self) -> list[Reflection]:
        """Its powder pattern."""
        return powder_pattern(self.structure)

    @property
    def shortest_bonds(self) -> tuple[Shell, ...]:
        """Of each pair of elements, "Ti–O", how many bonds the cell has, the shortest and the longest."""
        found: dict[str, list[float]] = {}
        for bond in self.bonds:
            pair = [self.sites[self.orbit[k]].element for k in (bond.i, bond.j)]
            found.setdefault("–".join(sorted(pair, key=electronegativity_key)), []).append(bond.length)
        pairs = [Shell(pair, len(all_), min(all_), max(all_)) for pair, all_ in found.items()]
        return tuple(sorted(pairs, key=lambda shell: shell.shortest))


def describe(crystal: Crystals, symprec: float, *, neighbours: bool = True) -> Description:
    """Describe one crystal.

    Neighbours are those of pymatgen's CrystalNN (H. Pan et al., Inorg. Chem. 60, 1590 (2021)), oxidation
    states those of its bond-valence analysis where they sum up to zero and each is one that the ICSD has for
    the element.

    Args:
        crystal: A batch of one.
        symprec: Å, for its symmetry.
        neighbours: Look for neighbours and oxidation states?
    """
    symmetric = reported_symmetrized(crystal, symprec)
    cell = crystal if symmetric is None else symmetric.conventional
    group, letters, orbits = _orbits(cell)
    structure = cell.structures()[0]
    elements = [site.specie.symbol for site in structure]
    first = sorted(set(orbits), key=lambda k: (*electronegativity_key(elements[k]), letters[k], k))
    analysed = neighbours and len(first) <= MOST_SITES
    bonded = {k: _neighbours(structure, k) for k in first} if analysed else {}
    charges = _oxidation_states(structure) if analysed else None
    frac = cell.arrays()[0][1]
    sites = tuple(
        Site(
            elements[k],
            orbits.count(k),
            letters[k],
            tuple(_wrapped(frac[k]).tolist()),
            _shells([(elements[j], length) for j, _, length in bonded.get(k, ())]),
            None if charges is None else charges[k],
        )
        for k in first
    )
    place = {k: n for n, k in enumerate(first)}
    return Description(
        cell,
        crystal if symmetric is None else symmetric.primitive,
        group if symmetric is not None else 1,
        None if symmetric is None else symmetric.rms_displacement,
        sites,
        tuple(place[k] for k in orbits),
        tuple(range(len(orbits))) if symmetric is None else symmetric.origins,
        tuple(_bonds(structure, orbits, bonded)),
        widest_gap(cell),
        analysed,
    )


# -- symmetry -----------------------------------------------------------------------------------------


def _orbits(cell: Crystals) -> tuple[int, list[str], list[int]]:
    """Space group, letter of each atom, and the first atom of each atom's orbit, of a cell that is exactly
    symmetric; every atom for itself where the analysis fails."""
    (data,) = moyo_datasets(cell, EXACT)
    if data is None:
        n = int(cell.n_atoms)
        return 1, ["a"] * n, list(range(n))
    return int(data.number), list(data.wyckoffs), [int(k) for k in data.orbits]


def _wrapped(frac: NDArray[np.float64]) -> NDArray[np.float64]:
    """Into [0, 1), rounding noise included."""
    inside = np.round(frac % 1.0, 6) % 1.0
    return inside + 0.0


# -- chemistry ----------------------------------------------------------------------------------------


def _neighbours(structure: Structure, k: int) -> list[tuple[int, tuple[int, int, int], float]]:
    """(atom, image, distance) of the bonded neighbours of atom k, nearest first."""
    from pymatgen.analysis.local_env import CrystalNN

    with warnings.catch_warnings():  # of radii that are not tabulated
        warnings.simplefilter("ignore")
        try:
            found = CrystalNN().get_nn_info(structure, k)
        except (
            ValueError,
            RuntimeError,
            ArithmeticError,
        ):  # no Voronoi cell: atoms on one place, a huge cell
            return []
    here, pairs = structure[k], []
    for one in found:
        a, b, c = (int(n) for n in one["image"])
        distance = float(here.distance_from_point(one["site"].coords))
        pairs.append((int(one["site_index"]), (a, b, c), distance))
    return sorted(pairs, key=lambda pair: (round(pair[2], 3), pair))


def _shells(neighbours: list[tuple[str, float]]) -> tuple[Shell, ...]:
    """Neighbours (element, distance), nearest first, by element and distance."""
    shells: list[Shell] = []
    for element in sorted({element for element, _ in neighbours}):
        distances = sorted(distance for one, distance in neighbours if one == element)
        run = [distances[0]]
        for distance in [*distances[1:], np.inf]:
            if distance - run[-1] <= SAME_LENGTH:
                run.append(distance)
                continue
            shells.append(Shell(element, len(run), run[0], run[-1]))
            run = [distance]
    return tuple(sorted(shells, key=lambda shell: (shell.shortest, shell.element)))


def _bonds(
    structure: Structure,
    orbits: list[int],
    neighbours: dict[int, list[tuple[int, tuple[int, int, int], float]]],
) -> list[Bond]:
    """The bonds of all atoms from those of one atom of each orbit: equivalent atoms have equivalent
    neighbours at equal distances. Each bond once."""
    reach = max((length for found in neighbours.values() for *_, length in found), default=0.0)
    if reach == 0.0:
        return []
    lengths = {
        (k, other): [length for j, _, length in found if orbits[j] == other]
        for k, found in neighbours.items()
        for other in {orbits[j] for j, *_ in found}
    }
    bonds = {}
    for i, j, image, length in zip(*structure.get_neighbor_list(reach + EXACT), strict=True):
        known = lengths.get((orbits[i], orbits[j]), ())
        if any(abs(length - one) < EXACT for one in known):
            a, b, c = (int(n) for n in image)
            there, back = (a, b, c), (int(j), int(i), (-a, -b, -c))
            if back not in bonds:
                bonds[int(i), int(j), there] = float(length)
    return [Bond(i, j, image, length) for (i, j, image), length in sorted(bonds.items())]


def _oxidation_states(structure: Structure) -> list[int] | None:
    """Of each atom, None where none are found, or where one is uncommon."""
    from pymatgen.analysis.bond_valence import BVAnalyzer
    from pymatgen.core import Element

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            charges = [int(charge) for charge in BVAnalyzer().get_valences(structure)]
    except (ValueError, KeyError, ArithmeticError, AttributeError):
        return None
    kinds = Counter(zip((site.specie.symbol for site in structure), charges, strict=True))
    usual = all(charge in Element(element).icsd_oxidation_states for element, charge in kinds)
    return charges if usual and sum(charges) == 0 else None
