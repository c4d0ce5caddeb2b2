"""The reflections of a crystal: where they are, how strong, and the strains that keep the symmetry."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from csp.crystallography.operations import SymmetryOperations, operations
from csp.crystals import Crystals
from csp.diffraction.pattern import Floats
from csp.errors import InputError

__all__ = ["NoReflectionError", "Reflections", "reflections", "scattering_factors"]

SYMPREC = 0.05  # Å; relaxed crystals are that far from symmetric places
PHASES_AT_ONCE = 1 << 22  # of atoms and reflections
LEFT_OUT = 2e-3
AXES = 8  # directions in which crystallites may be aligned


class NoReflectionError(InputError):
    """All reflections of a crystal are outside the range of a pattern."""


@dataclass(frozen=True, slots=True, eq=False)
class Reflections:
    """P orbits of symmetry-equivalent reflections of one crystal.

    Attributes:
        q: [P, 3], reciprocal vector of one member of each orbit, 1/Å (without 2π), Cartesian.
        strength: [P], Σ|F|² over the members, Friedel mates included, electrons².
        directions: [M, 3], unit vectors along the members, one of each Friedel pair.
        orbit: int [M], the orbit of each member.
        strains: [S, 3, 3], the symmetric strains that keep the symmetry: the first is the isotropic one, of
            unit diagonal, the others have no trace and a largest stretch of 1.
        axes: [K, 3], normals of the net planes with the largest spacings, unit vectors: what crystallites
            grow flat along (Bravais, Friedel, Donnay and Harker).
        axis_names: Their Miller indices in the crystal's own cell, such as "001".
        volume: Å³ of the cell.
        mass: Of the cell, g/mol.
    """

    q: Floats
    strength: Floats
    directions: Floats
    orbit: NDArray[np.int64]
    strains: Floats
    axes: Floats
    axis_names: tuple[str, ...]
    volume: float
    mass: float

    def __len__(self) -> int:
        return len(self.q)


def reflections(crystal: Crystals, low: float, high: float, left_out: float = LEFT_OUT) -> Reflections:
    """The reflections of one crystal with 1/d between two limits, 1/Å.

    |F|² is from the sums over its atoms with the scattering factors that pymatgen has; there is no anomalous
    dispersion, and the thermal motion is left to the fit. Members of an orbit are those that the crystal's
    symmetry (within `SYMPREC`) takes into each other.

    Args:
        left_out: Share of the whole intensity, with the Lorentz factor, of the weakest orbits, which are left
            out.

    Raises:
        InputError: For an element without a scattering factor.
        NoReflectionError: There is none.
    """
    symmetry = operations(crystal, SYMPREC)
    ((cell, frac, numbers),) = symmetry.symmetrize(crystal).arrays()
    reciprocal = np.linalg.inv(cell).T  # rows are a*, b*, c*
    hkl = _inside(cell, high)
    q = hkl @ reciprocal
    length = np.linalg.norm(q, axis=1)
    chosen = length >= low
    hkl, q, length = hkl[chosen], q[chosen], length[chosen]
    if not len(hkl):
        raise NoReflectionError("A crystal has no reflection in the range of the pattern.")
    squared = _structure_factors_squared(hkl, length / 2, frac, numbers)
    orbit, first = _orbits(hkl, symmetry)
    strength = np.asarray(np.bincount(orbit, 2 * squared), np.float64)  # both of each Friedel pair
    kept = _without_the_weakest(strength / length[first] ** 2, left_out)
    members = kept[orbit]
    axes, names = _net_planes(cell, symmetry)
    return Reflections(
        q=q[first[kept]],
        strength=strength[kept],
        directions=(q / length[:, None])[members],
        orbit=(np.cumsum(kept) - 1)[orbit[members]],
        strains=_strains(symmetry),
        axes=axes,
        axis_names=names,
        volume=float(abs(np.linalg.det(cell))),
        mass=_mass(numbers),
    )


def scattering_factors(numbers: NDArray[np.int64], s: Floats) -> Floats:
    """Atomic scattering factors f(s) = Z − 41.78214 s² Σ a exp(−b s²), electrons: [E, M].

    Args:
        numbers: [E], atomic numbers.
        s: [M], sin θ / λ, 1/Å.

    Raises:
        InputError: For an element that the table (pymatgen's, after De Graef and McHenry, Structure of
            Materials, 2012) does not have.
    """
    table = _table()
    lacking = [z for z in numbers.tolist() if z not in table]
    if lacking:
        from ase.data import chemical_symbols

        raise InputError(f"There is no X-ray scattering factor of {chemical_symbols[lacking[0]]}.")
    factors = np.empty((len(numbers), len(s)))
    for k, z in enumerate(numbers.tolist()):
        a, b = table[z]
        factors[k] = z - 41.78214 * s**2 * (a[:, None] * np.exp(-b[:, None] * s**2)).sum(0)
    return factors


@lru_cache(maxsize=1)
def _table() -> dict[int, tuple[Floats, Floats]]:
    """a and b of each element."""
    from ase.data import atomic_numbers
    from pymatgen.analysis.diffraction.xrd import ATOMIC_SCATTERING_PARAMS

    known = {
        atomic_numbers[s]: np.array(p) for s, p in ATOMIC_SCATTERING_PARAMS.items() if s in atomic_numbers
    }
    return {z: (pairs[:, 0], pairs[:, 1]) for z, pairs in known.items()}


def _inside(cell: Floats, high: float) -> NDArray[np.int64]:
    """Miller indices [M, 3] with 1/d up to a limit, one of each Friedel pair."""
    reach = np.floor(high * np.linalg.norm(cell, axis=1)).astype(np.int64)  # h = q · a
    axes = [np.arange(-n, n + 1) for n in reach]
    hkl = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    hkl = hkl[len(hkl) // 2 + 1 :]  # the grid is symmetric about 000
    q = hkl @ np.linalg.inv(cell).T
    return hkl[(q * q).sum(1) <= high * high]


def _structure_factors_squared(
    hkl: NDArray[np.int64], s: Floats, frac: Floats, numbers: NDArray[np.int64]
) -> Floats:
    """[M]: |Σ f exp(2πi h·x)|²."""
    elements = np.unique(numbers)
    factors = scattering_factors(elements, s)
    total = np.zeros(len(hkl), dtype=np.complex128)
    for z, f in zip(elements, factors, strict=True):
        places = frac[numbers == z].T
        block = max(1, PHASES_AT_ONCE // places.shape[1])
        for start in range(0, len(hkl), block):
            rows = slice(start, start + block)
            total[rows] += f[rows] * np.exp(2j * np.pi * (hkl[rows] @ places)).sum(1)
    return total.real**2 + total.imag**2


def _orbits(
    hkl: NDArray[np.int64], symmetry: SymmetryOperations
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The orbit of each reflection under the rotations and inversion [M], and a member of each [P]."""
    rotations = np.unique(np.rint(symmetry.rotation.numpy()).astype(np.int64), axis=0)
    largest = int(np.abs(hkl).max() * np.abs(rotations).sum(1).max())
    base = 2 * largest + 1
    weights = np.array([base * base, base, 1])
    codes = np.zeros(len(hkl), dtype=np.int64)
    for rotation in rotations:
        code = (hkl @ rotation) @ weights  # x' = W x, so h' = h W
        np.maximum(codes, np.abs(code), out=codes)
    _, first, orbit = np.unique(codes, return_index=True, return_inverse=True)
    return orbit, first


