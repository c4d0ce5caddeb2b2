"""Fine-tuning as ShotgunCSP does it: Adam on the squared error, clipped, stopped early; its grid searched.

Chang et al., npj Comput. Mater. 10, 298 (2024): all weights, at most 400 epochs, until 20 in a row have not
lowered the error of labels held out; learning rate and clip from a grid. Here it tunes our network.
"""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from surrogates.training.labelled import Labelled
from surrogates.transfer.finetune import FineTuning, Task
from surrogates.transfer.regression import folds
from surrogates.transformer.network import CrystalTransformer

__all__ = ["GRID", "PublishedRecipe", "published"]

EPOCHS = 400
PATIENCE = 20
HELD_OUT = 5  # one part of so many


@dataclass(frozen=True, slots=True)
class PublishedRecipe:
    """The settings of a published fine-tuning.

    Attributes:
        lr: Learning rate.
        clip: Of the gradient's norm.
    """

    lr: float
    clip: float


GRID = [PublishedRecipe(lr, clip) for lr, clip in itertools.product((1e-3, 2e-3, 4e-3), (0.002, 0.006, 0.01))]


def published(
    network: CrystalTransformer,
    column: int,
    labelled: Labelled,
    groups: NDArray[np.int64],
    recipe: PublishedRecipe,
    seed: int,
) -> CrystalTransformer:
    """The network whose only head, column `column` of the given one, has learned the labels.

    Args:
        groups: int64 [N], labels of one group are held out together.
    """
    task = Task(network, column, labelled, FineTuning(), seed=seed)
    held = torch.from_numpy(folds(groups, HELD_OUT, seed)[0])
    rows = torch.from_numpy(np.setdiff1d(np.arange(len(labelled)), held.numpy()))
    model = copy.deepcopy(task.start).requires_grad_(True)
    task.refer(model, rows)
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    best, kept, since = float("inf"), model, 0
    batches = task.batches(rows)
    in_epoch = math.ceil(len(rows) / task.settings.batch)
    for _ in range(EPOCHS):
        for chosen in itertools.islice(batches, in_epoch):
            optimiser.zero_grad()
            task.error(model, chosen).square().mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimiser.step()
        error = float(task.errors(model, held).square().mean())
        since += 1
        if error < best:
            best, kept, since = error, copy.deepcopy(model), 0
        elif since == PATIENCE:
            break
    return task.alone(kept)
