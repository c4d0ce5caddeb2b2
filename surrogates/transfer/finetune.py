"""Fine-tuning of a surrogate's weights to labels: one part of them, or all.

Adam on the mean absolute error of the energy per atom, for a number of steps that the labels' number decides
while the learning rate falls to zero; if asked, with weights pulled back to where they started (L2-SP: Li,
Grandvalet, Davoine, ICML 2018; decoupled from the gradient as in AdamW), or with crystals of the first
training replayed, step by step, on their own head. The elements' reference energies are refitted first. There
is no early stopping: a few labels held out do not show when to stop. Labels are held out in turn to find the
error of networks that have not learned them; the last network learns all.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from csp.training.schedule import learning_rate
from surrogates.training.batches import NeighbourCache, Source, Stream
from surrogates.training.labelled import Labelled
from surrogates.training.losses import element_references, energy_loss
from surrogates.transfer.regression import folds
from surrogates.transformer.network import CrystalTransformer

__all__ = ["FROZEN", "FULL", "FineTuned", "FineTuning", "Task", "fine_tune"]


@dataclass(frozen=True, slots=True)
class FineTuning:
    """How a network is tuned; saved with what it made.

    Attributes:
        head_lr: Peak learning rate of the last layers (readout and energy).
        trunk_lr: Of all others; 0 freezes them.
        pull: Of the distance to the start, the share undone in a step is lr · pull; 0 with replay.
        batch: Labels in a step, and replayed crystals beside them.
        steps: At least, and `epochs` over the labels at least.
        folds: In how many parts the labels are held out in turn.
    """

    head_lr: float = 1e-3
    trunk_lr: float = 1e-3
    pull: float = 0.0
    batch: int = 16
    steps: int = 800
    epochs: int = 64
    clip: float = 1.0
    folds: int = 4

    def steps_for(self, n: int) -> int:
        """Steps in which n labels are learned."""
        return max(self.steps, math.ceil(self.epochs * n / self.batch))


FULL = FineTuning()
FROZEN = replace(FULL, trunk_lr=0.0)
WARMUP = 10  # steps


@dataclass(frozen=True, slots=True, eq=False)
class FineTuned:
    """What fine-tuning gave.

    Attributes:
        network: With the tuned head as its only one.
        left_out: float64 [N], predicted minus label, eV/atom, by networks that had not learned the label.
    """

    network: CrystalTransformer
    left_out: Tensor


def fine_tune(
    network: CrystalTransformer,
    column: int,
    labelled: Labelled,
    groups: NDArray[np.int64],
    settings: FineTuning = FULL,
    *,
    replay: Source | None = None,
    seed: int = 0,
) -> FineTuned:
    """Tune the head `column` of a network to labels, of one composition or several.

    Args:
        groups: [N], labels of one group are held out together.
        replay: Crystals of the first training, whose head keeps learning from them.
    """
    task = Task(network, column, labelled, settings, replay=replay, seed=seed)
    left_out = torch.zeros(len(labelled), dtype=torch.float64)
    for held in folds(groups, settings.folds, seed):
        rest = np.setdiff1d(np.arange(len(labelled)), held)
        tuned = task.train(torch.from_numpy(rest))
        left_out[held] = task.errors(tuned, torch.from_numpy(held)).cpu()
    tuned = task.train(torch.arange(len(labelled)))
    return FineTuned(task.alone(tuned), left_out)


class Task:
    """Labels with their neighbours, and how the head `column` of a network learns them.

    Attributes:
        start: The network with a copy of that head as its last, "tuned", which is the one that learns.
    """

    def __init__(
        self,
        network: CrystalTransformer,
        column: int,
        labelled: Labelled,
        settings: FineTuning,
        *,
        replay: Source | None = None,
        seed: int = 0,
    ) -> None:
        kinds = network.architecture.kinds
        self.start = network.with_heads((*range(len(kinds)), column), (*kinds, "tuned"))
        self.labelled = labelled.to(network.reference.device)
        self.settings, self.replay, self.seed = settings, replay, seed
        self.cache = NeighbourCache(self.labelled.crystals, network.architecture.cutoff)
        self.n_atoms = self.labelled.crystals.n_atoms

    def alone(self, model: CrystalTransformer) -> CrystalTransformer:
        """The network with the tuned head as its only one."""
        return model.with_heads((len(self.start.architecture.kinds) - 1,), ("tuned",))

    def train(self, rows: Tensor) -> CrystalTransformer:
        """The network that has learned `rows`."""
        model = copy.deepcopy(self.start)
        self.refer(model, rows)
        parameters, origin, optimiser = self._optimiser(model)
        stream = self._stream()
        peaks = [group["lr"] for group in optimiser.param_groups]
        steps = self.settings.steps_for(len(rows))
        for step, chosen in zip(range(steps), self.batches(rows), strict=False):
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = learning_rate(step, steps=steps, peak=peak, warmup=WARMUP, decay=1.0)
            self._step(model, optimiser, parameters, origin, chosen, stream)
        return model.requires_grad_(False)

    def batches(self, rows: Tensor) -> Iterator[Tensor]:
        """Without end: all rows once in each epoch."""
        rng = np.random.default_rng([self.seed, len(rows)])
        while True:
            yield from torch.from_numpy(rng.permutation(rows.numpy())).split(self.settings.batch)

    @torch.no_grad()
    def errors(self, model: CrystalTransformer, rows: Tensor) -> Tensor:
        """float64 [len(rows)]: predicted minus label, eV/atom."""
        parts = [self.error(model, part) for part in rows.split(4 * self.settings.batch)]
        return torch.cat(parts)

    def error(self, model: CrystalTransformer, rows: Tensor) -> Tensor:
        """`errors` of a batch, differentiable."""
        rows = rows.to(self.labelled.energy.device)
        atoms = self.cache.environments(rows).to(rows.device, self.start.radii.dtype)
        predicted = model(atoms)[:, -1]
        return (predicted - self.labelled.energy[rows]) / self.n_atoms[rows]

    def refer(self, model: CrystalTransformer, rows: Tensor) -> None:
        """Refit the elements' reference energies to what is left of these labels."""
        rest = -self.errors(model, rows).cpu() * self.n_atoms.cpu()[rows]
        crystals = self.labelled.crystals.to(torch.device("cpu"))[rows]
        model.reference[-1] += element_references(
            Labelled(crystals, [""] * len(crystals), rest), ridge=1e-6
        ).to(model.reference)

    def _optimiser(
        self, model: CrystalTransformer
    ) -> tuple[list[nn.Parameter], list[Tensor], torch.optim.Optimizer]:
        """The parameters that are trained, where they start, and Adam over them."""
        last = {id(p) for part in (model.readout, model.energy) for p in part.parameters()}
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in model.parameters():
            rate = self.settings.head_lr if id(parameter) in last else self.settings.trunk_lr
            parameter.requires_grad_(rate > 0.0)
            if rate > 0.0:
                groups.setdefault(rate, []).append(parameter)
        parameters = [p for members in groups.values() for p in members]
        optimiser = torch.optim.Adam([{"params": p, "lr": rate} for rate, p in groups.items()])
        return parameters, [p.detach().clone() for p in parameters], optimiser

    def _stream(self) -> Stream | None:
        if self.replay is None:
            return None
        largest = int(self.replay.labelled.crystals.n_atoms.max())
        return Stream(self.replay, self.settings.batch, self.seed, largest)

    def _step(
        self,
        model: CrystalTransformer,
        optimiser: torch.optim.Optimizer,
        parameters: list[nn.Parameter],
        origin: list[Tensor],
        chosen: Tensor,
        stream: Stream | None,
    ) -> None:
        loss = self.error(model, chosen).abs().mean()
        if stream is not None:
            loss = loss + energy_loss(model, stream.source, next(stream)).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, self.settings.clip)
        optimiser.step()
        if stream is None and self.settings.pull:
            start = iter(origin)
            with torch.no_grad():
                for group in optimiser.param_groups:
                    for parameter in group["params"]:
                        parameter.lerp_(next(start), group["lr"] * self.settings.pull)
