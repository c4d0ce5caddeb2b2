"""The one training loop: steps of the optimiser, averaged weights, checkpoints, validation, a log.

What is particular to a training comes in as functions: its loss as a function of the step alone, which makes
it resumable to the step, what its checkpoints are about, and how it is validated. Imports torch only.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from csp.training.checkpoints import TrainingState, save
from csp.training.schedule import learning_rate

__all__ = ["Row", "TrainingRecipe", "print_row", "run"]

STEPS_BETWEEN_LINES = 100

Row = dict[str, float]
"""What is known of a hundred steps: step, lr, seconds, mean losses, val_… where validated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecipe:
    """What decides the course of every training beside its data; saved with what it made.

    Attributes:
        steps: Optimiser steps in all.
        lr: Peak learning rate: linear over `warmup` steps, then level, a cosine to zero over the last `decay`
            of the steps.
        weight_decay: Of AdamW.
        ema: Decay per step of the averaged weights, which are the ones shipped.
        seed: Same seed, same course.
    """

    steps: int
    lr: float
    warmup: int
    decay: float
    weight_decay: float
    ema: float
    seed: int = 0

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return learning_rate(step, steps=self.steps, peak=self.lr, warmup=self.warmup, decay=self.decay)


def run(
    state: TrainingState,
    recipe: TrainingRecipe,
    loss: Callable[[int], tuple[Tensor, Mapping[str, Tensor]]],
    out: Path,
    *,
    about: Callable[[], dict[str, Any]],
    validate: Callable[[], dict[str, float]] | None = None,
    clip: float = 1.0,
    ema_lag: int = 10,
    minutes_between_checkpoints: float = 5.0,
    steps_between_validations: int = 2000,
    stop_after_minutes: float = math.inf,
    log: Callable[[Row], None] = lambda row: None,
) -> None:
    """Train from where the state stands to the end of the recipe, or for a time; one step at least.

    A step whose gradient is not finite leaves the weights as they are; how many were skipped is in the log.

    Args:
        loss: Of a step, counted from 0: what is minimised, and its parts by name, whose means are logged. It
            may depend on the step and the state alone.
        out: Folder of the checkpoints and of `log.jsonl`, a line of JSON each hundred steps.
        about: What else a checkpoint has to hold, JSON values.
        validate: Errors of the averaged weights by name.
        clip: Largest norm of a gradient.
        ema_lag: The average after n steps decays by n / (n + ema_lag) at most, so that it forgets the start.
        log: Gets each line of `log.jsonl`.
    """
    out.mkdir(parents=True, exist_ok=True)
    lines = _Log(out / "log.jsonl", log)
    started = saved = time.monotonic()
    over = state.step >= recipe.steps
    while not over:
        rate = recipe.learning_rate(state.step)
        total, parts = loss(state.step)
        lines.add(parts, skipped=not _descend(state, total, rate, clip))
        state.step += 1
        state.follow(min(recipe.ema, state.step / (state.step + ema_lag)))
        now = time.monotonic()
        done = state.step == recipe.steps
        over = done or now - started > 60.0 * stop_after_minutes
        if validate is not None and (state.step % steps_between_validations == 0 or done):
            lines.validation = {f"val_{name}": error for name, error in validate().items()}
        if state.step % STEPS_BETWEEN_LINES == 0 or over:
            lines.write(state.step, recipe.learning_rate(state.step), now - started)
        if over or now - saved > 60.0 * minutes_between_checkpoints:
            save(out, state, about())
            saved = now


def print_row(row: Row) -> None:
    """A line of a log for people, on stdout."""
    print(" ".join(f"{name}={value:.5g}" for name, value in row.items()), flush=True)


def _descend(state: TrainingState, loss: Tensor, rate: float, clip: float) -> bool:
    """One step of the optimiser; False where the gradient is not finite and nothing was changed."""
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    state.optimiser.zero_grad()
    loss.backward()
    norm = clip_grad_norm_(state.model.parameters(), clip)
    if not bool(torch.isfinite(norm)):
        return False
    state.optimiser.step()
    return True


class _Log:
    """Means of the losses since the last line, the latest validation, and how many steps were skipped."""

    def __init__(self, path: Path, log: Callable[[Row], None]) -> None:
        self.validation: Row = {}
        self._path, self._log = path, log
        self._skipped = 0
        self._values: dict[str, list[float]] = {}

    def add(self, parts: Mapping[str, Tensor], *, skipped: bool) -> None:
        self._skipped += skipped
        for name, part in parts.items():
            self._values.setdefault(name, []).append(float(part.detach().mean()))

    def write(self, step: int, lr: float, seconds: float) -> None:
        means = {name: sum(values) / len(values) for name, values in self._values.items()}
        row: Row = {"step": step, "lr": lr, "seconds": round(seconds, 1)}
        row |= {name: round(value, 5) for name, value in (means | self.validation).items()}
        if self._skipped:
            row["skipped_not_finite"] = self._skipped
        with self._path.open("a", encoding="utf-8") as file:  # grows line by line: not replaced as a whole
            file.write(json.dumps(row) + "\n")
        self._log(row)
        self._values, self.validation = {}, {}
