"""Checkpoints of a training: tensor files of moderate size and a JSON, whole or not at all; torch alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from csp.errors import InputError
from csp.files import replacing_folder, write_text

__all__ = ["TrainingState", "checkpoints", "differs", "read", "restore", "save"]


@dataclass(slots=True)
class TrainingState:
    """What changes while a training runs.

    Attributes:
        model: The weights being trained.
        average: Their moving average.
        optimiser: An AdamW over the weights.
        step: How many were made.
    """

    model: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer
    step: int = 0

    def follow(self, decay: float) -> None:
        """Move the average towards the model: average ← decay · average + (1 − decay) · model."""
        blend = get_ema_multi_avg_fn(decay)
        blend([*self.average.parameters()], [*self.model.parameters()], None)


def save(out: Path, state: TrainingState, about: Mapping[str, Any]) -> None:
    """A directory out/step-… of four tensor files and a JSON, whole or not at all; the older ones go.

    Args:
        about: What else belongs to the training, JSON values.
    """
    moments = state.optimiser.state_dict()["state"]
    with replacing_folder(out / f"step-{state.step:08d}") as fresh:
        torch.save(state.model.state_dict(), fresh / "model.pt")
        torch.save(state.average.state_dict(), fresh / "average.pt")
        for name in ("exp_avg", "exp_avg_sq"):
            torch.save({str(k): moment[name] for k, moment in moments.items()}, fresh / f"{name}.pt")
        updates = {str(k): float(moment["step"]) for k, moment in moments.items()}
        write_text(fresh / "about.json", json.dumps({**about, "step": state.step, "updates": updates}))
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


def differs(written: Any, value: Any) -> bool:
    """Does a value differ from what was read back of it from JSON, tuples being lists there?"""
    return bool(written != json.loads(json.dumps(value)))


def restore(out: Path, state: TrainingState) -> None:
    """Put the newest checkpoint, which there is, into the state.

    Raises:
        InputError: It is of another architecture.
    """
    path = checkpoints(out)[-1]

    def tensors(name: str) -> dict[str, Tensor]:
        return torch.load(path / f"{name}.pt", weights_only=True, map_location="cpu")

    try:
        state.model.load_state_dict(tensors("model"))
    except RuntimeError as error:
        raise InputError(f"The training in {out} is of another architecture.") from error
    state.average.load_state_dict(tensors("average"))
    first, second = tensors("exp_avg"), tensors("exp_avg_sq")
    about = json.loads((path / "about.json").read_text(encoding="utf-8"))
    moments = {
        int(k): {"step": torch.tensor(n), "exp_avg": first[k], "exp_avg_sq": second[k]}
        for k, n in about["updates"].items()
    }
    state.optimiser.load_state_dict({**state.optimiser.state_dict(), "state": moments})
    state.step = int(about["step"])
