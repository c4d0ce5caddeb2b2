"""Described crystals as padded tensors, and what the model makes of them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.functional import pad

from csp.crystallography.wyckoff import wyckoff_table
from csp.errors import InputError
from csp.library.volume import VolumePrior
from generators.space_group.cell_values import values_of
from generators.space_group.letters import allowed, begin, step, unpacked
from generators.space_group.model import SpaceGroupModel, site_freedom
from generators.space_group.representation import WyckoffRepresentation

__all__ = [
    "Batch",
    "attention_mask",
    "expected_volumes",
    "forward",
    "lengths",
    "letters_allowed",
    "prefix",
    "tokens",
]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B crystals of up to E elements, K orbits and F sites (orbits with freedom); number 0 pads.

    Attributes:
        number: int64 [B, E].
        count: int64 [B, E].
        group: int64 [B].
        z: int64 [B].
        orbit_number: int64 [B, K].
        orbit_row: int64 [B, K].
        turn_number: int64 [B, K + 1], whose turn is before each orbit, and at the end.
        turn_left: int64 [B, K + 1], atoms of it left to place.
        letter: int64 [B, K].
        allowed: bool [B, K, 27].
        cell: float32 [B, 6], as `values_of` gives it.
        site_number: int64 [B, F].
        site_row: int64 [B, F].
        site_point: float32 [B, F, 3].
        site_free: bool [B, F, 3].
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
    def of(cls, d: WyckoffRepresentation, allowed: Tensor, expected: Tensor) -> Batch:
        """Crystals as the model reads them.

        Args:
            allowed: Letters that could have come at each orbit, as bits, int64 [K]
                (`generators.space_group.letters`).
            expected: Å³ per atom [B], as `expected_volumes` gives them.
        """

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
            padded(torch.from_numpy(unpacked(allowed.numpy())), crystal, k),
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


def lengths(d: WyckoffRepresentation) -> Tensor:
    """int64 [B]: tokens of each crystal, one for each element, orbit and site, and two."""
    crystal, k = _places(d.first_orbit)
    free = site_freedom(d.group[crystal], d.position, k == 0).any(1)
    sites = torch.bincount(crystal[free], minlength=len(d))
    return d.n_elements + d.n_orbits + sites + 2


def expected_volumes(d: WyckoffRepresentation, prior: VolumePrior) -> Tensor:
    """float64 [B]: Å³ per atom that the compositions make one expect."""
    at = _places(d.first_element)
    count = _padded(d.count, *at, len(d))
    return prior.volumes(_padded(d.number, *at, len(d)), count) / count.sum(1)


def letters_allowed(own: WyckoffRepresentation) -> Tensor:
    """int64 [K]: bits of the letters that could have come at each orbit.

    Raises:
        InputError: Another one came.
    """
    first = own.first_orbit.tolist()
    group, z, element = own.group.tolist(), own.z.tolist(), own.first_element.tolist()
    letters = wyckoff_table().letter[own.position].tolist()
    bits = []
    for b in range(len(own)):
        state = begin(group[b], [z[b] * n for n in own.count[element[b] : element[b + 1]].tolist()])
        for letter in letters[first[b] : first[b + 1]]:
            bits.append(allowed(state))
            if not bits[-1] >> letter & 1:
                raise InputError(f"crystal {b} of the batch is no assignment in canonical order")
            state = step(state, letter)
    return torch.tensor(bits, dtype=torch.int64)


def forward(model: SpaceGroupModel, batch: Batch) -> Tensor:
    """Outputs [B, L, d] of `tokens`. The one before an orbit or a site predicts it."""
    out, _ = model.trunk(tokens(model, batch), attention_mask(batch))
    return out


def tokens(model: SpaceGroupModel, batch: Batch) -> Tensor:
    """[B, E + 1 + K + F, d]: the elements, the group, the orbits, the cell and all sites but the last."""
    parts = [prefix(model, batch)]
    n_sites = batch.site_number.shape[1]
    if n_sites:
        parts.append(
            model.cell(batch.group, batch.cell, batch.site_number[:, 0], batch.site_row[:, 0])[:, None]
        )
        here, after = slice(0, n_sites - 1), slice(1, n_sites)
        parts.append(
            model.site(
                batch.site_number[:, here],
                batch.site_row[:, here],
                batch.site_point[:, here],
                batch.site_number[:, after],
                batch.site_row[:, after],
            )
        )
    return torch.cat(parts, 1)


def prefix(model: SpaceGroupModel, batch: Batch) -> Tensor:
    """[B, E + 1 + K, d]: the tokens of the elements, the group and the orbits."""
    turn, left = batch.turn_number, batch.turn_left
    condition = model.condition(batch.group, batch.z, turn[:, 0], left[:, 0])
    orbits = model.orbit(batch.orbit_number, batch.orbit_row, turn[:, 1:], left[:, 1:])
    return torch.cat([model.elements(batch.number, batch.count), condition[:, None], orbits], 1)


def attention_mask(batch: Batch) -> Tensor:
    """bool [B, L, L]: elements see elements, everything else what is before it, nobody padding but itself."""
    one = torch.ones(len(batch), 1, dtype=torch.bool, device=batch.group.device)
    sites = batch.site_number > 0
    there = [batch.number > 0, one, batch.orbit_number > 0]
    if sites.shape[1]:
        there += [one, sites[:, :-1]]
    real = torch.cat(there, 1)
    n, n_elements = real.shape[1], batch.number.shape[1]
    before = torch.ones(n, n, dtype=torch.bool, device=real.device).tril()
    before[:n_elements, :n_elements] = True
    itself = torch.eye(n, dtype=torch.bool, device=real.device)
    return (before & real[:, None, :]) | itself
