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

    Bonds are contacts up to 1.25 times the sum of the covalent radii. A component of the graph of bonds goes
    on in as many directions as the lattice vectors span by which its cycles fail to close (Larsen, Pandey,
    Strange and Jacobsen, Phys. Rev. Materials 3, 034003 (2019)).
    """
    component, image, cycles = _components(crystal)
    spans = [np.unique(own[own.any(1)], axis=0) for own in cycles]
    if any(len(own) < 2 or np.linalg.matrix_rank(own) != 2 for own in spans):
        return None
    indices = {_miller(own) for own in spans}
    basis = _basis(np.array(indices.pop())) if len(indices) == 1 else None
    if basis is None:
        return None
    plane, change = _reduced_plane(basis[:2] @ crystal.cell[0].numpy())
    basis = np.concatenate([change @ basis[:2], basis[2:]])
    cell = basis @ crystal.cell[0].numpy()
    normal = np.cross(cell[0], cell[1])
    normal = normal / np.linalg.norm(normal)
    if normal @ cell[2] < 0:
        normal = -normal
    where = (crystal.frac.numpy() + image) @ crystal.cell[0].numpy()
    members = [np.flatnonzero(component == k) for k in range(len(cycles))]
    period = float(normal @ cell[2])
    positions = [  # the copy in the first period
        where[own] - np.floor((where[own] @ normal).mean() / period) * cell[2] for own in members
    ]
    order = np.argsort([(own @ normal).mean() for own in positions])
    return Layers(plane, normal, cell[2], [members[k] for k in order], [positions[k] for k in order])


def _reduced_plane(plane: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The shortest two vectors [2, 3] of a plane lattice, and the integers [2, 2] that make them."""
    away = 1e3 * np.linalg.norm(plane, axis=1).max()
    third = np.cross(plane[0], plane[1])
    full = np.concatenate([plane, third[None] / np.linalg.norm(third) * away])
    reduced, change = minkowski_reduced(torch.from_numpy(full)[None])
    return reduced[0, :2].numpy(), np.rint(change[0, :2, :2].numpy()).astype(np.int64)


def _components(
    crystal: Crystals,
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[NDArray[np.int64]]]:
    """Of the graph of bonds: the component of each atom [n]; lattice vectors [n, 3] that bring each atom to
    the first one of its component; and of each component the lattice vectors [c, 3] by which bonds miss."""
    radius = COVALENT_RADII.nan_to_num(UNKNOWN_RADIUS).double()[crystal.numbers]
    pairs = neighbour_list(crystal, 2 * BOND * float(radius.max()))
    bonded = pairs.distance <= BOND * (radius[pairs.i] + radius[pairs.j])
    i, j = pairs.i[bonded].numpy(), pairs.j[bonded].numpy()
    shift = pairs.shift[bonded].numpy().astype(np.int64)
    n = len(crystal.numbers)
    component, image = np.full(n, -1), np.zeros((n, 3), dtype=np.int64)
    count = 0
    for start in range(n):
        if component[start] >= 0:
            continue
        component[start], queue = count, [start]
        while queue:
            a = queue.pop()
            for bond in np.flatnonzero(i == a).tolist():
                b = int(j[bond])
                if component[b] < 0:
                    component[b] = count
                    image[b] = image[a] + shift[bond]
                    queue.append(b)
        count += 1
    misses = image[i] + shift - image[j]
    return component, image, [misses[component[i] == k] for k in range(count)]


def _miller(vectors: NDArray[np.int64]) -> tuple[int, ...]:
    """The plane that lattice vectors of rank 2 span, its first number other than 0 positive."""
    first = vectors[0]
    cross = np.cross(first, vectors)
    index = cross[cross.any(1)][0]
    index = index // np.gcd.reduce(index)
    return tuple((index * np.sign(index[index != 0][0])).tolist())


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
