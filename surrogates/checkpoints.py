"""Checkpoints of a training: tensor files of moderate size and a JSON, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from csp.errors import InputError
from surrogates.batches import Stream
from surrogates.transformer import CrystalTransformer

__all__ = ["State", "adopt", "checkpoints", "restore", "save"]


@dataclass(slots=True)
class State:
    """All that changes while a training runs; random numbers are made from the step alone.

    model     the weights being trained, `average` their moving average
    streams   where each source of batches stands
    """

    model: CrystalTransformer
    average: CrystalTransformer
    optimiser: torch.optim.Optimizer
    streams: list[Stream]
    step: int = 0


def save(out: Path, state: State, about: dict[str, Any]) -> None:
    """A directory out/step-… of four tensor files and a JSON, whole or not at all; the older ones go.

    about: what else belongs to the training: recipe, architecture, data.
    """
    final, part = out / f"step-{state.step:08d}", out / "checkpoint.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    moments = state.optimiser.state_dict()["state"]
    torch.save(state.model.state_dict(), part / "model.pt")
    torch.save(state.average.state_dict(), part / "average.pt")
    for name in ("exp_avg", "exp_avg_sq"):
        torch.save({str(k): moment[name] for k, moment in moments.items()}, part / f"{name}.pt")
    about = about | {
        "step": state.step,
        "updates": {str(k): float(moment["step"]) for k, moment in moments.items()},
        "streams": [[s.epoch, s.position, len(s.rows)] for s in state.streams],
    }
    (part / "about.json").write_text(json.dumps(about))
    shutil.rmtree(final, ignore_errors=True)
    os.replace(part, final)
    for old in checkpoints(out)[:-1]:
        shutil.rmtree(old)


def checkpoints(out: Path) -> list[Path]:
    """The checkpoints in a directory, oldest first."""
    return sorted(path for path in out.glob("step-*") if (path / "about.json").exists())


def restore(out: Path, state: State) -> None:
    """Put the newest checkpoint, if there is one, into the state of the same training.

    A source that has grown since begins a new epoch. Raises InputError if the checkpoint is of
    another training.
    """
    found = checkpoints(out)
    if not found:
        return
    about = json.loads((found[-1] / "about.json").read_text())
    if len(about["streams"]) != len(state.streams):
        raise InputError(f"The training in {out} had other kinds of data; start a new one from it.")

    def tensors(name: str) -> dict[str, Tensor]:
        return torch.load(found[-1] / f"{name}.pt", weights_only=True, map_location="cpu")

    try:
        state.model.load_state_dict(tensors("model"))
    except RuntimeError as error:
        raise InputError(f"The training in {out} is of another architecture.") from error
    state.average.load_state_dict(tensors("average"))
    first, second = tensors("exp_avg"), tensors("exp_avg_sq")
    moments = {
        int(k): {"step": torch.tensor(n), "exp_avg": first[k], "exp_avg_sq": second[k]}
        for k, n in about["updates"].items()
    }
    state.optimiser.load_state_dict({**state.optimiser.state_dict(), "state": moments})
    for stream, (epoch, position, rows) in zip(state.streams, about["streams"], strict=True):
        if rows == len(stream.rows):
            stream.seek(epoch, position)
        else:
            stream.seek(epoch + 1, 0)
    state.step = int(about["step"])


def adopt(model: CrystalTransformer, path: Path, trained: set[int]) -> None:
    """Begin with the averaged weights and references of another training.

    trained: heads (columns) that this training has labels for; those that the other one had none for
    begin as its first head, with the references fitted here.
    """
    weights = torch.load(path / "average.pt", weights_only=True, map_location="cpu")
    fitted = model.reference.clone()
    model.load_state_dict(weights)
    with torch.no_grad():
        for column in range(len(model.reference)):
            if not bool(model.reference[column].any()) and column in trained:
                model.reference[column] = fitted[column]
                model.energy.weight[column] = model.energy.weight[0]
                model.energy.bias[column] = model.energy.bias[0]
