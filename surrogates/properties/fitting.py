"""Training of an encoder with its last layer on values of one property."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from csp.training.schedule import learning_rate

__all__ = ["Fitted", "PropertyRecipe", "fit"]


@dataclass(frozen=True, slots=True)
class PropertyRecipe:
    """How a property model is trained; saved with what it made.

    Attributes:
        epochs: Over the values, but `most` steps at most and `least` at least.
    """

    epochs: int = 64
    least: int = 400
    most: int = 3000
    batch: int = 256
    lr: float = 2e-3
    weight_decay: float = 0.05
    seed: int = 0

    def steps(self, n: int) -> int:
        """Steps in which n values are learned."""
        return max(self.least, min(self.most, math.ceil(self.epochs * n / self.batch)))


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """An encoder in evaluation mode and its last layer: y = h·weight + bias, h its members side by side.

    Attributes:
        weight: float64 [K·h].
    """

    encoder: Any
    weight: Tensor
    bias: float


def fit(
    encoder: Any,
    x: Tensor,
    y: Tensor,
    recipe: PropertyRecipe,
    *,
    last: Tensor | None = None,
    weight: Tensor | None = None,
    decay: float = 0.5,
) -> Fitted:
    """Train with AdamW on the mean absolute error of each member, which differ by their starts and dropout;
    with a last layer to begin with on that of their mean.

    Args:
        x: float [N, …] as the encoder reads it.
        y: float [N], transformed.
        last: float [K·h + 1], a last layer to begin with; None: a new one.
        weight: float [N], of each value; None: 1.
        decay: Last part of the steps, in which the learning rate falls to zero.
    """
    torch.manual_seed(recipe.seed)
    members, width = encoder.members, encoder.width
    centre, spread = float(y.mean()), max(float(y.std(correction=0)), 1e-9)
    target = ((y - centre) / spread).float()
    if last is None:
        head = nn.Parameter(torch.randn(members, width) * 0.1 / math.sqrt(width))
        bias = nn.Parameter(torch.zeros(members, 1))
    else:
        head = nn.Parameter(last[:-1].float().view(members, width) * members / spread)
        bias = nn.Parameter(((last[-1].float() - centre) / spread).expand(members, 1).clone())
    parameters = [*encoder.parameters(), head, bias]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
    steps = recipe.steps(len(x))
    order = torch.randperm(len(x))
    batch, at = min(recipe.batch, len(x)), 0
    encoder.train()
    for step in range(steps):
        if at + batch > len(x):
            order, at = torch.randperm(len(x)), 0
        rows, at = order[at : at + batch], at + batch
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps=steps, peak=recipe.lr, warmup=50, decay=decay)
        predicted = torch.einsum("kbh,kh->kb", encoder(x[rows]), head) + bias
        if last is not None:  # which is of all members at once
            predicted = predicted.mean(0, keepdim=True)
        error = (predicted - target[rows]).abs()
        if weight is not None:
            error = error * weight[rows]
        optimizer.zero_grad()
        (error.mean() * members).backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
    encoder.eval().requires_grad_(False)
    with torch.no_grad():
        return Fitted(
            encoder,
            (head.double() * spread / members).flatten(),
            float(bias.double().mean() * spread + centre),
        )
