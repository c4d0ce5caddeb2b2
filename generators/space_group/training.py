"""Training of the space-group model: resumable to the step, on one CPU core or a GPU.

Imports torch and numpy; the data are tables that `generators.space_group.dataset` made.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from csp.errors import InputError
from csp.library.volume import VolumePrior
from csp.training import checkpoints
from csp.training.cards import ModelCard, code_version, load_weights, seen_compositions, write_model
from csp.training.loop import Row, TrainingRecipe, run
from csp.training.splits import FOLDS, HELD_OUT, VALIDATION, fold, hashed
from generators.space_group.dataset import Table, origins, read_table
from generators.space_group.loss import negative_log_likelihood
from generators.space_group.model import SpaceGroupArchitecture, SpaceGroupModel
from generators.space_group.tokens import Batch, expected_volumes, lengths

__all__ = ["SpaceGroupRecipe", "Trainable", "train_on_tables", "train_space_group_model", "validate"]

VALIDATED = 2000  # crystals
TOP = (1, 10, 30)
METASTABLE = 0.05  # eV/atom above the hull at which a crystal counts 1/e
SORTED_AT_ONCE = 64  # batches among which crystals of like length are gathered


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceGroupRecipe(TrainingRecipe):
    """Everything that decides the course of a training beside its data; saved with what it made.

    Attributes:
        tokens: Of a batch, padding included; about 20 make a crystal.
        clip: Largest norm of a gradient.
        dropout: See `SpaceGroupModel`.
        max_atoms: In the primitive cell; larger crystals are left out.
        max_orbits: The same for orbits.
        crowd: A composition with n crystals counts as n^(1 − crowd).
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
    architecture: SpaceGroupArchitecture = field(default_factory=SpaceGroupArchitecture)


@dataclass(frozen=True, slots=True, eq=False)
class Trainable:
    """A table with what training needs to know of each crystal.

    Attributes:
        weight: float [B].
        expected: float64 [B], Å³ per atom.
    """

    table: Table
    weight: Tensor
    expected: Tensor

    @classmethod
    def of(cls, table: Table, crowd: float, above_hull: Mapping[str, float] | None = None) -> Trainable:
        """See `SpaceGroupRecipe.crowd`; with distances from the hull (eV/atom, by id), a crystal counts by
        exp(−ΔE / 50 meV), too. One of which the distance is not known counts as one 50 meV/atom above."""
        _, kind, amount = np.unique(np.array(table.compositions()), return_inverse=True, return_counts=True)
        weight = torch.from_numpy(amount[kind].astype(np.float64) ** -crowd).float()
        if above_hull is not None:
            above = torch.tensor([above_hull.get(name, METASTABLE) for name in table.ids.tolist()])
            weight = weight * (-above.clamp(min=0.0) / METASTABLE).exp()
        return cls(table, weight / weight.mean(), expected_volumes(table.representation, VolumePrior.load()))

    def __len__(self) -> int:
        return len(self.table)

    def batch(self, chosen: Tensor) -> tuple[Batch, Tensor]:
        """The chosen crystals, and their weights."""
        own = self.table[chosen]
        return Batch.of(own.representation, own.allowed, self.expected[chosen]), self.weight[chosen]


def train_on_tables(
    folders: Sequence[Path],
    out: Path,
    *,
    exclude: set[str],
    exclude_ids: set[str],
    recipe: SpaceGroupRecipe,
    device: torch.device,
    above_hull: Mapping[str, float] | None = None,
    start_from: Path | None = None,
    stop_after_minutes: float = math.inf,
    log: Callable[[Row], None] = lambda row: None,
) -> ModelCard:
    """Train on tables of descriptions, or go on, and export what there is to `out`.

    Nothing is used of the held-out fold; the validation fold is only validated on.

    Args:
        exclude: Compositions, as `csp.training.splits.composition_name` writes them, that are not used.
        exclude_ids: Crystals that are not used.
        above_hull: Distances from the convex hull by which crystals count, see `Trainable.of`; None: all
            count alike.
        start_from: The weights file of a model to begin with, which may have seen more.
        log: Gets each line of `log.jsonl`.
    """
    table = read_table(*folders)
    names = np.array(table.compositions())
    folds = np.array([fold(name) for name in names])
    small = (table.representation.n_atoms <= recipe.max_atoms) & (
        table.representation.n_orbits <= recipe.max_orbits
    )
    used = small.numpy() & ~np.isin(names, list(exclude)) & ~np.isin(table.ids, list(exclude_ids))
    training = Trainable.of(
        table[torch.from_numpy(used & (folds != HELD_OUT) & (folds != VALIDATION))], recipe.crowd, above_hull
    )
    rows = np.flatnonzero(used & (folds == VALIDATION))[:VALIDATED]
    validation = Trainable.of(table[torch.from_numpy(rows)], recipe.crowd, above_hull)
    model, step = train_space_group_model(
        recipe,
        training,
        validation,
        out,
        device=device,
        start_from=start_from,
        stop_after_minutes=stop_after_minutes,
        log=log,
    )
    seen = {hashed(name) for name in training.table.compositions()}
    notes = [f"{len(training)} crystals described from {json.dumps([origins(folder) for folder in folders])}"]
    if above_hull is not None:
        notes.append("each counts by exp(-dE / 50 meV), dE its distance from the convex hull")
    if start_from is not None:
        seen |= seen_compositions(start_from)
        notes.append(f"begun with the weights {load_weights(start_from)[1].sha256[:12]}")
    rounded = model.half()
    metrics = validate(copy.deepcopy(rounded).float(), validation, recipe)  # of the rounded weights
    return write_model(
        out / "space_group.safetensors",
        ModelCard,
        rounded.state_dict(),
        architecture=asdict(rounded.architecture),
        property="space group, Wyckoff positions, cell and coordinates from the composition",
        seen=seen,
        elements=sorted(training.table.representation.number.unique().tolist()),
        recipe=asdict(recipe) | {"done": step},
        metrics={name: round(value, 4) for name, value in metrics.items()},
        data=notes,
        split=f"fold {HELD_OUT} of {FOLDS} held out, fold {VALIDATION} for validation (csp.training.splits)",
        licence="Weights Apache-2.0; data of the Materials Project, CC BY 4.0",
        code_version=code_version(),
    )


