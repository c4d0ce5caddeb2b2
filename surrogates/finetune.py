"""Fine-tuning of a surrogate's weights to labels: one part of them, or all.

Adam on the mean absolute error of the energy per atom, with weights pulled back to where they started
(L2-SP: Li, Grandvalet, Davoine, ICML 2018; decoupled from the gradient as in AdamW) or with crystals of the
first training replayed, step by step, on their own head. The elements' reference energies are refitted
first. How long to train is found by early stopping on groups of labels held out in turn; their errors are
those of networks that have not learned them, and the last network learns all labels for as long.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from surrogates.batches import NeighbourCache, Source, Stream
from surrogates.data import Labelled
from surrogates.losses import element_references, energy_loss
from surrogates.regression import folds
from surrogates.transformer import CrystalTransformer

__all__ = ["FROZEN", "FULL", "FineTuned", "FineTuning", "Task", "fine_tune"]


@dataclass(frozen=True, slots=True)
class FineTuning:
    """How a network is tuned; saved with what it made.

    head_lr   learning rate of the last layers (readout and energy)
    trunk_lr  of all others; 0 freezes them
    pull      of the distance to the start, the share undone in a step is lr · pull; 0 with replay
    batch     labels in a step, and replayed crystals beside them
    epochs    at most
    patience  epochs without a smaller held-out error before training stops
    ema       decay per step of the averaged weights, which are the ones kept; 0: no average
    folds     in how many parts the labels are held out in turn
    squared   the mean squared error instead of the absolute one
    """

    head_lr: float = 1e-3
    trunk_lr: float = 2e-4
    pull: float = 10.0
    batch: int = 16
    epochs: int = 40
    patience: int = 8
    clip: float = 1.0
    ema: float = 0.98
    folds: int = 3
    squared: bool = False


FULL = FineTuning()
FROZEN = replace(FULL, trunk_lr=0.0)


@dataclass(frozen=True, slots=True, eq=False)
class FineTuned:
    """network   with the tuned head as its only one
    left_out  float64 [N]  predicted minus label, eV/atom, by networks that had not learned the label
    epochs    that the network was trained for
    """

    network: CrystalTransformer
    left_out: Tensor
    epochs: int


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

    groups  [N]  labels of one group are held out together
    replay  crystals of the first training, whose head keeps learning from them
    """
    device = network.reference.device
    kinds = network.architecture.kinds
    start = network.with_heads((*range(len(kinds)), column), (*kinds, "tuned"))
    task = Task(start, labelled.to(device), settings, replay, seed)
    left_out = torch.zeros(len(labelled), dtype=torch.float64)
    epochs = []
    for held in folds(groups, settings.folds, seed):
        rest = np.setdiff1d(np.arange(len(labelled)), held)
        tuned, epoch = task.train(torch.from_numpy(rest), torch.from_numpy(held), settings.epochs)
        left_out[held] = task.errors(tuned, torch.from_numpy(held)).cpu()
        epochs.append(epoch)
    enough = round(float(np.mean(epochs))) if epochs else settings.epochs
    tuned, _ = task.train(torch.arange(len(labelled)), None, enough)
    return FineTuned(tuned.with_heads((len(kinds),), ("tuned",)), left_out, enough)


class Task:
    """Labels with their neighbours, and how to learn them."""

    def __init__(
        self,
        start: CrystalTransformer,
        labelled: Labelled,
        settings: FineTuning,
        replay: Source | None,
        seed: int,
    ) -> None:
        self.start, self.labelled, self.settings = start, labelled, settings
        self.replay, self.seed = replay, seed
        self.cache = NeighbourCache(labelled.crystals, start.architecture.cutoff)
        self.n_atoms = labelled.crystals.n_atoms

    def train(self, rows: Tensor, held: Tensor | None, epochs: int) -> tuple[CrystalTransformer, int]:
        """The network that has learned `rows`, and for how many epochs: where the error of `held` was
        smallest, or to the end without."""
        model = copy.deepcopy(self.start)
        self._refer(model, rows)
        average = copy.deepcopy(model).requires_grad_(False)
        parameters, origin, optimiser = self._optimiser(model)
        stream = self._stream()
        rng = np.random.default_rng([self.seed, len(rows)])
        best, kept, at, step = float("inf"), average, 0, 0
        for epoch in range(1, epochs + 1):
            for chosen in torch.from_numpy(rng.permutation(rows.numpy())).split(self.settings.batch):
                self._step(model, optimiser, parameters, origin, chosen, stream)
                decay = min(self.settings.ema, step / (step + 10))
                for averaged, current in zip(average.parameters(), model.parameters(), strict=True):
                    averaged.lerp_(current.detach(), 1.0 - decay)
                step += 1
            if held is None:
                continue
            error = float(self.errors(average, held).abs().mean())
            if error < best:
                best, at, kept = error, epoch, copy.deepcopy(average)
            elif epoch - at >= self.settings.patience:
                break
        return (average, epochs) if held is None else (kept, at)

    @torch.no_grad()
    def errors(self, model: CrystalTransformer, rows: Tensor) -> Tensor:
        """float64 [len(rows)]: predicted minus label, eV/atom."""
        parts = [self._error(model, part) for part in rows.split(4 * self.settings.batch)]
        return torch.cat(parts)

    def _error(self, model: CrystalTransformer, rows: Tensor) -> Tensor:
        rows = rows.to(self.labelled.energy.device)
        atoms = self.cache.environments(rows).to(rows.device, self.start.radii.dtype)
        predicted = model(atoms)[:, -1]
        return (predicted - self.labelled.energy[rows]) / self.n_atoms[rows]

    def _refer(self, model: CrystalTransformer, rows: Tensor) -> None:
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
        error = self._error(model, chosen)
        loss = error.square().mean() if self.settings.squared else error.abs().mean()
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
