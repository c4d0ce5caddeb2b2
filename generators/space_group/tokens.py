"""Described crystals as padded tensors, and the parameters of cells as the model counts them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from csp.crystallography.lattice import cell_from_parameters
from csp.crystallography.wyckoff import crystal_systems, wyckoff_table
from csp.library.volume import VolumePrior
from generators.space_group.dataset import Table
from generators.space_group.letters import unpacked
from generators.space_group.model import FREE_CELL, site_freedom
from generators.space_group.representation import Descriptions

__all__ = ["Batch", "batches", "expected_volumes", "lattice_of", "lengths", "values_of"]

SORTED_AT_ONCE = 64  # batches among which crystals of like length are gathered
_SYSTEM = torch.from_numpy(crystal_systems(np.arange(231)))
_COSINES = torch.tensor([[0.0, 0, 0]] * 4 + [[0, 0, -0.5]] * 2 + [[0, 0, 0]], dtype=torch.float64)[_SYSTEM]
_CENTRING = torch.linalg.det(wyckoff_table().to_primitive).round()


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B crystals of up to E elements, K orbits and F sites (orbits with freedom); number 0 pads.

    number, count              int64 [B, E]
    group, z                   int64 [B]
    orbit_number, orbit_row    int64 [B, K]
    turn_number, turn_left     int64 [B, K + 1]  whose turn is before each orbit, and at the end; atoms left
    letter                     int64 [B, K]
    allowed                    bool [B, K, 27]
    cell                       float32 [B, 6]    as `values_of` gives it
    site_number, site_row      int64 [B, F]
    site_point                 float32 [B, F, 3]
    site_free                  bool [B, F, 3]
    """

    number: Tensor
    count: Tensor
    group: Tensor
    z: Tensor
    orbit_number: Tensor
    orbit_row: Tensor
    turn_number: Tensor
    turn_left: Tensor
    letter: Tensor
    allowed: Tensor
    cell: Tensor
    site_number: Tensor
    site_row: Tensor
    site_point: Tensor
    site_free: Tensor

    def __len__(self) -> int:
        return len(self.group)

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))

    @classmethod
    def of(cls, table: Table, expected: Tensor) -> Batch:
        """expected: Å³ per atom [B], as `expected_volumes` gives them."""
        d = table.descriptions

        def padded(values: Tensor, row: Tensor, place: Tensor) -> Tensor:
            return _padded(values, row, place, len(d))

        in_elements = _places(d.first_element)
        crystal, k = _places(d.first_orbit)
        of_element = d.first_element[crystal] + d.element
        size = wyckoff_table().n_atoms[d.position]
        placed = torch.cumsum(size, 0) - size
        new = torch.ones(len(of_element), dtype=torch.bool)
        new[1:] = of_element.diff() != 0
        begin = placed[new][torch.cumsum(new, 0) - 1]
        left = d.count[of_element] * d.z[crystal] - (placed - begin)
        orbit_number = padded(d.number[of_element], crystal, k)
        turn_left = pad(padded(left, crystal, k), (0, 1))
        free = site_freedom(d.group[crystal], d.position, k == 0)
        site = free.any(1).nonzero().flatten()
        sites = torch.bincount(crystal[site], minlength=len(d))
        place = torch.arange(len(site)) - (torch.cumsum(sites, 0) - sites)[crystal[site]]
        at = crystal[site], place
        return cls(
            padded(d.number, *in_elements),
            padded(d.count, *in_elements),
            d.group,
            d.z,
            orbit_number,
            padded(d.position, crystal, k),
            pad(orbit_number, (0, 1)),
            turn_left,
            padded(wyckoff_table().letter[d.position], crystal, k),
            padded(torch.from_numpy(unpacked(table.allowed.numpy())), crystal, k),
            values_of(d.lattice.double(), d.group, d.n_atoms, expected).float(),
            padded(d.number[of_element][site], *at),
            padded(d.position[site], *at),
            padded(d.point[site], *at),
            padded(free[site], *at),
        )


def _places(first: Tensor) -> tuple[Tensor, Tensor]:
    """Of each member of runs: the run, and the place in it."""
    lengths = first.diff()
    run = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    return run, torch.arange(len(run)) - first[run]


def _padded(values: Tensor, row: Tensor, place: Tensor, rows: int) -> Tensor:
    """[rows, longest, …] with zeros where nothing is."""
    longest = int(place.max()) + 1 if len(place) else 0
    result = values.new_zeros((rows, longest, *values.shape[1:]))
    result[row, place] = values
    return result


def lengths(d: Descriptions) -> Tensor:
    """int64 [B]: tokens of each crystal, one for each element, orbit and site, and two."""
    crystal, k = _places(d.first_orbit)
    free = site_freedom(d.group[crystal], d.position, k == 0).any(1)
    sites = torch.bincount(crystal[free], minlength=len(d))
    return d.n_elements + d.n_orbits + sites + 2


def batches(length: Tensor, tokens: int, seed: int, epoch: int) -> Iterator[Tensor]:
    """The crystals [b] of each batch of an epoch: every crystal once, those of like length together, at most
    `tokens` tokens with the padding. A function of its arguments alone."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(length))
    chosen = []
    several = max(1, SORTED_AT_ONCE * tokens // max(1, int(length.double().mean())))
    for begin in range(0, len(order), several):
        part = order[begin : begin + several]
        part = part[np.argsort(length.numpy()[part], kind="stable")]
        own: list[int] = []
        for k in part.tolist():
            if own and (len(own) + 1) * int(length[k]) > tokens:
                chosen.append(own)
                own = []
            own.append(k)
        chosen.append(own)
    for k in rng.permutation(len(chosen)).tolist():
        yield torch.tensor(chosen[k])


def expected_volumes(d: Descriptions, prior: VolumePrior) -> Tensor:
    """float64 [B]: Å³ per atom that the compositions make one expect."""
    at = _places(d.first_element)
    count = _padded(d.count, *at, len(d))
    return prior.volumes(_padded(d.number, *at, len(d)), count) / count.sum(1)


def values_of(lattice: Tensor, group: Tensor, n_atoms: Tensor, expected: Tensor) -> Tensor:
    """[B, 6]: ln of the volume per atom relative to the expected one, ln b/a, ln c/a, cosines of α, β, γ.

    lattice: [B, 6], a, b, c in Å and the cosines, of the conventional cell; n_atoms [B] of the primitive one.
    """
    cell = cell_from_parameters(lattice[:, :3], lattice[:, 3:])
    volume = torch.linalg.det(cell) / (_CENTRING[group] * n_atoms)
    ratios = (lattice[:, 1:3] / lattice[:, :1]).log()
    return torch.cat([(volume / expected).log()[:, None], ratios, lattice[:, 3:]], 1)


def lattice_of(values: Tensor, group: Tensor, n_atoms: Tensor, expected: Tensor) -> Tensor:
    """[B, 6]: the reverse of `values_of`; what the group fixes is set. NaN where no such cell exists."""
    free = FREE_CELL[group].bool()
    values = values.double()
    ratios = torch.where(free[:, 1:3], values[:, 1:3], 0.0).exp()
    ratios = torch.cat([torch.ones_like(ratios[:, :1]), ratios], 1)
    cosines = torch.where(free[:, 3:], values[:, 3:], _COSINES[group])
    volume = values[:, 0].exp() * expected * n_atoms * _CENTRING[group]
    unit = torch.linalg.det(cell_from_parameters(ratios, cosines))
    return torch.cat([ratios * (volume / unit).pow(1 / 3)[:, None], cosines], 1)