def train_space_group_model(
    recipe: SpaceGroupRecipe,
    data: Trainable,
    validation: Trainable,
    out: Path,
    *,
    device: torch.device,
    start_from: Path | None = None,
    minutes_between_checkpoints: float = 5.0,
    steps_between_validations: int = 2000,
    stop_after_minutes: float = math.inf,
    log: Callable[[Row], None] = lambda row: None,
) -> tuple[SpaceGroupModel, int]:
    """Train to the end of the recipe, or for a time.

    Continues from the newest checkpoint in `out` as if never interrupted: the batches are a function of the
    recipe, the data and the step.

    Returns:
        The averaged model and the steps done.
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
        "weights": hashed(",".join(f"{one:.6g}" for one in data.weight.tolist())),
        "begun": load_weights(start_from)[1].sha256 if start_from else "",
    }
    _restore(out, state, training)
    rows = _stream(recipe, data, state)
    run(
        state,
        recipe,
        lambda step: _loss(recipe, model, data, next(rows), step),
        out,
        about=lambda: {"training": training, "epoch": state.epoch, "place": state.place},
        validate=(lambda: validate(average, validation, recipe)) if len(validation) else None,
        clip=recipe.clip,
        minutes_between_checkpoints=minutes_between_checkpoints,
        steps_between_validations=steps_between_validations,
        stop_after_minutes=stop_after_minutes,
        log=log,
    )
    return average, state.step


def _begun(recipe: SpaceGroupRecipe, start_from: Path | None) -> SpaceGroupModel:
    """A new model, or one with the weights of a file; InputError for those of another architecture."""
    torch.manual_seed(recipe.seed)
    model = SpaceGroupModel(recipe.architecture, recipe.dropout)
    if start_from is not None:
        weights, card = load_weights(start_from)
        if card.architecture != asdict(recipe.architecture):
            raise InputError(f"{start_from} is of another architecture: {card.architecture}.")
        model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return model


def _stream(recipe: SpaceGroupRecipe, data: Trainable, state: _State) -> Iterator[Tensor]:
    """Batches from where the state stands on; the state is kept at what has been handed out."""
    length = lengths(data.table.representation)
    while True:
        for place, rows in enumerate(batches(length, recipe.tokens, recipe.seed, state.epoch)):
            if place == state.place:
                state.place += 1
                yield rows
        state.epoch, state.place = state.epoch + 1, 0


def _loss(
    recipe: SpaceGroupRecipe, model: SpaceGroupModel, data: Trainable, rows: Tensor, step: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a step on some crystals, and each part of it."""
    torch.manual_seed((recipe.seed << 32) + step)  # what is dropped out is the same after a restart
    device = next(model.parameters()).device
    batch, weight = data.batch(rows)
    parts = negative_log_likelihood(model, batch.to(device))
    return (sum(parts.values()) * weight.to(device)).mean(), parts


def batches(length: Tensor, tokens: int, seed: int, epoch: int) -> Iterator[Tensor]:
    """The crystals [b] of each batch of an epoch: every crystal once, those of like length together, at most
    `tokens` tokens with the padding. A function of its arguments alone."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(length))
    chosen = []
    several = max(1, SORTED_AT_ONCE * tokens // max(1, int(length.double().mean())))
    for begin in range(0, len(order), several):
        part = order[begin : begin + several]
        part = part[np.argsort(length.numpy()[part], kind="stable")]
        own: list[int] = []
        for k in part.tolist():
            if own and (len(own) + 1) * int(length[k]) > tokens:
                chosen.append(own)
                own = []
            own.append(k)
        chosen.append(own)
    for k in rng.permutation(len(chosen)).tolist():
        yield torch.tensor(chosen[k])


@torch.no_grad()
def validate(model: SpaceGroupModel, data: Trainable, recipe: SpaceGroupRecipe) -> dict[str, float]:
    """Weighted means of each part of −ln p; shares with the space group among the 1, 10, 30 likeliest."""
    device = next(model.parameters()).device
    sums: dict[str, float] = {}
    for rows in batches(lengths(data.table.representation), recipe.tokens, 0, 0):
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
class _State(checkpoints.TrainingState):
    """All that changes while a training runs; random numbers and batches are made from the step alone.

    Attributes:
        epoch: Of the data.
        place: Batches of it that are done.
    """

    model: SpaceGroupModel
    average: SpaceGroupModel
    epoch: int = 0
    place: int = 0


def _restore(out: Path, state: _State, training: dict[str, Any]) -> None:
    """Put the newest checkpoint, if there is one, into the state.

    Args:
        training: What must be equal for it to go on: recipe, data.

    Raises:
        InputError: The checkpoint is of another training.
    """
    about = checkpoints.read(out)
    if about is None:
        return
    if checkpoints.differs(about["training"], training):
        raise InputError(f"The training in {out} has another recipe or other data; choose another folder.")
    checkpoints.restore(out, state)
    state.epoch, state.place = int(about["epoch"]), int(about["place"])
