"""Layers: does a crystal fall apart into sheets, and where is each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from csp.crystallography.lattice import minkowski_reduced
from csp.crystallography.neighbours import COVALENT_RADII, neighbour_list
from csp.crystals import Crystals

__all__ = ["Layers", "layers"]

BOND = 1.25  # times the sum of two covalent radii; van der Waals contacts are from about 1.5 on
UNKNOWN_RADIUS = 1.6  # Å


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """A crystal of L layers in the order in which they are stacked.

    Attributes:
        plane: [2, 3], Å, the shortest lattice vectors in the plane of the layers.
        normal: [3], the unit vector on them.
        step: [3], Å, a lattice vector that takes each layer to its next copy.
        members: L arrays int [n], the atoms of each.
        positions: L arrays [n, 3], Å, where they are, each layer in one piece across the stacking direction.
    """

    plane: NDArray[np.float64]
    normal: NDArray[np.float64]
    step: NDArray[np.float64]
    members: list[NDArray[np.int64]]
    positions: list[NDArray[np.float64]]


def layers(crystal: Crystals) -> Layers | None:
    """The layers of one crystal; None where it is not made of layers in one orientation alone.

    Bonds are contacts up to 1.25 times the sum of the covalent radii. What they join, and in how many
    directions it goes on, is found by pymatgen with the algorithm of Larsen, Pandey, Strange and Jacobsen
    (Phys. Rev. Materials 3, 034003 (2019)).
    """
    from pymatgen.analysis.dimensionality import get_structure_components
    from pymatgen.analysis.graphs import StructureGraph

    (structure,) = crystal.structures()
    i, j, shift = _bonds(crystal)
    bonds = ((a, b, tuple(t)) for a, b, t in zip(i, j, shift, strict=True))
    edges = {(a, b, (0, 0, 0), t): None for a, b, t in bonds if a < b or (a == b and t > (0, 0, 0))}
    graph = StructureGraph.from_edges(structure, edges)
    parts = get_structure_components(graph, inc_orientation=True, inc_site_ids=True)
    if any(part["dimensionality"] != 2 for part in parts):
        return None
    orientations = {_positive(part["orientation"]) for part in parts}
    if len(orientations) != 1:
        return None
    basis = _basis(np.array(orientations.pop()))
    if basis is None:
        return None
    plane, change = _reduced_plane(basis[:2] @ crystal.cell[0].numpy())
    basis = np.concatenate([change @ basis[:2], basis[2:]])
    cell = basis @ crystal.cell[0].numpy()
    normal = np.cross(cell[0], cell[1])
    normal = normal / np.linalg.norm(normal)
    if normal @ cell[2] < 0:
        normal = -normal
    members = [np.array(sorted(part["site_ids"])) for part in parts]
    frac = crystal.frac.numpy() + _images(len(crystal.numbers), i, j, shift)
    positions = [frac[own] @ crystal.cell[0].numpy() for own in members]
    period = float(normal @ cell[2])
    for k, where in enumerate(positions):  # the copy in the first period
        positions[k] = where - np.floor((where @ normal).mean() / period) * cell[2]
    order = np.argsort([(where @ normal).mean() for where in positions])
    return Layers(plane, normal, cell[2], [members[k] for k in order], [positions[k] for k in order])


def _reduced_plane(plane: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The shortest two vectors [2, 3] of a plane lattice, and the integers [2, 2] that make them."""
    away = 1e3 * np.linalg.norm(plane, axis=1).max()
    third = np.cross(plane[0], plane[1])
    full = np.concatenate([plane, third[None] / np.linalg.norm(third) * away])
    reduced, change = minkowski_reduced(torch.from_numpy(full)[None])
    return reduced[0, :2].numpy(), np.rint(change[0, :2, :2].numpy()).astype(np.int64)


def _bonds(crystal: Crystals) -> tuple[list[int], list[int], list[list[int]]]:
    radius = COVALENT_RADII.nan_to_num(UNKNOWN_RADIUS).double()[crystal.numbers]
    pairs = neighbour_list(crystal, 2 * BOND * float(radius.max()))
    bonded = pairs.distance <= BOND * (radius[pairs.i] + radius[pairs.j])
    return pairs.i[bonded].tolist(), pairs.j[bonded].tolist(), pairs.shift[bonded].long().tolist()


def _images(n: int, i: list[int], j: list[int], shift: list[list[int]]) -> NDArray[np.int64]:
    """[n, 3]: lattice vectors that bring each atom to the first of those it is joined to."""
    towards: dict[int, list[tuple[int, NDArray[np.int64]]]] = {k: [] for k in range(n)}
    for a, b, t in zip(i, j, shift, strict=True):
        towards[a].append((b, np.array(t)))
    image = np.zeros((n, 3), dtype=np.int64)
    seen = np.zeros(n, dtype=bool)
    for start in range(n):
        queue: list[int] = [] if seen[start] else [start]
        seen[start] = True
        while queue:
            a = queue.pop()
            for b, t in towards[a]:
                if not seen[b]:
                    seen[b] = True
                    image[b] = image[a] + t
                    queue.append(b)
    return image


def _positive(index: tuple[int, ...]) -> tuple[int, ...]:
    """Of the two opposite Miller indices the one whose first number other than 0 is positive."""
    first = next((k for k in index if k), 1)
    return tuple(int(k) if first > 0 else -int(k) for k in index)


def _basis(index: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Three lattice vectors [3, 3], integers with determinant ±1, of which two lie in the plane of a Miller
    index."""
    grid = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    grid = grid[np.argsort((grid**2).sum(1), kind="stable")][1:]
    inside, above = grid[grid @ index == 0], grid[grid @ index == 1]
    for a in range(len(inside)):
        for b in range(a + 1, len(inside)):
            cross = np.cross(inside[a], inside[b])
            if len(above) and abs(int(cross @ above[0])) == 1:
                return np.stack([inside[a], inside[b], above[0]])
    return None
