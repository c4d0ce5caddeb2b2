"""Options and small readers that the commands of `csp train` share."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csp.errors import InputError, MissingError
from csp.files import read_text

if TYPE_CHECKING:
    import torch

__all__ = [
    "Energies",
    "Exclude",
    "LearningRate",
    "Minutes",
    "Seed",
    "Shards",
    "Steps",
    "Structures",
    "Threads",
    "Training",
    "json_object",
    "lines",
    "machine",
    "time_limit",
]

Structures = Annotated[Path, typer.Option(help="Library file of crystals (Parquet)")]
Energies = Annotated[Path, typer.Option(help="Parquet table of formation energies and their split")]
Exclude = Annotated[
    Path | None, typer.Option(help="File of compositions to leave out, one a line (8:3 22:1 38:1)")
]
Shards = Annotated[Path, typer.Option(help="Folder of the shards; those there are kept")]
Training = Annotated[Path, typer.Option(help="Folder of the training; one that is there is continued")]
Steps = Annotated[int, typer.Option(min=1, help="Optimiser steps in all")]
LearningRate = Annotated[float, typer.Option(help="Peak learning rate")]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same course")]
Minutes = Annotated[float | None, typer.Option(min=0, help="Stop after so many; go on later")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads")]


def machine(device: str, threads: int | None) -> torch.device:
    """The device, once the process is set up for hours of training."""
    import torch

    from csp.device import resolve_device

    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # denormal numbers are slow on a CPU
    return resolve_device(device)


def lines(path: Path | None) -> set[str]:
    """The lines of a file; none where none is named."""
    if path is None:
        return set()
    if not path.is_file():
        raise MissingError(f"There is no file {path}.")
    return set(read_text(path).splitlines())


def json_object(text: str, option: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError(f"{option} is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise InputError(f"{option} must be a JSON object such as {{}}.")
    return found


def time_limit(minutes: float | None) -> float:
    return math.inf if minutes is None else minutes
