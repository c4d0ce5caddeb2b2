"""Generates the table of Wyckoff positions that `csp.crystallography.wyckoff` reads: `python -m
csp.crystallography.build_wyckoff_table` (minutes).

Nothing in it is typed by hand. Operations come from moyo's table of Hall symbols; letters and coordinates are
harvested from moyo's analysis of made-up crystals that have atoms on special points: fixed points
of up to three operations of the group, x = W x + w + n. A group is complete when its letters run
from a to the general position's.
"""

from __future__ import annotations

import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from csp.crystallography import symmetry
from csp.crystallography.lattice import cell_from_parameters
from csp.crystallography.wyckoff import GRID, LETTERS
from csp.crystals import Crystals
from csp.files import write_arrays

CELLS = {  # lengths in Å and angles in degrees without any accidental relation
    "triclinic": (7.1, 8.3, 9.7, 81.0, 97.0, 104.0),
    "monoclinic": (7.1, 8.3, 9.7, 90.0, 103.0, 90.0),
    "orthorhombic": (7.1, 8.3, 9.7, 90.0, 90.0, 90.0),
    "tetragonal": (7.1, 7.1, 9.7, 90.0, 90.0, 90.0),
    "trigonal": (7.1, 7.1, 9.7, 90.0, 90.0, 120.0),
    "hexagonal": (7.1, 7.1, 9.7, 90.0, 90.0, 120.0),
    "cubic": (8.3, 8.3, 8.3, 90.0, 90.0, 90.0),
}
Site = tuple[str, int, str, str]  # letter, multiplicity, site symmetry, coordinates


def build() -> dict[str, Any]:
    """The arrays of the table, by name, for groups 1 to 230 in order; see
    `csp.crystallography.wyckoff.WyckoffTable`."""
    columns: dict[str, list[np.ndarray]] = {}

    def add(name: str, values: object) -> None:
        columns.setdefault(name, []).append(np.asarray(values))

    groups = range(1, 231)
    with ProcessPoolExecutor(max_workers=4) as pool:
        harvested = list(pool.map(harvest, groups))
    for number, sites in zip(groups, harvested, strict=True):
        rotations, translations, to_primitive = symmetry.standard_operations(number)
        add("to_primitive", to_primitive[None])
        add("n_operations", [len(rotations)])
        add("operation_rotation", rotations)
        add("operation_translation", np.rint(translations * GRID) % GRID)
        add("n_positions", [len(sites)])
        for letter, multiplicity, site_symmetry, coordinates in sites:
            matrix, shift = parse(coordinates)
            maps = orbit(matrix, shift, rotations, translations, to_primitive)
            expected = multiplicity / np.linalg.det(to_primitive)
            if len(maps[0]) != round(expected):
                raise RuntimeError(
                    f"{len(maps[0])} instead of {expected} atoms in {letter} of group {number}"
                )
            add("letter", [LETTERS.index(letter)])
            add("multiplicity", [multiplicity])
            add("site_symmetry", [site_symmetry])
            add("coordinates", [coordinates])
            add("free", (matrix != 0).any(axis=0)[None])
            add("n_maps", [len(maps[0])])
            add("map_rotation", maps[0])
            add("map_translation", maps[1])
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    small = {name: a.astype(np.int8) for name, a in joined.items() if a.dtype.kind in "fi" and a.ndim > 1}
    return joined | small


def harvest(number: int) -> list[Site]:
    """All Wyckoff positions of a space group in the order of their letters."""
    rotations, translations, to_primitive = symmetry.standard_operations(number)
    parameters = torch.tensor([CELLS[symmetry.crystal_system(number)]], dtype=torch.float64)
    conventional = cell_from_parameters(parameters[:, :3], torch.cos(torch.deg2rad(parameters[:, 3:])))[
        0
    ].numpy()
    cell = np.linalg.inv(to_primitive).T @ conventional
    rng = np.random.default_rng(number)
    found: set[Site] = set()
    seen: set[bytes] = set()
    letters: set[str] = set()
    for _ in range(1000):
        points = [rng.random(3), rng.random(3)]  # two generic orbits leave no symmetry but the group's own
        points += [
            p
            for p in special_points(rotations, translations, rng)
            if key(p, rotations, translations) not in seen
        ]
        frac, numbers, placed = np.zeros((0, 3)), np.zeros(0), []
        for species, point in enumerate(points[:7], start=1):
            atoms = unique_modulo_one((rotations @ point + translations) @ to_primitive.T)
            if far_apart(atoms, frac):
                frac = np.concatenate([frac, atoms])
                numbers = np.concatenate([numbers, np.full(len(atoms), species)])
                placed.append(point)
        crystal = Crystals.from_arrays([cell], [frac], [numbers])
        analysed, sites = symmetry.site_coordinates(crystal, symprec=1e-4)
        if analysed != number:
            continue
        found |= sites
        seen |= {key(point, rotations, translations) for point in placed}
        letters = {letter for letter, *_ in found}
        general = next(letter for letter, multiplicity, *_ in found if multiplicity == len(rotations))
        if letters == set(LETTERS[: LETTERS.index(general) + 1]):
            break
    else:
        raise RuntimeError(f"letters of space group {number} not found: {sorted(letters)}")
    if len(found) != len(letters):
        raise RuntimeError(f"space group {number}: two coordinates for one letter")
    return sorted(found, key=lambda site: LETTERS.index(site[0]))


