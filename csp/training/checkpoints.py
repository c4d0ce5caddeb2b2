"""Checkpoints of a training: tensor files of moderate size and a JSON, whole or not at all; torch alone."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from csp.errors import InputError

__all__ = ["Weights", "checkpoints", "read", "restore", "save"]


@dataclass(slots=True)
class Weights:
    """What the optimiser changes: the weights being trained, `average` their moving average; an AdamW."""

    model: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer

    def follow(self, decay: float) -> None:
        """Move the average towards the model: average ← decay · average + (1 − decay) · model."""
        blend = get_ema_multi_avg_fn(decay)
        blend([*self.average.parameters()], [*self.model.parameters()], None)


def save(out: Path, weights: Weights, step: int, about: dict[str, Any]) -> None:
    """A directory out/step-… of four tensor files and a JSON, whole or not at all; the older ones go.

    about: what else belongs to the training, JSON values.
    """
    final, part = out / f"step-{step:08d}", out / "checkpoint.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    moments = weights.optimiser.state_dict()["state"]
    torch.save(weights.model.state_dict(), part / "model.pt")
    torch.save(weights.average.state_dict(), part / "average.pt")
    for name in ("exp_avg", "exp_avg_sq"):
        torch.save({str(k): moment[name] for k, moment in moments.items()}, part / f"{name}.pt")
    updates = {str(k): float(moment["step"]) for k, moment in moments.items()}
    record = {**about, "step": step, "updates": updates}
    (part / "about.json").write_text(json.dumps(record), encoding="utf-8")
    shutil.rmtree(final, ignore_errors=True)
    os.replace(part, final)
    for old in checkpoints(out)[:-1]:
        shutil.rmtree(old)


def checkpoints(out: Path) -> list[Path]:
    """The checkpoints in a directory, oldest first."""
    return sorted(path for path in out.glob("step-*") if (path / "about.json").exists())


def read(out: Path) -> dict[str, Any] | None:
    """What the newest checkpoint is about, its "step" among it; None where there is none."""
    found = checkpoints(out)
    if not found:
        return None
    about: dict[str, Any] = json.loads((found[-1] / "about.json").read_text(encoding="utf-8"))
    return about


def restore(out: Path, weights: Weights) -> None:
    """Put the newest checkpoint, which there is, into the weights. InputError for another architecture."""
    path = checkpoints(out)[-1]

    def tensors(name: str) -> dict[str, Tensor]:
        return torch.load(path / f"{name}.pt", weights_only=True, map_location="cpu")

    try:
        weights.model.load_state_dict(tensors("model"))
    except RuntimeError as error:
        raise InputError(f"The training in {out} is of another architecture.") from error
    weights.average.load_state_dict(tensors("average"))
    first, second = tensors("exp_avg"), tensors("exp_avg_sq")
    updates = json.loads((path / "about.json").read_text(encoding="utf-8"))["updates"]
    moments = {
        int(k): {"step": torch.tensor(n), "exp_avg": first[k], "exp_avg_sq": second[k]}
        for k, n in updates.items()
    }
    weights.optimiser.load_state_dict({**weights.optimiser.state_dict(), "state": moments})
