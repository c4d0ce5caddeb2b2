"""Random cells and free coordinates for Wyckoff assignments, the crowded ones thrown away: all crystals of a
batch at once.

Atoms are placed orbit by orbit. Several trial points are drawn at once and the first that fits is kept;
where none does, the crystal starts again with a new cell in the next round.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from csp.crystallography.lattice import cell_from_parameters, minkowski_reduced
from csp.crystallography.wyckoff import crystal_systems, wyckoff_table
from csp.crystals import Crystals
from generators.random_streams import Streams
from generators.random_symmetric.overlaps import Layout, Sites, images_apart, lower_triangular
from generators.random_symmetric.wyckoff_combinations import WyckoffAssignments

__all__ = ["COSINES", "OBLIQUE", "TIED", "PackingSettings", "pack", "primitive_cells"]

# by crystal system: which length each of a, b, c is, the cosines of α, β, γ, and which of these are free
TIED = torch.tensor([[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 0, 2], [0, 0, 2], [0, 0, 2], [0, 0, 0]])
COSINES = torch.tensor([[0.0, 0, 0]] * 4 + [[0, 0, -0.5]] * 2 + [[0, 0, 0]], dtype=torch.float64)
OBLIQUE = torch.tensor([[1.0, 1, 1], [0, 1, 0]] + [[0, 0, 0]] * 5, dtype=torch.float64)
ATOMS_AT_ONCE = 16384  # × trials × images: about the second-level cache of a core


@dataclass(frozen=True, slots=True)
class PackingSettings:
    """How crystals are packed.

    Attributes:
        min_distance: Smallest distance as a share of the sum of two covalent radii.
        volume_window: The volume lies within this share of the expected one.
        spread: Standard deviation of the logarithm of each length of the conventional cell.
        max_cosine: Of the free angles.
        trials: Points tried at once for an orbit.
        rounds: 2^rounds − 1 attempts, each with a new cell, are made at a crystal.
    """

    min_distance: float = 0.85
    volume_window: float = 0.25
    spread: float = 0.35
    max_cosine: float = 0.5
    trials: int = 16
    rounds: int = 5


def pack(
    assignments: WyckoffAssignments,
    streams: Streams,
    numbers: Tensor,
    radii: Tensor,
    volumes: Tensor,
    settings: PackingSettings,
    lattice: Tensor | None = None,
) -> tuple[Crystals, Tensor]:
    """Crystals for as many assignments as possible, and which those are: int64 [B'].

    Args:
        streams: [B], random numbers of each assignment.
        numbers: [E], atomic numbers of the elements.
        radii: [E], Å, covalent radii of the elements.
        volumes: [B], expected volumes of the primitive cells, Å³.
        lattice: [B, 6] conventional cells that they must have: a, b, c in Å, cosines of α, β, γ; None: any.

    Cells are Minkowski-reduced and primitive. Every periodic pair is at least `min_distance` times
    the sum of its radii apart. The first attempt at a crystal that succeeds is kept; round k makes
    2^k attempts at those that are left. What stays crowded is not among those returned.
    """
    sites = Sites.of(assignments)
    pending = torch.arange(len(assignments))
    group = torch.from_numpy(assignments.group)
    done, cells, fracs = [pending[:0]], [torch.zeros(0, 3, 3).double()], [torch.zeros(0, 3).double()]
    for k in range(settings.rounds):
        left = []
        for part in pending.split(_width(sites.n_atoms[pending], 2**k)):
            row = part.repeat_interleave(2**k)
            attempt = torch.arange(2**k).repeat(len(part)) + 2**k
            own_streams = streams[row].child(attempt)
            if lattice is None:
                cell = _draw_cells(group[row], volumes[row], own_streams.child(0), settings)
            else:
                cell = primitive_cells(group[row], lattice[row])
            cell, change = minkowski_reduced(cell)
            sound = images_apart(cell, radii, settings.min_distance).nonzero().flatten()
            cell, change, own = lower_triangular(cell[sound]), change[sound], sites[row[sound]]
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


def primitive_cells(group: Tensor, lattice: Tensor) -> Tensor:
    """The standard primitive cells [b, 3, 3] of groups [b] with conventional ones of parameters [b, 6]:
    a, b, c in Å, cosines of α, β, γ. NaN where no such cell exists."""
    conventional = cell_from_parameters(lattice[:, :3], lattice[:, 3:])
    return torch.linalg.inv(wyckoff_table().to_primitive[group]).mT @ conventional


def _draw_cells(group: Tensor, volumes: Tensor, streams: Streams, settings: PackingSettings) -> Tensor:
    """Primitive cells [b, 3, 3] in the standard setting."""
    system = torch.from_numpy(crystal_systems(group.numpy()))
    uniform = streams.uniform(8)
    lengths = torch.exp(settings.spread * torch.special.ndtri(uniform[:, :3] + 2.0**-54)).gather(
        1, TIED[system]
    )
    cosines = COSINES[system] + settings.max_cosine * OBLIQUE[system] * (2 * uniform[:, 3:6] - 1)
    cell = primitive_cells(group, torch.cat([lengths, cosines], 1))
    window = uniform[:, 6] + uniform[:, 7] - 1  # triangular, [−1, 1]
    volume = volumes * (1 + settings.volume_window * window)
    return cell * (volume / torch.linalg.det(cell).abs()).pow(1 / 3)[:, None, None]


def _place(
    sites: Sites, cell: Tensor, change: Tensor, radii: Tensor, streams: Streams, settings: PackingSettings
) -> tuple[Tensor, Tensor]:
    """Free coordinates of all orbits, float32 [K, 3], and the crystals [B] in which all found a place."""
    free = wyckoff_table().free.any(dim=1)[sites.position]
    # what cannot be moved first, then the largest atoms
    order = (sites.crystal.double() * 100 + free * 50 - radii[sites.element]).argsort(stable=True)
    layout = Layout.of(sites, order, cell, change, radii, settings.min_distance)
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