def _without_the_weakest(intensity: Floats, share: float) -> NDArray[np.bool_]:
    """[P]: whether an orbit is kept; those that are not have a share of all intensity together."""
    order = np.argsort(intensity)
    kept = np.empty(len(intensity), dtype=bool)
    kept[order] = np.cumsum(intensity[order]) > share * intensity.sum()
    return kept


def _strains(symmetry: SymmetryOperations) -> Floats:
    """[S, 3, 3]: see `Reflections.strains`."""
    basis = []
    for i in range(3):
        for j in range(i, 3):
            unit = np.zeros((3, 3))
            unit[i, j] = unit[j, i] = 1.0
            basis.append(unit)
    kept = np.array([symmetry.symmetrize_stress(torch.from_numpy(unit)[None])[0].numpy() for unit in basis])
    kept -= np.trace(kept, axis1=1, axis2=2)[:, None, None] / 3 * np.eye(3)
    _, size, found = np.linalg.svd(kept.reshape(6, 9), full_matrices=False)
    others = found[size > 1e-6].reshape(-1, 3, 3)
    others = (others + others.transpose(0, 2, 1)) / 2
    stretch = np.abs(np.linalg.eigvalsh(others)).max(1) if len(others) else np.zeros(0)
    return np.concatenate([np.eye(3)[None], others / stretch[:, None, None]])


def _net_planes(cell: Floats, symmetry: SymmetryOperations) -> tuple[Floats, tuple[str, ...]]:
    """[K, 3] unit normals of the widest spaced net planes, one of each orbit, and their indices."""
    grid = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    grid = grid[len(grid) // 2 + 1 :]
    grid = grid[np.gcd.reduce(grid, axis=1) == 1]
    q = grid @ np.linalg.inv(cell).T
    length = np.linalg.norm(q, axis=1)
    orbit, _ = _orbits(grid, symmetry)
    order = np.lexsort((-grid.sum(1), length.round(6)))
    _, place = np.unique(orbit[order], return_index=True)
    chosen = order[np.sort(place)][:AXES]
    names = tuple("".join(map(str, hkl)) for hkl in grid[chosen].tolist())
    return q[chosen] / length[chosen, None], names


def _mass(numbers: NDArray[np.int64]) -> float:
    from ase.data import atomic_masses

    return float(atomic_masses[numbers].sum())
