"""Training of the space-group model: resumable to the step, on one CPU core or a GPU.

Imports torch and numpy; the data are tables that `generators.space_group.dataset` made.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from csp.errors import InputError
from csp.library.volume import VolumePrior
from csp.report.record import versions
from csp.training import checkpoints
from csp.training.cards import Card, export, load_weights, seen_compositions
from csp.training.schedule import learning_rate
from csp.training.splits import FOLDS, HELD_OUT, VALIDATION, fold, hashed
from generators.space_group.dataset import Table, origins, read_table
from generators.space_group.loss import PARTS, negative_log_likelihood
from generators.space_group.model import Architecture, SpaceGroupModel
from generators.space_group.tokens import Batch, batches, expected_volumes, lengths

__all__ = ["Recipe", "Trainable", "train", "train_on_tables", "validate"]

VALIDATED = 2000  # crystals
TOP = (1, 10, 30)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the course of a training beside its data; saved with what it made.

    steps      optimiser steps in all
    tokens     of a batch, padding included; about 20 make a crystal
    lr         peak learning rate: linear warm-up, then a cosine to zero over the last `decay` of the steps
    ema        decay per step of the averaged weights, which are the ones shipped
    dropout    see `SpaceGroupModel`
    max_atoms  in the primitive cell; larger crystals are left out
    max_orbits the same for orbits
    crowd      a composition with n crystals counts as n^(1 − crowd)
    """

    steps: int = 12_000
    tokens: int = 8192
    lr: float = 1.5e-3
    warmup: int = 500
    decay: float = 0.7
    weight_decay: float = 0.05
    clip: float = 1.0
    ema: float = 0.999
    dropout: float = 0.1
    max_atoms: int = 64
    max_orbits: int = 32
    crowd: float = 0.5
    seed: int = 0
    architecture: Architecture = field(default_factory=Architecture)

    def learning_rate(self, step: int) -> float:
        return learning_rate(step, steps=self.steps, peak=self.lr, warmup=self.warmup, decay=self.decay)


@dataclass(frozen=True, slots=True, eq=False)
class Trainable:
    """A table with what training needs to know of each crystal: weight [B], and Å³ per atom expected [B]."""

    table: Table
    weight: Tensor
    expected: Tensor

    @classmethod
    def of(cls, table: Table, crowd: float) -> Trainable:
        _, kind, amount = np.unique(np.array(table.compositions()), return_inverse=True, return_counts=True)
        weight = torch.from_numpy(amount[kind].astype(np.float64) ** -crowd).float()
        return cls(table, weight / weight.mean(), expected_volumes(table.descriptions, VolumePrior.load()))

    def __len__(self) -> int:
        return len(self.table)

    def batch(self, chosen: Tensor) -> tuple[Batch, Tensor]:
        """The chosen crystals, and their weights."""
        return Batch.of(self.table[chosen], self.expected[chosen]), self.weight[chosen]


