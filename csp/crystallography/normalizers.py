"""Which descriptions of a crystal are equivalent: normalisers of space groups, acting on Wyckoff positions.

A crystal in a standard setting can be written down in several ways that differ by an operation of the
group's normaliser: another origin, another labelling of the axes, the mirror image. They give the atoms
other Wyckoff letters and other coordinates. Worked out from `csp.crystallography.wyckoff`'s table alone, in
exact integers.

Billiet, Burzlaff and Zimmermann, Acta Cryst. A38 (1982) 41; International Tables A, chapter 3.5.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from csp.crystallography.wyckoff import GRID, crystal_systems, wyckoff_table

__all__ = ["POLAR", "Normalizer", "Position", "normalizer", "position"]

Ints = NDArray[np.int64]
IDENTITY = np.eye(3, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Position:
    """A Wyckoff position in the conventional cell: x = matrix @ u + shift / 24.

    Attributes:
        matrix: int [3, 3].
        shift: int [3], in 1/24.
        pick: int [3, 3], u = pick @ (x − shift / 24) for a point of the representative's form; rows of what
            is not free are 0.
    """

    matrix: Ints
    shift: Ints
    pick: Ints

    def holds(self, linear: Ints, constant: Ints) -> NDArray[np.bool_]:
        """bool [...]: have all points linear @ u + constant / 24 ([..., 3, 3], [..., 3]) this form?"""
        rest = self.matrix @ self.pick - IDENTITY
        whole = ((constant - self.shift) @ rest.T % GRID == 0).all(-1)
        return whole & (rest @ linear == 0).all((-1, -2))

    def coordinates(self, linear: Ints, constant: Ints) -> tuple[Ints, Ints]:
        """The affine maps to u of such points, [..., 3, 3] and, in 1/24, [..., 3]."""
        return self.pick @ linear, (constant - self.shift) @ self.pick.T % GRID


@dataclass(frozen=True, slots=True, eq=False)
class Normalizer:
    """One operation x' = rotation @ x + translation / 24 for each of the C cosets of a group in its
    affine normaliser, continuous shifts left out; the first is the identity. L positions.

    Of the affine normalisers of monoclinic groups, which are infinite, the cosets that change a and c by
    −1, 0 or 1 of each other are here; of triclinic groups those that keep the cell.

    Attributes:
        rotation: int [C, 3, 3], of each operation.
        translation: int [C, 3], in 1/24.
        letter: int [C, L], the letter that each becomes.
        linear: int [C, L, 3, 3], u' = linear @ u + constant / 24 for the free coordinates of its atoms.
        constant: int [C, L, 3], in 1/24.
        polar: bool [3], axes along which the origin is arbitrary.
        same: For each letter, the maps (int [m, 3, 3], int [m, 3]) of u to all u that mean the same atoms.
    """

    rotation: Ints
    translation: Ints
    letter: Ints
    linear: Ints
    constant: Ints
    polar: NDArray[np.bool_]
    same: list[tuple[Ints, Ints]]

    def __len__(self) -> int:
        return len(self.rotation)


def _polar_axes() -> NDArray[np.bool_]:
    table = wyckoff_table()
    axes = np.zeros((231, 3), dtype=bool)
    for g in range(1, 231):
        rotations = table.operation_rotation[table.first_operation[g] : table.first_operation[g + 1]].numpy()
        axes[g] = (rotations == np.eye(3)).all(1).all(0)
    return axes


POLAR = _polar_axes()
"""bool [231, 3]: axes of the conventional cell along which a space group leaves the origin free."""


@cache
def position(row: int) -> Position:
    """A row of the Wyckoff table in the conventional cell."""
    table = wyckoff_table()
    group = int(np.searchsorted(table.first.numpy(), row, side="right")) - 1
    back = np.linalg.inv(table.to_primitive[group].numpy())
    first = int(table.first_map[row])
    matrix = np.rint(back @ table.map_rotation[first].numpy()).astype(np.int64)
    shift = np.rint(back @ table.map_translation[first].numpy() * GRID).astype(np.int64) % GRID
    pick = np.zeros((3, 3), dtype=np.int64)
    for axis in np.flatnonzero(table.free[row].numpy()):
        alone = (np.abs(matrix[:, axis]) == 1) & (np.abs(matrix).sum(1) == 1)
        pivot = int(np.flatnonzero(alone)[0])  # one of x, y, z is the coordinate itself in every position
        pick[axis, pivot] = matrix[pivot, axis]
    return Position(matrix, shift, pick)


@cache
def normalizer(group: int) -> Normalizer:
    """The normaliser of a space group, worked out once (10 to 500 ms)."""
    table = wyckoff_table()
    own = slice(int(table.first_operation[group]), int(table.first_operation[group + 1]))
    rotations = np.rint(table.operation_rotation[own].numpy()).astype(np.int64)
    translations = np.rint(table.operation_translation[own].numpy() * GRID).astype(np.int64) % GRID
    rotation, translation = _cosets(group, rotations, translations)
    positions = [position(row) for row in table.positions(group)]
    size = table.n_atoms[table.first[group] : table.first[group + 1]].numpy()
    n, c = len(positions), len(rotation)
    letter = np.full((c, n), -1, dtype=np.int64)
    linear, constant = np.zeros((c, n, 3, 3), dtype=np.int64), np.zeros((c, n, 3), dtype=np.int64)
    same = []
    for p, place in enumerate(positions):
        images = rotations @ place.matrix, (rotations @ place.shift + translations) % GRID  # [O, …]
        moved = rotations @ rotation[:, None] @ place.matrix  # [C, O, 3, 3]
        to = rotation @ place.shift + translation  # [C, 3]
        to = (np.einsum("oij,cj->coi", rotations, to) + translations) % GRID
        for q, other in enumerate(positions):
            if size[q] != size[p] or table.free[int(table.first[group]) + q].sum() != (place.pick != 0).sum():
                continue
            fits = other.holds(moved, to)
            new = np.flatnonzero(fits.any(1) & (letter[:, p] < 0))
            image = fits[new].argmax(1)
            letter[new, p] = q
            linear[new, p], constant[new, p] = other.coordinates(moved[new, image], to[new, image])
        own_form = place.holds(*images)
        maps = place.coordinates(images[0][own_form], images[1][own_form])
        distinct = np.unique(np.concatenate([maps[0].reshape(-1, 9), maps[1]], axis=1), axis=0)
        same.append((distinct[:, :9].reshape(-1, 3, 3), distinct[:, 9:]))
    if (letter < 0).any():
        raise RuntimeError(f"the normaliser of space group {group} takes positions to none")
    return Normalizer(rotation, translation, letter, linear, constant, POLAR[group], same)


def _cosets(group: int, rotations: Ints, translations: Ints) -> tuple[Ints, Ints]:
    """(N, t) with (N, t) G (N, t)⁻¹ = G, one for each coset of G, the identity first.

    With W' = N W N⁻¹ and w' the translation that goes with it, (I − W') t = w' − N w modulo the lattice.
    """
    first = {r.tobytes(): k for k, r in reversed(list(enumerate(rotations)))}
    lattice = np.zeros((GRID, GRID, GRID), dtype=bool)
    lattice[tuple(translations[(rotations == IDENTITY).all((1, 2))].T)] = True
    generators = _generators(rotations)
    axes = [range(1) if polar else range(GRID) for polar in POLAR[group]]
    grid = np.array(list(itertools.product(*axes)))  # [T, 3]

    def shifts(n: Ints, candidates: Ints) -> Ints:
        """Those of the candidates [T, 3] that make n normalise the group."""
        back = np.rint(np.linalg.inv(n)).astype(np.int64)
        for k in generators:
            turned = n @ rotations[k] @ back
            if turned.tobytes() not in first:
                return candidates[:0]
            missing = translations[first[turned.tobytes()]] - n @ translations[k]
            left = (candidates @ (IDENTITY - turned).T - missing) % GRID
            candidates = candidates[lattice[tuple(left.T)]]
        return candidates

    pure = shifts(IDENTITY, grid)
    centring = translations[(rotations == IDENTITY).all((1, 2))]
    images = (pure[:, None] + centring) % GRID
    code = images @ [GRID * GRID, GRID, 1]
    pure = pure[np.unique(code.min(1), return_index=True)[1]]  # one of each class modulo the lattice
    pure = pure[np.lexsort((pure % GRID).T[::-1])]
    found_n, found_t, taken = [], [], set()
    for n in _linear_parts(group):
        centred = n @ centring.T % GRID
        if n.tobytes() in taken or not lattice[tuple(centred)].all():
            continue
        some = shifts(n, grid)
        if len(some) == 0:
            continue
        taken |= {np.ascontiguousarray(r @ n).tobytes() for r in rotations}
        found_n += [n] * len(pure)
        found_t += list((pure + some[0]) % GRID)
    return np.array(found_n), np.array(found_t)


def _linear_parts(group: int) -> list[Ints]:
    """Integer matrices that keep the shape that the crystal system asks of the cell, the identity first."""
    system = int(crystal_systems(np.array([group]))[0])
    signed = [
        np.array(signs)[:, None] * np.eye(3, dtype=np.int64)[list(order)]
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1, -1), repeat=3)
    ]
    if system == 0:
        return [IDENTITY, -IDENTITY]
    if system == 1:
        planes = [
            np.array(p)
            for p in itertools.product((1, 0, -1), repeat=4)
            if abs(p[0] * p[3] - p[1] * p[2]) == 1
        ]
        planes.sort(key=lambda p: np.abs(p - [1, 0, 0, 1]).sum())
        return [np.array([[p[0], 0, p[1]], [0, b, 0], [p[2], 0, p[3]]]) for p in planes for b in (1, -1)]
    if system in (2, 6):
        return signed
    if system == 3:
        return [m for m in signed if abs(m[2, 2]) == 1]
    sixfold = np.array([[1, -1, 0], [1, 0, 0], [0, 0, 1]])
    swap, flip = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]]), np.diag([1, 1, -1])
    turns = [np.linalg.matrix_power(sixfold, k) for k in range(6)]
    return [t @ s @ f for f in (IDENTITY, flip) for s in (IDENTITY, swap) for t in turns]


def _generators(rotations: Ints) -> list[int]:
    """Indices of operations whose rotations generate the point group."""
    whole = {r.tobytes() for r in rotations}
    chosen: list[int] = []
    reached = {IDENTITY.tobytes(): IDENTITY}
    for k in range(len(rotations)):
        if len(reached) == len(whole):
            break
        if rotations[k].tobytes() in reached:
            continue
        chosen.append(k)
        frontier = list(reached.values())
        while frontier:
            products = [np.ascontiguousarray(r @ rotations[c]) for r in frontier for c in chosen]
            frontier = [p for p in products if p.tobytes() not in reached]
            reached |= {p.tobytes(): p for p in frontier}
    return chosen
