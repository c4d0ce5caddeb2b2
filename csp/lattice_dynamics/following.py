"""Ways down from a saddle: crystals displaced along their imaginary modes, in cells that hold the modes.

Of each star of wave vectors of the supercell, where frequencies are exact, the imaginary modes are taken one
degenerate set at a time, in directions drawn within the set; and once all of them together, in the supercell,
as many crystals distort along modes of several wave vectors.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from csp.crystals import Crystals
from csp.lattice_dynamics.phonons import IMAGINARY, Harmonic

__all__ = ["Descents", "Way", "descents"]

FARTHEST = 0.15  # Å, that an atom is displaced by: about as far as octahedra turn
SETS = 4  # of degenerate modes, lowest first
DIRECTIONS = 2  # within a degenerate set
LARGEST = 80  # atoms in a displaced cell
DEGENERATE = 0.01  # THz
DENOMINATOR = 24  # of wave vectors

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]


@dataclass(frozen=True, slots=True)
class Way:
    """What a crystal was displaced along.

    Attributes:
        q: Wave vector in reciprocal vectors of the primitive cell; None: all imaginary modes together.
        frequency: THz, negative; of the lowest mode.
    """

    q: tuple[float, float, float] | None
    frequency: float

    def __str__(self) -> str:
        if self.q is None:
            return f"all imaginary modes, the lowest of {self.frequency:.1f} THz"
        place = " ".join(str(Fraction(x).limit_denominator(DENOMINATOR)) for x in self.q)
        return f"a mode of {self.frequency:.1f} THz at ({place})"


@dataclass(frozen=True, slots=True, eq=False)
class Descents:
    """Displaced crystals to relax and the way of each."""

    crystals: Crystals
    ways: list[Way]


def descents(harmonic: Harmonic, seed: int) -> Descents:
    """The crystal of force constants displaced along its imaginary modes; none where it has none.

    Args:
        seed: Of the directions; same seed, same crystals.
    """
    rng = np.random.default_rng(seed)
    sets = sorted(_imaginary_sets(harmonic), key=lambda one: one[1])
    starts, ways = list[Crystals](), list[Way]()
    for q, frequency, vectors in sets[:SETS]:
        basis = commensurate_basis(q)
        if len(harmonic.phonopy.primitive) * round(abs(np.linalg.det(basis))) > LARGEST:
            continue
        for _ in range(1 if vectors.shape[1] == 1 else DIRECTIONS):
            field = _in_cell(harmonic, basis, [(q, vectors @ _direction(vectors.shape[1], rng))])
            starts.append(field)
            ways.append(Way(_triple(q), frequency))
    everything = _together(harmonic, sets, rng)
    if everything is not None:
        starts.append(everything)
        ways.append(Way(None, sets[0][1]))
    return Descents(Crystals.cat(starts) if starts else Crystals.empty(), ways)


def commensurate_basis(q: Floats) -> NDArray[np.int64]:
    """Rows: a basis of the sublattice {n : q · n is an integer}, the smallest cell that holds a mode at q.

    Args:
        q: [3], rational components.
    """
    parts = [Fraction(float(x)).limit_denominator(DENOMINATOR) for x in q]
    order = int(np.lcm.reduce([part.denominator for part in parts]))
    for a, b in itertools.product(range(1, order + 1), repeat=2):
        if order % (a * b):
            continue
        c = order // (a * b)
        # Hermite normal forms of this determinant: each sublattice has exactly one
        for x, y, z in itertools.product(range(b), range(c), range(c)):
            rows = ((a, x, y), (0, b, z), (0, 0, c))
            if all(sum(n * p for n, p in zip(row, parts, strict=True)).denominator == 1 for row in rows):
                return np.array(rows, dtype=np.int64)
    raise AssertionError("a sublattice of this index exists")


def _imaginary_sets(harmonic: Harmonic) -> list[tuple[Floats, float, Complexes]]:
    """Of one wave vector of each star: (q, THz, eigenvectors [3n, d] of a degenerate set), if imaginary."""
    found = []
    for q in _one_of_each_star(harmonic):
        frequencies, vectors = _modes(harmonic, q)
        k = 0
        while k < len(frequencies) and frequencies[k] < -IMAGINARY:
            end = k
            while end < len(frequencies) and frequencies[end] - frequencies[k] < DEGENERATE:
                end += 1
            found.append((q, float(frequencies[k]), vectors[:, k:end]))
            k = end
    return found


def _modes(harmonic: Harmonic, q: Floats) -> tuple[Floats, Complexes]:
    result = harmonic.phonopy.run_qpoints([q], with_eigenvectors=True)
    return np.asarray(result.frequencies)[0], np.asarray(result.eigenvectors)[0]


def _one_of_each_star(harmonic: Harmonic) -> list[Floats]:
    operations = harmonic.phonopy.primitive_symmetry.reciprocal_operations
    kept, seen = list[Floats](), set[tuple[int, ...]]()
    for q in harmonic.commensurate:
        if _key(q) not in seen:
            kept.append(q)
            seen |= {_key(sign * rotation @ q) for rotation in operations for sign in (1, -1)}
    return kept


def _key(q: Floats) -> tuple[int, ...]:
    """Equal for wave vectors that differ by a reciprocal lattice vector."""
    scale = 10_000
    return tuple((np.rint(q * scale).astype(int) % scale).tolist())


def _direction(dimension: int, rng: np.random.Generator) -> Floats:
    if dimension == 1:
        return np.ones(1)
    drawn = rng.normal(size=dimension)
    return np.asarray(drawn / np.linalg.norm(drawn))


def _together(
    harmonic: Harmonic, sets: list[tuple[Floats, float, Complexes]], rng: np.random.Generator
) -> Crystals | None:
    """Displaced along all imaginary modes in the supercell; None where they are one set or it is large."""
    phonopy = harmonic.phonopy
    basis = np.rint(np.linalg.inv(phonopy.primitive_matrix) @ phonopy.supercell_matrix).astype(int).T
    if len(sets) < 2 or len(phonopy.supercell) > LARGEST:
        return None
    amplitudes = [f / sets[0][1] for _, f, _ in sets]
    modes = [
        (q, weight * (vectors @ _direction(vectors.shape[1], rng)))
        for (q, _, vectors), weight in zip(sets, amplitudes, strict=True)
    ]
    return _in_cell(harmonic, basis, modes)


def _in_cell(harmonic: Harmonic, basis: NDArray[np.int64], modes: list[tuple[Floats, Complexes]]) -> Crystals:
    """The primitive cell repeated and displaced by the sum of some modes.

    Args:
        basis: int [3, 3], rows: lattice vectors of the cell in those of the primitive cell.
        modes: (q, eigenvector [3n] of the dynamical matrix).
    """
    primitive = harmonic.phonopy.primitive
    frac, numbers, masses = primitive.scaled_positions, primitive.numbers, primitive.masses
    translations = _translations(basis)
    places = (frac[:, None] + translations[None]).reshape(-1, 3)  # in primitive vectors
    atom = np.repeat(np.arange(len(numbers)), len(translations))
    shift = np.zeros((len(places), 3))
    for q, vector in modes:
        # phonopy's dynamical matrix has the phases of atoms, not of cells
        wave = vector.reshape(-1, 3)[atom] * np.exp(2j * np.pi * places @ q)[:, None]
        real = wave.real if np.linalg.norm(wave.real) >= np.linalg.norm(wave.imag) else wave.imag
        shift += real / np.sqrt(masses[atom])[:, None]
    shift *= FARTHEST / np.linalg.norm(shift, axis=1).max()
    cell = basis @ primitive.cell
    moved = places @ np.linalg.inv(basis) + shift @ np.linalg.inv(cell)
    return Crystals.from_arrays([cell], [moved], [numbers[atom]]).wrapped()


def _translations(basis: NDArray[np.int64]) -> Floats:
    """[det, 3]: lattice vectors of the primitive cell, one of each class modulo the rows of `basis`."""
    inverse, n = np.linalg.inv(basis), round(abs(np.linalg.det(basis)))
    reach = range(int(np.abs(basis).sum()) + 1)
    found: dict[tuple[int, ...], tuple[int, ...]] = {}
    for vector in itertools.product(reach, repeat=3):
        place = np.rint((np.array(vector) @ inverse % 1.0) * n).astype(int) % n
        found.setdefault(tuple(place.tolist()), vector)
        if len(found) == n:
            break
    return np.array(list(found.values()), dtype=np.float64)


def _triple(q: Floats) -> tuple[float, float, float]:
    a, b, c = (round(float(x), 6) + 0.0 for x in q)
    return a, b, c