def train_on_tables(
    folders: Sequence[Path],
    out: Path,
    *,
    exclude: set[str],
    exclude_ids: set[str],
    recipe: Recipe,
    device: torch.device,
    start_from: Path | None = None,
    stop_after_minutes: float = math.inf,
) -> Card:
    """Train on tables of descriptions, or go on, and export what there is to `out`.

    exclude: compositions, as `csp.training.splits.composition_name` writes them, and exclude_ids: crystals,
    of which nothing is used. Nor is anything of the held-out fold; the validation fold is only validated on.
    start_from: the weights file of a model to begin with, which may have seen more.
    """
    table = read_table(*folders)
    names = np.array(table.compositions())
    folds = np.array([fold(name) for name in names])
    small = (table.descriptions.n_atoms <= recipe.max_atoms) & (
        table.descriptions.n_orbits <= recipe.max_orbits
    )
    used = small.numpy() & ~np.isin(names, list(exclude)) & ~np.isin(table.ids, list(exclude_ids))
    training = Trainable.of(
        table[torch.from_numpy(used & (folds != HELD_OUT) & (folds != VALIDATION))], recipe.crowd
    )
    rows = np.flatnonzero(used & (folds == VALIDATION))[:VALIDATED]
    validation = Trainable.of(table[torch.from_numpy(rows)], recipe.crowd)
    model, step = train(
        recipe,
        training,
        validation,
        out,
        device=device,
        start_from=start_from,
        stop_after_minutes=stop_after_minutes,
    )
    seen = {hashed(name) for name in training.table.compositions()}
    told = [f"{len(training)} crystals described from {json.dumps([origins(folder) for folder in folders])}"]
    if start_from is not None:
        seen |= seen_compositions(start_from)
        told.append(f"begun with the weights {load_weights(start_from)[1].sha256[:12]}")
    shipped = model.half()
    metrics = validate(copy.deepcopy(shipped).float(), validation, recipe)  # of the rounded weights
    return export(
        shipped,
        out / "space_group.safetensors",
        property="space group, Wyckoff positions, cell and coordinates from the composition",
        seen=seen,
        elements=set(training.table.descriptions.number.unique().tolist()),
        recipe=asdict(recipe) | {"done": step},
        metrics={name: round(value, 4) for name, value in metrics.items()},
        data=told,
        split=f"fold {HELD_OUT} of {FOLDS} held out, fold {VALIDATION} for validation (csp.training.splits)",
        licence="Weights Apache-2.0; data of the Materials Project, CC BY 4.0",
        code_version=versions().get("csp-engine", ""),
    )


def train(
    recipe: Recipe,
    data: Trainable,
    validation: Trainable,
    out: Path,
    *,
    device: torch.device,
    start_from: Path | None = None,
    minutes_between_checkpoints: float = 5.0,
    steps_between_validations: int = 2000,
    stop_after_minutes: float = math.inf,
) -> tuple[SpaceGroupModel, int]:
    """Train to the end of the recipe, or until told to stop; returns the averaged model and the steps done.

    Continues from the newest checkpoint in `out` as if never interrupted: the batches are a function of the
    recipe, the data and the step.
    """
    model = _begun(recipe, start_from).to(device)
    average = copy.deepcopy(model).requires_grad_(False).eval()
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=recipe.weight_decay, fused=True
    )
    state = _State(model, average, optimiser)
    training = {
        "recipe": asdict(recipe),
        "crystals": hashed("\n".join(data.table.ids.tolist())),
        "begun": load_weights(start_from)[1].sha256 if start_from else "",
    }
    _restore(out, state, training)
    out.mkdir(parents=True, exist_ok=True)
    log = _Log(out / "log.jsonl")
    started = saved = time.monotonic()
    rows = _stream(recipe, data, state)
    over = state.step >= recipe.steps
    while not over:
        norm, parts = _step(recipe, state, *data.batch(next(rows)), device)
        log.add(norm, parts)
        now = time.monotonic()
        done = state.step == recipe.steps
        over = done or now - started > 60.0 * stop_after_minutes
        if len(validation) and (state.step % steps_between_validations == 0 or done):
            log.validated(validate(average, validation, recipe))
        if state.step % 100 == 0 or over:
            log.write(state.step, recipe.learning_rate(state.step), now - started)
        if over or now - saved > 60.0 * minutes_between_checkpoints:
            _save(out, state, training)
            saved = now
    return average, state.step


def _begun(recipe: Recipe, start_from: Path | None) -> SpaceGroupModel:
    """A new model, or one with the weights of a file. Raises InputError for those of another architecture."""
    torch.manual_seed(recipe.seed)
    model = SpaceGroupModel(recipe.architecture, recipe.dropout)
    if start_from is not None:
        weights, card = load_weights(start_from)
        if card.architecture != asdict(recipe.architecture):
            raise InputError(f"{start_from} is of another architecture: {card.architecture}.")
        model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return model


def _stream(recipe: Recipe, data: Trainable, state: _State) -> Iterator[Tensor]:
    """Batches from where the state stands on; the state is kept at what has been handed out."""
    length = lengths(data.table.descriptions)
    while True:
        for place, rows in enumerate(batches(length, recipe.tokens, recipe.seed, state.epoch)):
            if place == state.place:
                state.place += 1
                yield rows
        state.epoch, state.place = state.epoch + 1, 0


