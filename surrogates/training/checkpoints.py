"""Checkpoints of the surrogate's training, and beginning from one of another."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from csp.errors import InputError
from csp.training import checkpoints
from surrogates.training.batches import Stream
from surrogates.transformer.network import CrystalTransformer

__all__ = ["State", "adopt", "parents", "restore", "seen_by", "stream_places"]


@dataclass(slots=True)
class State(checkpoints.TrainingState):
    """All that changes while a training runs; random numbers are made from the step alone.

    Attributes:
        streams: Where each source of batches stands.
    """

    model: CrystalTransformer
    average: CrystalTransformer
    streams: list[Stream] = field(default_factory=list)


def stream_places(state: State) -> list[list[int]]:
    """Epoch, position and crystals of each stream, for the checkpoint."""
    return [[s.epoch, s.position, len(s.rows)] for s in state.streams]


def restore(out: Path, state: State) -> None:
    """Put the newest checkpoint, if there is one, into the state of the same training.

    A source that has grown since begins a new epoch.

    Raises:
        InputError: The checkpoint is of another training.
    """
    about = checkpoints.read(out)
    if about is None:
        return
    if len(about["streams"]) != len(state.streams):
        raise InputError(f"The training in {out} had other kinds of data; start a new one from it.")
    checkpoints.restore(out, state)
    for stream, (epoch, position, rows) in zip(state.streams, about["streams"], strict=True):
        if rows == len(stream.rows):
            stream.seek(epoch, position)
        else:
            stream.seek(epoch + 1, 0)


def adopt(model: CrystalTransformer, path: Path, trained: set[int]) -> None:
    """Begin with the averaged weights and references of another training.

    Args:
        path: A checkpoint, or the weights file of a model with the same heads.
        trained: Heads (columns) that this training has labels for; those that the other one had none for
            begin as its first head, with the references fitted here.
    """
    weights = _weights(path)
    fitted = model.reference.clone()
    model.load_state_dict({name: weights[name] for name in model.state_dict()})
    with torch.no_grad():
        for column in range(len(model.reference)):
            if not bool(model.reference[column].any()) and column in trained:
                model.reference[column] = fitted[column]
                model.energy.weight[column] = model.energy.weight[0]
                model.energy.bias[column] = model.energy.bias[0]


def parents(path: Path) -> list[str]:
    """Names of the models that a training from a checkpoint or a model begins with."""
    return [path.stem] if path.is_file() else list(_about(path).get("parents", []))


def seen_by(path: Path) -> set[int]:
    """Hashes of the compositions that a checkpoint or a model was trained on."""
    if path.is_file():
        return set(_weights(path)["seen"].tolist())
    return set(_about(path)["seen"])


def _about(checkpoint: Path) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((checkpoint / "about.json").read_text(encoding="utf-8"))
    return about


def _weights(path: Path) -> dict[str, Tensor]:
    if path.is_file():
        from safetensors.torch import load_file  # not needed where checkpoints are gone on with

        return load_file(path)
    weights: dict[str, Tensor] = torch.load(path / "average.pt", weights_only=True, map_location="cpu")
    return weights
