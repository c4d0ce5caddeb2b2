"""How likely the model finds crystals, part by part."""

from __future__ import annotations

import torch
from torch import Tensor

from generators.space_group.model import FREE_CELL, MAX_Z, SpaceGroupModel
from generators.space_group.tokens import Batch

__all__ = ["PARTS", "forward", "negative_log_likelihood", "prefix", "who_sees_whom"]

PARTS = ("group", "units", "letters", "cell", "points")


def negative_log_likelihood(model: SpaceGroupModel, batch: Batch) -> dict[str, Tensor]:
    """−ln p [B] of each part: the space group given the composition, Z given both, the letters, the cell and
    the free coordinates, each given all before it."""
    elements, rest = forward(model, batch)
    log_group, whole = model.groups(elements, batch.count)
    rows = torch.arange(len(batch), device=batch.group.device)
    log_units = model.formula_units(whole, batch.group)
    n_orbits, n_sites = batch.orbit_number.shape[1], batch.site_number.shape[1]
    there = batch.orbit_number > 0
    allowed = batch.allowed | ~there[..., None]
    groups = batch.group[:, None].expand(-1, n_orbits)
    letters = model.letters(rest[:, :n_orbits], groups, allowed, model.keys())
    letter = letters.gather(2, batch.letter[..., None])[..., 0]
    cell = model.cells(rest[rows, there.sum(1)])
    points = rest.new_zeros(len(batch))
    if n_sites:
        h = rest[:, n_orbits + 1 : n_orbits + 1 + n_sites]
        for axis in range(3):
            density = model.axis(axis, h, batch.site_point, batch.site_free)
            each = density.log_prob(batch.site_point[..., axis])
            points = points - (each * batch.site_free[..., axis]).sum(1)
    return {
        "group": -log_group[rows, batch.group],
        "units": -log_units[rows, batch.z.clamp(max=MAX_Z) - 1],
        "letters": -(letter * there).sum(1),
        "cell": -cell.log_prob(batch.cell, FREE_CELL.to(batch.cell.device)[batch.group]),
        "points": points,
    }


def forward(model: SpaceGroupModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Outputs of the element tokens [B, E, d], and of the others [B, 1 + K + F, d]: the token of the group,
    the orbits, the cell and all sites but the last. One before an orbit or a site tells about it."""
    tokens = [prefix(model, batch)]
    n_sites = batch.site_number.shape[1]
    if n_sites:
        tokens.append(
            model.cell(batch.group, batch.cell, batch.site_number[:, 0], batch.site_row[:, 0])[:, None]
        )
        here, after = slice(0, n_sites - 1), slice(1, n_sites)
        tokens.append(
            model.site(
                batch.site_number[:, here],
                batch.site_row[:, here],
                batch.site_point[:, here],
                batch.site_number[:, after],
                batch.site_row[:, after],
            )
        )
    n_elements = batch.number.shape[1]
    out, _ = model.trunk(torch.cat(tokens, 1), who_sees_whom(batch))
    return out[:, :n_elements], out[:, n_elements:]


def prefix(model: SpaceGroupModel, batch: Batch) -> Tensor:
    """[B, E + 1 + K, d]: the tokens of the elements, the group and the orbits."""
    turn, left = batch.turn_number, batch.turn_left
    condition = model.condition(batch.group, batch.z, turn[:, 0], left[:, 0])
    orbits = model.orbit(batch.orbit_number, batch.orbit_row, turn[:, 1:], left[:, 1:])
    return torch.cat([model.elements(batch.number, batch.count), condition[:, None], orbits], 1)


def who_sees_whom(batch: Batch) -> Tensor:
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