def _step(
    recipe: Recipe, state: _State, batch: Batch, weight: Tensor, device: torch.device
) -> tuple[float, dict[str, float]]:
    """One step of the optimiser; the norm of the gradient and the mean of each part of the loss."""
    torch.manual_seed((recipe.seed << 32) + state.step)  # what is dropped out is the same after a restart
    parts = negative_log_likelihood(state.model, batch.to(device))
    weight = weight.to(device)
    loss = (sum(parts.values()) * weight).mean()
    for group in state.optimiser.param_groups:
        group["lr"] = recipe.learning_rate(state.step)
    state.optimiser.zero_grad()
    loss.backward()
    norm = float(clip_grad_norm_(state.model.parameters(), recipe.clip))
    if math.isfinite(norm):
        state.optimiser.step()
    state.step += 1
    state.follow(min(recipe.ema, state.step / (state.step + 10.0)))
    return norm, {name: float(part.detach().mean()) for name, part in parts.items()}


@torch.no_grad()
def validate(model: SpaceGroupModel, data: Trainable, recipe: Recipe) -> dict[str, float]:
    """Weighted means of each part of −ln p; shares with the space group among the 1, 10, 30 likeliest."""
    device = next(model.parameters()).device
    sums: dict[str, float] = {}
    for rows in batches(lengths(data.table.descriptions), recipe.tokens, 0, 0):
        batch, weight = data.batch(rows)
        batch, weight = batch.to(device), weight.to(device)
        parts = negative_log_likelihood(model, batch)
        log_group, _ = model.composition(batch.number, batch.count)
        own = log_group.gather(1, batch.group[:, None])
        place = (log_group > own).sum(1)
        parts |= {f"top_{k}": (place < k).float() for k in TOP}
        for name, part in parts.items():
            sums[name] = sums.get(name, 0.0) + float((part * weight).sum())
    return {name: value / float(data.weight.sum()) for name, value in sums.items()}


@dataclass(slots=True)
class _State(checkpoints.Weights):
    """All that changes while a training runs; random numbers and batches are made from the step alone.

    epoch     of the data, and `place`: batches of it that are done
    """

    model: SpaceGroupModel
    average: SpaceGroupModel
    step: int = 0
    epoch: int = 0
    place: int = 0


def _save(out: Path, state: _State, training: dict[str, Any]) -> None:
    """training: what must be equal for it to go on: recipe, data."""
    about = {"training": training, "epoch": state.epoch, "place": state.place}
    checkpoints.save(out, state, state.step, about)


def _restore(out: Path, state: _State, training: dict[str, Any]) -> None:
    """Put the newest checkpoint, if there is one, into the state. InputError if it is of another training."""
    about = checkpoints.read(out)
    if about is None:
        return
    if about["training"] != json.loads(json.dumps(training)):
        raise InputError(f"The training in {out} has another recipe or other data; choose another folder.")
    checkpoints.restore(out, state)
    state.step, state.epoch, state.place = (int(about[k]) for k in ("step", "epoch", "place"))


class _Log:
    """Running means: a line of JSON per hundred steps on disk, the same line for people on stdout."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: list[dict[str, float]] = []
        self._skipped = 0  # steps whose gradient was not finite
        self._validation: dict[str, float] = {}

    def add(self, norm: float, parts: dict[str, float]) -> None:
        self._skipped += not math.isfinite(norm)
        self._parts.append(parts)

    def validated(self, values: dict[str, float]) -> None:
        self._validation = {f"val_{name}": value for name, value in values.items()}

    def write(self, step: int, lr: float, seconds: float) -> None:
        row: dict[str, Any] = {"step": step, "lr": lr, "seconds": round(seconds, 1)}
        means = {name: sum(p[name] for p in self._parts) / len(self._parts) for name in PARTS}
        row |= {name: round(value, 4) for name, value in (means | self._validation).items()}
        if self._skipped:
            row["skipped_not_finite"] = self._skipped
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(" ".join(f"{name}={value:.5g}" for name, value in row.items()), flush=True)
        self._parts, self._validation = [], {}
