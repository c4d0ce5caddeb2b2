"""A copy of the space-group model that has learned from the low crystals of a search.

A few steps of gradient descent on −Σ_k w_k ln p(crystal_k | composition), beginning with the model as it was
trained, the prior: what a search finds becomes likelier, and with it what the model takes for alike.

Few and short steps keep it near the prior: the shift is no longer than `STEPS` · `RATE` · `LONGEST`, so that
no further term is needed for that. Descent is plain: steps scaled weight by weight, as Adam's, would make
whole steps of rounding errors, and two workers would draw different crystals.

Only the last layer of the trunk and what reads its outputs learn. What the layers before it know was learned
from all known crystals, and a few crystals of one composition add nothing to it; and their outputs are
computed once.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn

from csp.protocols import Low
from csp.target import Target
from generators.space_group.canonical import describe
from generators.space_group.loss import read_out
from generators.space_group.model import SpaceGroupModel
from generators.space_group.tokens import Batch, attention_mask, letters_allowed, tokens

__all__ = ["FACTORS", "LONGEST", "RATE", "STEPS", "as_batch", "moving", "taught"]

STEPS, RATE = 5, 0.024
LONGEST = 5.0  # of a gradient
GEOMETRY = 0.03  # weight of ln p of cell and coordinates: densities so sharp that they would decide all
FACTORS = {"group": 1.0, "units": 1.0, "letters": 1.0, "cell": GEOMETRY, "points": GEOMETRY}
MAX_ATOMS, SYMPREC = 64, 0.05  # as of the crystals that the prior was trained on


def taught(prior: SpaceGroupModel, batch: Batch, weight: Tensor) -> SpaceGroupModel:
    """The model after a few steps towards the crystals of the batch; weight [B], of sum 1."""
    model = copy.deepcopy(prior).requires_grad_(False)
    mask, x = attention_mask(batch), tokens(model, batch)
    for layer in model.layers[:-1]:
        x, _ = layer(x, mask, None)
    parameters = moving(model)
    for p in parameters:
        p.requires_grad_(True)
    for _ in range(STEPS):
        last, _ = model.layers[-1](x, mask, None)
        parts = read_out(model, batch, model.norm(last))
        loss = torch.stack([factor * (parts[name] * weight).sum() for name, factor in FACTORS.items()]).sum()
        gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)  # 0 where no site is free
        length = torch.stack([g.norm() for g in gradients]).norm()
        with torch.no_grad():
            for p, g in zip(parameters, gradients, strict=True):
                p.sub_(RATE * (LONGEST / length).clamp(max=1.0) * g)
    return model.requires_grad_(False)


def moving(model: SpaceGroupModel) -> list[nn.Parameter]:
    """What learns."""
    parts = (
        model.layers[-1],
        model.norm,
        model.to_group,
        model.to_units,
        model.units_context,
        model.query,
        model.key,
        model.to_cell,
        model.to_axis,
    )
    return [p for part in parts for p in part.parameters()]


def as_batch(target: Target, low: Low, volume_per_atom: float) -> tuple[Batch, Tensor] | None:
    """The low crystals as what the model learns from, B of them, and their weights [B], of sum 1; None if no
    crystal is left. Left out are those whose symmetry is not found, of another composition, and larger than
    what the model was trained on.

    Args:
        volume_per_atom: Å³, expected of the composition.
    """
    found, kept, _ = describe(low.crystals, SYMPREC)
    first, number, count = found.first_element.tolist(), found.number.tolist(), found.count.tolist()
    own = [
        (tuple(number[a:b]), tuple(count[a:b])) == (target.numbers, target.counts) for a, b in pairwise(first)
    ]
    good = torch.tensor(own, dtype=torch.bool) & (found.n_atoms <= MAX_ATOMS)
    if not bool(good.any()):
        return None
    found, weight = found[good], low.weight[torch.from_numpy(kept)[good]].float()
    expected = torch.full((len(found),), volume_per_atom, dtype=torch.float64)
    return Batch.of(found, letters_allowed(found), expected), weight / weight.sum()