def special_points(
    rotations: np.ndarray, translations: np.ndarray, rng: np.random.Generator
) -> list[np.ndarray]:
    """Random points among those that up to three random operations, with lattice shifts, leave in place."""
    chosen = rng.integers(len(rotations), size=(200, 3))
    chosen[:, 1] = np.where(rng.random(200) < 0.5, chosen[:, 0], chosen[:, 1])
    chosen[:, 2] = np.where(rng.random(200) < 0.6, chosen[:, 1], chosen[:, 2])
    shift = rng.integers(-1, 2, size=(len(rotations), 3))  # one for each operation
    matrix = (rotations[chosen] - np.eye(3)).reshape(-1, 9, 3)
    right = -(translations + shift)[chosen].reshape(-1, 9, 1)
    start = rng.random((200, 3, 1))
    point = start + np.linalg.pinv(matrix) @ (right - matrix @ start)
    exact = np.abs(matrix @ point - right).max(axis=(1, 2)) < 1e-9
    return list(point[exact, :, 0])


def key(point: np.ndarray, rotations: np.ndarray, translations: np.ndarray) -> bytes:
    """The same for all points of an orbit."""
    images = np.rint((rotations @ point + translations) * 1e6) % 1_000_000
    return min(map(bytes, images.astype(np.int64)))


def parse(coordinates: str) -> tuple[np.ndarray, np.ndarray]:
    """ "x,-x+1/2,1/4" to the matrix [3, 3] and shift [3] of the affine map from (x, y, z)."""
    matrix, shift = np.zeros((3, 3)), np.zeros(3)
    for row, text in enumerate(coordinates.split(",")):
        for sign, amount, axis in re.findall(r"([+-]?)(\d+(?:/\d+)?)?([xyz]?)", text.replace(" ", "")):
            if not amount and not axis:
                continue
            numerator, _, denominator = (amount or "1").partition("/")
            value = int(numerator) / int(denominator or 1) * (-1 if sign == "-" else 1)
            if axis:
                matrix[row, "xyz".index(axis)] += value
            else:
                shift[row] += value
    return matrix, shift


def orbit(
    matrix: np.ndarray,
    shift: np.ndarray,
    rotations: np.ndarray,
    translations: np.ndarray,
    to_primitive: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The distinct images of a position under the group in the primitive cell: [m, 3, 3] and, in
    1/24, [m, 3].

    They take the free coordinates (x, y, z) of the position to fractional coordinates of the
    primitive cell. The first is the representative that the International Tables print first.
    """
    turned = to_primitive @ rotations @ matrix
    moved = np.rint((rotations @ shift + translations) @ to_primitive.T * GRID) % GRID
    rows = np.concatenate([np.rint(turned).reshape(-1, 9), moved], axis=1)
    _, first = np.unique(rows, axis=0, return_index=True)
    first.sort()
    return np.rint(turned[first]), moved[first]


def unique_modulo_one(points: np.ndarray) -> np.ndarray:
    """Fractional coordinates [n, 3] without those that differ by lattice vectors."""
    gap = points[:, None] - points
    same = np.abs(gap - np.rint(gap)).max(axis=-1) < 1e-6
    return points[np.flatnonzero(same.argmax(axis=1) == np.arange(len(points)))]


def far_apart(points: np.ndarray, others: np.ndarray) -> bool:
    """Is no point within 0.01 of a lattice vector from one of the others?"""
    gap = points[:, None] - others
    return bool((np.abs(gap - np.rint(gap)).max(axis=-1, initial=0.0) > 0.01).all())


if __name__ == "__main__":
    write_arrays(Path(__file__).parents[1] / "data" / "wyckoff.npz", **build())
