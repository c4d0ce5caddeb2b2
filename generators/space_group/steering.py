"""A copy of the space-group model that has learned from the low crystals of a search.

A few steps of gradient descent on

    L(θ) = −Σ_k w_k ln p(crystal_k | composition; θ) + λ ‖θ − θ_prior‖²

from θ_prior on: what a search finds becomes likelier, and with it what the model takes for alike. So does
CrystalFormer-CSP (Cao, Ou & Wang, arXiv:2512.18251) by reinforcement; here by likelihood, as in expert iteration
(`generators.space_group.expert_iteration`).

Only the last layer of the trunk and what reads the outputs learn: what earlier layers know of chemistry was learned
from all known crystals, and a few crystals of one composition say nothing about it; and only one layer is run
backwards. Descent is plain with gradients no longer than `LONGEST`: steps that are scaled weight by
weight (Adam) would make whole steps of rounding errors, and workers would draw other crystals.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn

from csp.protocols import Low
from csp.target import Target
from generators.space_group.canonical import describe
from generators.space_group.loss import negative_log_likelihood
from generators.space_group.model import SpaceGroupModel
from generators.space_group.tokens import Batch, letters_allowed

__all__ = ["LONGEST", "PULL", "RATE", "STEPS", "as_batch", "moving", "taught"]

STEPS, RATE = 8, 0.02
LONGEST = 5.0  # of the gradient of the likelihood
PULL = 0.5  # λ: at ‖θ − θ_prior‖ = LONGEST / 2λ it outweighs any gradient
MAX_ATOMS, SYMPREC = 64, 0.05  # as of the crystals that the prior was trained on


def taught(prior: SpaceGroupModel, batch: Batch, weight: Tensor) -> SpaceGroupModel:
    """The model after a few steps towards the crystals of the batch; weight [B], of sum 1."""
    model = copy.deepcopy(prior).requires_grad_(False)
    parameters = moving(model)
    start = [p.clone() for p in parameters]
    for p in parameters:
        p.requires_grad_(True)
    for _ in range(STEPS):
        loss = (sum(negative_log_likelihood(model, batch).values()) * weight).sum()
        gradients = torch.autograd.grad(loss, parameters)
        length = torch.stack([g.norm() for g in gradients]).norm()
        shorter = (LONGEST / length).clamp(max=1.0)
        with torch.no_grad():
            for p, g, p0 in zip(parameters, gradients, start, strict=True):
                p -= RATE * (shorter * g + 2.0 * PULL * (p - p0))
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
