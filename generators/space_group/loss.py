"""How likely the model finds crystals, part by part."""

from __future__ import annotations

import torch
from torch import Tensor

from generators.space_group.model import FREE_CELL, MAX_Z, SpaceGroupModel
from generators.space_group.tokens import Batch, forward

__all__ = ["PARTS", "negative_log_likelihood", "read_out"]

PARTS = ("group", "units", "letters", "cell", "points")


def negative_log_likelihood(model: SpaceGroupModel, batch: Batch) -> dict[str, Tensor]:
    """−ln p [B] of each part: the space group given the composition, Z given both, the letters, the cell and
    the free coordinates, each given all before it."""
    return read_out(model, batch, forward(model, batch))


def read_out(model: SpaceGroupModel, batch: Batch, out: Tensor) -> dict[str, Tensor]:
    """The same from the outputs of `forward` [B, L, d]."""
    n_elements = batch.number.shape[1]
    elements, rest = out[:, :n_elements], out[:, n_elements:]
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
