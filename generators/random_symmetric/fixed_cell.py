"""Crystals with a given cell: which space groups it allows, with which axes, and how many formula units.

The given vectors are either a primitive cell of the crystal or a conventional one, whose centring is open. A
group is allowed if among the bases of the given lattice there is one whose lengths and angles are those that
the group's crystal system asks for, in the standard setting; bases that lead to the same crystals count once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from csp.cell_file import Cell
from csp.crystallography.lattice import cell_from_parameters, minkowski_reduced
from csp.crystallography.wyckoff import crystal_systems, wyckoff_table
from csp.errors import InputError
from csp.library.volume import VolumePrior
from csp.target import Target
from generators.random_symmetric.packing import COSINES, OBLIQUE, TIED

__all__ = ["VOLUME_WINDOW", "GivenCell", "check_cell"]

# that makes the lattice what a crystal system asks for: 0.1 % of a length, about 0.1° of an angle
STRAIN = 1e-3
VOLUME_WINDOW = 0.35  # the volume is so near the expected one; that of 97 % of unseen compositions is

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@cache
def _unimodular() -> Ints:
    """All [U, 3, 3] of determinant 1 with entries −1, 0, 1: from a reduced basis to all short ones."""
    entries = np.array(list(itertools.product((-1, 0, 1), repeat=9))).reshape(-1, 3, 3)
    return entries[np.rint(np.linalg.det(entries)) == 1]


@dataclass(frozen=True, slots=True, eq=False)
class GivenCell:
    """S choices of a space group and a conventional cell, in the order of the groups.

    Attributes:
        group: int [S].
        lattice: float [S, 6], a, b, c in Å and the cosines of α, β, γ.
        volume: float [S], of the primitive cell, Å³.
    """

    group: Ints
    lattice: Floats
    volume: Floats

    @staticmethod
    @lru_cache(maxsize=8)
    def of(cell: Cell) -> GivenCell:
        """All choices for a cell."""
        reduced = minkowski_reduced(torch.tensor([cell], dtype=torch.float64))[0][0].numpy()
        bases = _unimodular()
        to_primitive = np.rint(wyckoff_table().to_primitive.numpy()).astype(np.int64)
        systems = crystal_systems(np.arange(231))
        found: dict[tuple[int, bytes], tuple[Floats, Floats]] = {}
        groups, lattices, volumes = [], [], []
        for group in range(1, 231):
            key = int(systems[group]), to_primitive[group].tobytes()
            if key not in found:
                found[key] = _choices(key[0], to_primitive[group], reduced, bases)
            own, volume = found[key]
            groups += [group] * len(own)
            lattices.append(own)
            volumes.append(volume)
        return GivenCell(np.array(groups), np.concatenate(lattices), np.concatenate(volumes))

    def fits(self, target: Target, volume: float) -> NDArray[np.bool_]:
        """bool [231, Z]: has a group a choice that holds these of the target's formula units?

        Args:
            volume: Å³ expected of a formula unit.
        """
        possible = np.zeros((231, len(target.formula_units)), dtype=bool)
        np.logical_or.at(possible, self.group, self._holds(target, volume))
        return possible

    def draw(self, target: Target, volume: float, group: Tensor, z: Tensor, uniform: Tensor) -> Tensor:
        """float64 [B, 6]: a lattice for each group [B] and formula units z [B] that fit; uniform [B]."""
        holds = self._holds(target, volume)[:, np.searchsorted(target.formula_units, z.numpy())]  # [S, B]
        weight = (self.group[:, None] == group.numpy()) & holds
        edges = weight.cumsum(0)
        choice = (uniform.numpy() * edges[-1] >= edges).sum(0)
        return torch.from_numpy(self.lattice[choice])

    def _holds(self, target: Target, volume: float) -> NDArray[np.bool_]:
        """bool [S, Z]: is the volume that of as many formula units? A number that was asked for is right."""
        z = np.array(target.formula_units)
        ratio = self.volume[:, None] / (volume * z)
        return (np.abs(ratio - 1.0) <= VOLUME_WINDOW) | (target.z is not None)


def check_cell(target: Target, volumes: VolumePrior) -> None:
    """Refuse a target whose given cell fits no number of its formula units.

    Raises:
        InputError: No number of formula units fits the cell.
    """
    if target.cell is None:
        return
    expected = volumes.predict(target.numbers, target.counts)
    if not GivenCell.of(target.cell).fits(target, expected).any():
        own = abs(float(np.linalg.det(np.array(target.cell))))
        raise InputError(
            f"The given cell has {own:.4g} Å³, and neither it nor a centred part of it is within "
            f"{VOLUME_WINDOW:.0%} of a whole number of formula units of {target.formula}, of about "
            f"{expected:.4g} Å³ each, that `max_atoms` allows; `z` says how many there are."
        )


def _choices(system: int, to_primitive: Ints, reduced: Floats, bases: Ints) -> tuple[Floats, Floats]:
    """Lattices [S, 6] and primitive volumes [S] for the groups of a crystal system and a centring."""
    if system == 0:
        bases = np.eye(3, dtype=np.int64)[None]
    lattices, volumes = [np.zeros((0, 6))], [np.zeros(0)]
    for conventional, points in _readings(to_primitive):
        steps = conventional @ bases  # from the reduced basis to the conventional one
        cells = steps @ reduced
        lattice = _parameters(cells)
        ideal = _ideal(system, lattice)
        # a strain changes lengths by as much and cosines by twice as much: most are left out by that
        scale = np.column_stack([lattice[:, :3], np.ones((len(lattice), 3))])
        near = np.flatnonzero((np.abs(ideal - lattice) <= 3 * STRAIN * scale).all(1))
        sound = near[_strain(cells[near], ideal[near]) < STRAIN]
        ideal, steps = ideal[sound], steps[sound]
        kept = _distinct(system, ideal, steps)
        lattices.append(ideal[kept])
        volumes.append(np.full(len(kept), abs(np.linalg.det(reduced)) / points))
    return np.concatenate(lattices), np.concatenate(volumes)


def _readings(to_primitive: Ints) -> Iterator[tuple[Ints, int]]:
    """The given lattice as that of the conventional and as that of the primitive cell: the matrix from its
    bases to conventional ones, and how many primitive cells the given one then has."""
    centring = round(abs(np.linalg.det(to_primitive)))
    yield np.eye(3, dtype=np.int64), centring
    if centring > 1:
        yield to_primitive.T, 1


def _parameters(cells: Floats) -> Floats:
    """a, b, c and cosines of α, β, γ [N, 6] of cells [N, 3, 3]."""
    metric = cells @ cells.transpose(0, 2, 1)
    length = np.sqrt(np.diagonal(metric, axis1=1, axis2=2))
    cosine = metric / (length[:, :, None] * length[:, None])
    return np.column_stack([length, cosine[:, 1, 2], cosine[:, 0, 2], cosine[:, 0, 1]])


def _ideal(system: int, lattice: Floats) -> Floats:
    """The lattices [N, 6] as the crystal system has them: mean lengths, fixed angles."""
    tied = TIED[system].numpy()
    same = (tied[:, None] == tied) / (tied[:, None] == tied).sum(1, keepdims=True)
    fixed = OBLIQUE[system].numpy() == 0
    cosines = np.where(fixed, COSINES[system].numpy(), lattice[:, 3:])
    return np.column_stack([np.exp(np.log(lattice[:, :3]) @ same.T), cosines])


def _strain(cells: Floats, lattice: Floats) -> Floats:
    """[N]: the largest relative change of any length when cells [N, 3, 3] become lattices [N, 6]."""
    wanted = cell_from_parameters(torch.from_numpy(lattice[:, :3]), torch.from_numpy(lattice[:, 3:])).numpy()
    change = np.linalg.solve(cells, np.nan_to_num(wanted))
    return np.abs(np.linalg.svd(change, compute_uv=False) - 1.0).max(1)


def _distinct(system: int, lattice: Floats, steps: Ints) -> Ints:
    """Which of N lattices to keep: each metric once, as it fixes the crystals up to a rotation; and of
    monoclinic ones with the same b whose a and c differ by even multiples, which no operation tells apart,
    the one with the shortest."""
    order = np.arange(len(lattice))
    if system == 1:
        a, c, cosine = lattice[:, 0], lattice[:, 2], lattice[:, 4]
        order = np.lexsort((a.round(6), cosine.round(6), (a + c).round(6)))
        axis = steps[order, 1] * np.where(_first_sign(steps[order, 1]) < 0, -1, 1)[:, None]
        parity = np.abs(steps[order]).reshape(len(order), 9) % 2
        _, first = np.unique(np.column_stack([axis, parity]), axis=0, return_index=True)
        order = order[np.sort(first)]
    _, first = np.unique(lattice[order].round(6), axis=0, return_index=True)
    return order[np.sort(first)]


def _first_sign(rows: Ints) -> Ints:
    """int [N]: the sign of the first number that is not 0 in each row [N, 3]."""
    first = (rows != 0).argmax(1)
    return np.sign(rows[np.arange(len(rows)), first])
