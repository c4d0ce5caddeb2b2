"""Where the atoms of orbits are and whether they keep apart, for batches of Wyckoff assignments in cells.

A new orbit is compared with what is placed from one of its atoms only: by symmetry that covers all pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from csp.crystallography.wyckoff import wyckoff_table
from csp.crystals import ranges
from generators.random_symmetric.wyckoff_combinations import WyckoffAssignments

__all__ = ["Layout", "Sites", "images_apart", "lower_triangular"]

ROUNDING = 1e-5  # relative margin for single precision


@dataclass(frozen=True, slots=True)
class Sites:
    """The orbits of B crystals, K in all, ordered by crystal.

    Attributes:
        first_orbit: int64 [B + 1], crystal b has the orbits first_orbit[b]:first_orbit[b + 1].
        position: int64 [K], row of the Wyckoff table.
        element: int64 [K], index into the target's elements.
        size: int64 [K], atoms of the orbit.
        n_atoms: int64 [B].
    """

    first_orbit: Tensor
    position: Tensor
    element: Tensor
    size: Tensor
    n_atoms: Tensor

    @classmethod
    def of(cls, assignments: WyckoffAssignments) -> Sites:
        position = torch.from_numpy(assignments.position)
        n_orbits = torch.from_numpy(np.bincount(assignments.crystal, minlength=len(assignments)))
        size = wyckoff_table().n_atoms[position]
        n_atoms = torch.zeros(len(assignments), dtype=torch.int64)
        n_atoms.index_add_(0, torch.from_numpy(assignments.crystal), size)
        first = torch.cat([n_orbits.new_zeros(1), torch.cumsum(n_orbits, 0)])
        return cls(first, position, torch.from_numpy(assignments.element), size, n_atoms)

    @property
    def n_orbits(self) -> Tensor:
        return self.first_orbit[1:] - self.first_orbit[:-1]

    @property
    def crystal(self) -> Tensor:
        """int64 [K]"""
        return torch.repeat_interleave(torch.arange(len(self.n_atoms)), self.n_orbits)

    @property
    def element_of_atom(self) -> Tensor:
        return torch.repeat_interleave(self.element, self.size)

    def orbits(self, chosen: Tensor) -> Tensor:
        """Indices of the orbits of the chosen crystals."""
        return ranges(self.first_orbit[chosen], self.n_orbits[chosen])

    def __getitem__(self, chosen: Tensor) -> Sites:
        n_orbits, orbits = self.n_orbits[chosen], self.orbits(chosen)
        first = torch.cat([n_orbits.new_zeros(1), torch.cumsum(n_orbits, 0)])
        return Sites(
            first, self.position[orbits], self.element[orbits], self.size[orbits], self.n_atoms[chosen]
        )

    def ordered(self, order: Tensor) -> Sites:
        """The same orbits in another order, which keeps crystals together."""
        return Sites(
            self.first_orbit, self.position[order], self.element[order], self.size[order], self.n_atoms
        )

    def maps(self, change: Tensor, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """Affine maps [A, 3, 3], [A, 3] from free coordinates to those in the changed bases [B, 3, 3]."""
        table = wyckoff_table()
        rows = ranges(table.first_map[self.position], self.size)
        # x = x' T for row vectors, so columns are multiplied by the transposed inverse
        back = torch.linalg.inv(change).round().mT.to(dtype)[torch.repeat_interleave(self.crystal, self.size)]
        rotation, translation = table.map_rotation[rows].to(dtype), table.map_translation[rows].to(dtype)
        return back @ rotation, (back @ translation[:, :, None]).squeeze(2)

    def build(self, points: Tensor, change: Tensor, chosen: Tensor) -> Tensor:
        """Fractional coordinates, float64, of the chosen crystals, in the order of the orbits."""
        own = self[chosen]
        rotation, translation = own.maps(change[chosen])
        point = torch.repeat_interleave(points[self.orbits(chosen)].double(), own.size, dim=0)
        return (rotation @ point[:, :, None]).squeeze(2) + translation


def images_apart(cell: Tensor, radii: Tensor, min_distance: float) -> Tensor:
    """bool [b]: are the vectors of reduced cells long enough for the images of the largest atom?"""
    closest = 2 * min_distance * radii.max()
    return cell.square().sum(2).amin(1) > (closest * (1 + 1e-6)) ** 2


def lower_triangular(cell: Tensor) -> Tensor:
    """Rotated so that a lies along x and b in the xy plane."""
    return torch.linalg.cholesky(cell @ cell.mT)


@dataclass(frozen=True, slots=True)
class Layout:
    """The orbits of B crystals, K in all, in the order in which they are placed, and their A atoms.

    Attributes:
        order: int64 [K], places of these orbits in the order of the assignments.
        free: bool [K], has its position any freedom?
        size: int64 [K].
        first_atom: int64 [K].
        first_of_crystal: int64 [K], first atom of the orbit's crystal.
        rotation: float32 [A, 3, 3], from free to fractional coordinates.
        translation: float32 [A, 3], the same.
        reach: float32 [A], radius × smallest distance, Å.
        lower: float32 [B, 6], entries of the lower triangular cells, Å.
    """

    order: Tensor
    free: Tensor
    size: Tensor
    first_atom: Tensor
    first_of_crystal: Tensor
    rotation: Tensor
    translation: Tensor
    reach: Tensor
    lower: Tensor

    @classmethod
    def of(
        cls, sites: Sites, order: Tensor, cell: Tensor, change: Tensor, radii: Tensor, min_distance: float
    ) -> Layout:
        """Orbits of the sites in an order [K] that keeps crystals together.

        Args:
            cell: [B, 3, 3] reduced, lower triangular.
            change: [B, 3, 3] from the primitive cell of the table's setting to it, `cell` = change @ it.
            radii: [E] Å, of the elements.
            min_distance: Smallest distance as a share of the sum of two radii.
        """
        free = wyckoff_table().free.any(dim=1)[sites.position]
        ordered = sites.ordered(order)
        rotation, translation = ordered.maps(change, torch.float32)
        lower = torch.stack([cell[:, i, j] for i in range(3) for j in range(i + 1)], 1)
        return cls(
            order,
            free[order],
            ordered.size,
            torch.cumsum(ordered.size, 0) - ordered.size,
            (torch.cumsum(sites.n_atoms, 0) - sites.n_atoms)[sites.crystal],
            rotation,
            translation,
            (min_distance * (1 + ROUNDING) * radii[ordered.element_of_atom]).float(),
            lower.float(),
        )

    def fits(self, crystal: Tensor, orbit: Tensor, trial: Tensor, placed: Tensor) -> Tensor:
        """bool [n, T]: do free coordinates [n, 3, T] keep orbits [n] apart from the placed [A, 3]?"""
        atom = self.first_atom[orbit]
        n_mates, n_before = self.size[orbit] - 1, atom - self.first_of_crystal[orbit]
        index = torch.arange(len(orbit))
        row = torch.cat([index.repeat_interleave(n_mates), index.repeat_interleave(n_before)])
        mate = ranges(atom + 1, n_mates)
        before = ranges(self.first_of_crystal[orbit], n_before)
        here = torch.baddbmm(self.translation[atom, :, None], self.rotation[atom], trial)
        mates = torch.baddbmm(self.translation[mate, :, None], self.rotation[mate], trial[row[: len(mate)]])
        others = torch.cat([mates, placed[before, :, None].expand(-1, 3, trial.shape[2])])
        limit = (self.reach[atom][row] + self.reach[torch.cat([mate, before])]).square()
        squared = _nearest_squared(others - here[row], self.lower[crystal][row])
        near = (squared < limit[:, None]).float()
        clashes = torch.zeros((len(orbit), trial.shape[2])).index_add_(0, row, near)
        return clashes == 0

    def atoms(self, orbit: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
        """Indices and fractional coordinates [m, 3] of the atoms of orbits [n] at free coordinates [n, 3]."""
        atoms = ranges(self.first_atom[orbit], self.size[orbit])
        point = point.repeat_interleave(self.size[orbit], dim=0)
        placed = torch.baddbmm(self.translation[atoms, :, None], self.rotation[atoms], point[:, :, None])
        return atoms, placed.squeeze(2)


def _nearest_squared(difference: Tensor, lower: Tensor) -> Tensor:
    """Squared distances to the nearest image, Å²: [Q, 3, T] in Minkowski-reduced cells [Q, 6].

    The cells are lower triangular, (xx, yx, yy, zx, zy, zz). Wrapped differences need the
    neighbours ±1 along b and c; along a the nearest image is found by rounding.
    """
    xx, yx, yy, zx, zy, zz = (column[:, None] for column in lower.unbind(1))
    fx, fy, fz = (component - component.round() for component in difference.unbind(1))
    x = (fx * xx).addcmul_(fy, yx).addcmul_(fz, zx)
    y = (fy * yy).addcmul_(fz, zy)
    z = fz * zz
    best = torch.full_like(x, torch.inf)
    for k in (-1, 0, 1):
        z2 = (z + k * zz).square_()
        for j in (-1, 0, 1):
            along = x + (k * zx + j * yx)
            along.addcmul_((along / xx).round_(), xx, value=-1)
            across = y + (k * zy + j * yy)
            along.square_().addcmul_(across, across).add_(z2)
            torch.minimum(best, along, out=best)
    return best
