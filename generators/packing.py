"""Random cells and free coordinates for skeletons, the crowded ones thrown away: all crystals of a
batch at once.

Atoms are placed orbit by orbit. A new orbit is compared from one of its atoms only: by symmetry
that covers all pairs. Several trial points are drawn at once and the first that fits is kept; where
none does, the crystal starts again with a new cell in the next round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from csp.crystals import Crystals, ranges
from csp.lattice import cell_from_parameters, minkowski_reduced
from csp.wyckoff import crystal_systems, wyckoff_table
from generators.randomness import Streams
from generators.skeletons import Skeletons

__all__ = ["PackingSettings", "pack"]

# by crystal system: which length each of a, b, c is, the cosines of α, β, γ, and which of these are free
TIED = torch.tensor([[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 0, 2], [0, 0, 2], [0, 0, 2], [0, 0, 0]])
COSINES = torch.tensor([[0.0, 0, 0]] * 4 + [[0, 0, -0.5]] * 2 + [[0, 0, 0]], dtype=torch.float64)
OBLIQUE = torch.tensor([[1.0, 1, 1], [0, 1, 0]] + [[0, 0, 0]] * 5, dtype=torch.float64)
ROUNDING = 1e-5  # relative margin for single precision
ATOMS_AT_ONCE = 16384  # × trials × images: about the second-level cache of a core


@dataclass(frozen=True, slots=True)
class PackingSettings:
    """How crystals are packed.

    min_distance   smallest distance as a share of the sum of two covalent radii
    volume_window  the volume lies within this share of the expected one
    spread         standard deviation of the logarithm of each length of the conventional cell
    max_cosine     of the free angles
    trials         points tried at once for an orbit
    rounds         2^rounds − 1 attempts, each with a new cell, are made at a crystal
    """

    min_distance: float = 0.85
    volume_window: float = 0.25
    spread: float = 0.35
    max_cosine: float = 0.5
    trials: int = 16
    rounds: int = 5


def pack(
    skeletons: Skeletons,
    streams: Streams,
    numbers: Tensor,
    radii: Tensor,
    volumes: Tensor,
    settings: PackingSettings,
) -> tuple[Crystals, Tensor]:
    """Crystals for as many skeletons as possible, and which those are: int64 [B'].

    streams         [B]  random numbers of each skeleton
    numbers, radii  [E]  atomic numbers and covalent radii (Å) of the elements
    volumes         [B]  expected volumes of the primitive cells, Å³

    Cells are Minkowski-reduced and primitive. Every periodic pair is at least `min_distance` times
    the sum of its radii apart. The first attempt at a crystal that succeeds is kept; round k makes
    2^k attempts at those that are left. What stays crowded is not among those returned.
    """
    sites = _Sites.of(skeletons)
    pending = torch.arange(len(skeletons))
    group = torch.from_numpy(skeletons.group)
    done, cells, fracs = [pending[:0]], [torch.zeros(0, 3, 3).double()], [torch.zeros(0, 3).double()]
    for k in range(settings.rounds):
        left = []
        for part in pending.split(_width(sites.n_atoms[pending], 2**k)):
            row = part.repeat_interleave(2**k)
            attempt = torch.arange(2**k).repeat(len(part)) + 2**k
            own_streams = streams[row].child(attempt)
            cell, change = _draw_cells(group[row], volumes[row], own_streams.child(0), settings)
            sound = _keeps_apart(cell, radii, settings).nonzero().flatten()
            cell, change, own = _lower_triangular(cell[sound]), change[sound], sites[row[sound]]
            points, fits = _place(own, cell, change, radii, own_streams[sound].child(1), settings)
            success = torch.zeros(len(row), dtype=torch.bool)
            success[sound[fits]] = True
            success = success.reshape(len(part), 2**k)
            found = success.any(1)
            first = success.to(torch.uint8).argmax(1) + torch.arange(len(part)) * 2**k
            place = torch.searchsorted(sound, first[found])
            done.append(part[found])
            cells.append(cell[place])
            fracs.append(own.build(points, change, place))
            left.append(part[~found])
        pending = torch.cat([pending[:0], *left])
    built = torch.cat(done)
    n_atoms = sites.n_atoms[built]
    crystals = Crystals(
        torch.cat(cells),
        torch.cat(fracs),
        numbers[sites[built].element_of_atom],
        torch.cat([n_atoms.new_zeros(1), torch.cumsum(n_atoms, 0)]),
    )
    order = built.argsort()
    return crystals[order].wrapped(), built[order]


def _width(n_atoms: Tensor, attempts: int) -> int:
    """How many crystals go through at once."""
    return max(1, ATOMS_AT_ONCE // (attempts * int(n_atoms.max()))) if len(n_atoms) else 1


@dataclass(frozen=True, slots=True)
class _Sites:
    """The orbits of B crystals, K in all, ordered by crystal.

    first_orbit int64 [B + 1]; position, element, size, trial_free [K]; n_atoms [B]
    """

    first_orbit: Tensor
    position: Tensor
    element: Tensor
    size: Tensor
    n_atoms: Tensor

    @classmethod
    def of(cls, skeletons: Skeletons) -> _Sites:
        position = torch.from_numpy(skeletons.position)
        n_orbits = torch.from_numpy(np.bincount(skeletons.crystal, minlength=len(skeletons)))
        size = wyckoff_table().n_atoms[position]
        n_atoms = torch.zeros(len(skeletons), dtype=torch.int64)
        n_atoms.index_add_(0, torch.from_numpy(skeletons.crystal), size)
        first = torch.cat([n_orbits.new_zeros(1), torch.cumsum(n_orbits, 0)])
        return cls(first, position, torch.from_numpy(skeletons.element), size, n_atoms)

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

    def __getitem__(self, chosen: Tensor) -> _Sites:
        n_orbits = self.n_orbits[chosen]
        orbits = ranges(self.first_orbit[chosen], n_orbits)
        first = torch.cat([n_orbits.new_zeros(1), torch.cumsum(n_orbits, 0)])
        return _Sites(
            first, self.position[orbits], self.element[orbits], self.size[orbits], self.n_atoms[chosen]
        )

    def ordered(self, order: Tensor) -> _Sites:
        """The same orbits in another order, which keeps crystals together."""
        return _Sites(
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
        orbits = ranges(self.first_orbit[chosen], self.n_orbits[chosen])
        point = torch.repeat_interleave(points[orbits].double(), own.size, dim=0)
        return (rotation @ point[:, :, None]).squeeze(2) + translation


def _draw_cells(
    group: Tensor, volumes: Tensor, streams: Streams, settings: PackingSettings
) -> tuple[Tensor, Tensor]:
    """Reduced primitive cells [b, 3, 3] and the change of basis from the standard ones [b, 3, 3]."""
    system = torch.from_numpy(crystal_systems(group.numpy()))
    uniform = streams.uniform(8)
    lengths = torch.exp(settings.spread * torch.special.ndtri(uniform[:, :3] + 2.0**-54)).gather(
        1, TIED[system]
    )
    cosines = COSINES[system] + settings.max_cosine * OBLIQUE[system] * (2 * uniform[:, 3:6] - 1)
    cell = torch.linalg.inv(wyckoff_table().to_primitive[group]).mT @ cell_from_parameters(lengths, cosines)
    window = uniform[:, 6] + uniform[:, 7] - 1  # triangular, [−1, 1]
    volume = volumes * (1 + settings.volume_window * window)
    cell = cell * (volume / torch.linalg.det(cell).abs()).pow(1 / 3)[:, None, None]
    return minkowski_reduced(cell)


def _keeps_apart(cell: Tensor, radii: Tensor, settings: PackingSettings) -> Tensor:
    """bool [b]: are the lattice vectors long enough for the images of the largest atom?"""
    closest = 2 * settings.min_distance * radii.max()
    return cell.square().sum(2).amin(1) > (closest * (1 + 1e-6)) ** 2


def _lower_triangular(cell: Tensor) -> Tensor:
    """Rotated so that a lies along x and b in the xy plane."""
    return torch.linalg.cholesky(cell @ cell.mT)


@dataclass(frozen=True, slots=True)
class _Layout:
    """The orbits of B crystals, K in all, in the order in which they are placed, and their A atoms.

    order                  int64 [K]     places of these orbits in the order of the skeletons
    free                   bool [K]      has its position any freedom?
    size, first_atom       int64 [K]
    first_of_crystal       int64 [K]     first atom of the orbit's crystal
    rotation, translation  float32 [A, 3, 3], [A, 3]  from free to fractional coordinates
    reach                  float32 [A]   radius × smallest distance, Å
    lower                  float32 [B, 6]  entries of the lower triangular cells, Å
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
    def of(cls, sites: _Sites, cell: Tensor, change: Tensor, radii: Tensor, min_distance: float) -> _Layout:
        free = wyckoff_table().free.any(dim=1)[sites.position]
        # what cannot be moved first, then the largest atoms
        order = (sites.crystal.double() * 100 + free * 50 - radii[sites.element]).argsort(stable=True)
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


def _place(
    sites: _Sites, cell: Tensor, change: Tensor, radii: Tensor, streams: Streams, settings: PackingSettings
) -> tuple[Tensor, Tensor]:
    """Free coordinates of all orbits, float32 [K, 3], and the crystals [B] in which all found a place."""
    layout = _Layout.of(sites, cell, change, radii, settings.min_distance)
    alive = torch.ones(len(cell), dtype=torch.bool)
    points = torch.zeros((len(layout.order), 3))
    placed = torch.zeros((len(layout.reach), 3))
    for step in range(int(sites.n_orbits.max()) if len(cell) else 0):
        active = (alive & (sites.n_orbits > step)).nonzero().flatten()
        orbit = sites.first_orbit[active] + step
        trials = settings.trials if bool(layout.free[orbit].any()) else 1
        trial = streams[active].child(step).uniform(3 * trials, torch.float32).reshape(-1, 3, trials)
        good = layout.fits(active, orbit, trial, placed)
        alive[active] = good.any(1)
        pick = good.to(torch.uint8).argmax(1)
        point = trial.gather(2, pick[:, None, None].expand(-1, 3, 1)).squeeze(2)
        points[layout.order[orbit]] = point
        atoms, where = layout.atoms(orbit, point)
        placed[atoms] = where
    return points, alive


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
