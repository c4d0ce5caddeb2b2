"""Checkpoints of a training: tensor files of moderate size and a JSON, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from csp.errors import InputError

__all__ = ["State", "newest", "restore", "save"]


@dataclass(slots=True)
class State:
    """All that changes while a training runs; random numbers and batches are made from the step alone.

    model     the weights being trained, `average` their moving average
    epoch     of the data, and `place`: batches of it that are done
    """

    model: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer
    step: int = 0
    epoch: int = 0
    place: int = 0


def save(out: Path, state: State, about: dict[str, Any]) -> None:
    """A directory out/step-… of four tensor files and a JSON; the older ones go.

    about: what must be equal for the training to go on: recipe, data.
    """
    final, part = out / f"step-{state.step:08d}", out / "checkpoint.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    moments = state.optimiser.state_dict()["state"]
    torch.save(state.model.state_dict(), part / "model.pt")
    torch.save(state.average.state_dict(), part / "average.pt")
    for name in ("exp_avg", "exp_avg_sq"):
        torch.save({str(k): moment[name] for k, moment in moments.items()}, part / f"{name}.pt")
    record = {"about": about, "step": state.step, "epoch": state.epoch, "place": state.place}
    record["updates"] = {str(k): float(moment["step"]) for k, moment in moments.items()}
    (part / "state.json").write_text(json.dumps(record), encoding="utf-8")
    shutil.rmtree(final, ignore_errors=True)
    os.replace(part, final)
    for old in _all(out)[:-1]:
        shutil.rmtree(old)


def newest(out: Path) -> Path | None:
    """The newest checkpoint in a directory, None if there is none."""
    found = _all(out)
    return found[-1] if found else None


def restore(out: Path, state: State, about: dict[str, Any]) -> None:
    """Put the newest checkpoint, if there is one, into the state. InputError if it is of another training."""
    path = newest(out)
    if path is None:
        return
    record = json.loads((path / "state.json").read_text(encoding="utf-8"))
    if record["about"] != json.loads(json.dumps(about)):
        raise InputError(f"The training in {out} has another recipe or other data; choose another folder.")

    def tensors(name: str) -> dict[str, Tensor]:
        return torch.load(path / f"{name}.pt", weights_only=True, map_location="cpu")

    state.model.load_state_dict(tensors("model"))
    state.average.load_state_dict(tensors("average"))
    first, second = tensors("exp_avg"), tensors("exp_avg_sq")
    moments = {
        int(k): {"step": torch.tensor(n), "exp_avg": first[k], "exp_avg_sq": second[k]}
        for k, n in record["updates"].items()
    }
    state.optimiser.load_state_dict({**state.optimiser.state_dict(), "state": moments})
    state.step, state.epoch, state.place = (int(record[k]) for k in ("step", "epoch", "place"))


def _all(out: Path) -> list[Path]:
    return sorted(path for path in out.glob("step-*") if (path / "state.json").exists())
