"""Training of the surrogate as a Prefect flow: begun, or gone on with from the newest checkpoint.

A run that is taken up again, or another that is given the same folder, continues as if never interrupted
(`surrogates.training.train`). `train_surrogate.fn(...)` is a plain function and needs no server.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from prefect import flow, get_run_logger
from prefect.artifacts import create_image_artifact, create_markdown_artifact
from prefect.context import FlowRunContext
from prefect.runtime import flow_run

from csp.errors import InputError
from flows.artifacts import files_url, image_url
from flows.crashes import go_on, stop_crashing
from flows.form import Device, Folder, shown
from flows.markdown import link, literal
from flows.roots import folder_of_run, within
from flows.sentences import says_why
from flows.turns import turn

if TYPE_CHECKING:
    from csp.training.loop import Row

__all__ = ["train_surrogate"]

Structures = Annotated[Path, shown("Structures", "Parquet table of crystals, on the worker")]
Energies = Annotated[
    Path, shown("Energies", "Parquet table of their formation energies and splits, on the worker")
]
Virtual = Annotated[
    Path | None,
    shown("Virtual crystals", "Folder of labelled shards that `csp train labels` made; none: without"),
]
Exclude = Annotated[
    Path | None, shown("Excluded", "File of compositions to leave out, one a line (8:3 22:1 38:1)")
]
Size = Annotated[Literal["xs", "m"], shown("Size", "Of the network: xs has 0.4 million parameters")]
Steps = Annotated[int, shown("Steps", "Optimiser steps in all", ge=1, le=100_000_000)]
Seed = Annotated[int, shown("Seed", "Same seed, same course", ge=0, le=2**31 - 1)]
StartFrom = Annotated[
    Path | None,
    shown("Start from", "Checkpoint folder step-… of another training whose weights to begin with"),
]
Minutes = Annotated[
    float | None, shown("Minutes", "Stop after so many and go on in another run; none: to the end", gt=0)
]


@flow(name="train-surrogate", flow_run_name="train {size}", on_crashed=[go_on], persist_result=False)
@says_why
def train_surrogate(
    structures: Structures,
    energies: Energies,
    virtual: Virtual = None,
    exclude: Exclude = None,
    size: Size = "xs",
    steps: Steps = 20_000,
    seed: Seed = 0,
    start_from: StartFrom = None,
    minutes: Minutes = None,
    device: Device = "auto",
    folder: Folder = None,
) -> dict[str, float]:
    """Train the surrogate on formation energies and virtual crystals; returns its validation errors, eV/atom.

    A folder that holds a training of the same kinds of data is gone on with. `csp train export` makes a
    model of the checkpoint in it.
    """
    served = FlowRunContext.get() is not None
    if served:
        stop_crashing()
        structures, energies = within(structures), within(energies)
        virtual, exclude, start_from = (path and within(path) for path in (virtual, exclude, start_from))
    for path in (structures, energies, virtual, exclude, start_from):
        if path is not None and not path.exists():
            raise InputError(f"There is no {path} on this machine.")
    name = f"surrogate-{str(flow_run.id)[:8] if served else size}"
    out = folder_of_run(name, folder) if served else (folder or Path("out") / name).absolute()

    import torch

    from csp.device import resolve_device
    from surrogates.training.labelled import read_teacher
    from surrogates.training.train import SurrogateRecipe, plot, read_sources, train_network

    recipe, place = SurrogateRecipe(size=size, steps=steps, seed=seed), resolve_device(device)
    torch.set_flush_denormal(True)
    left_out = exclude.read_text(encoding="utf-8").splitlines() if exclude else ()
    sources, validation = read_sources(
        structures, energies, virtual, cutoff=recipe.architecture().cutoff, device=place, exclude=left_out
    )
    with turn(place):
        train_network(
            recipe,
            sources,
            validation,
            out,
            device=place,
            start_from=start_from,
            teacher=read_teacher(virtual) if virtual else "",
            stop_after_minutes=minutes or math.inf,
            log=_teller(out.name, steps) if served else lambda row: None,
        )
    plot(out / "log.jsonl", out / "log.png")
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    if served:
        _publish(out, name, steps, rows)
    return _errors(rows)


def _key(kind: str, name: str) -> str:
    """Of an artifact, which collects the history of a training."""
    return f"{kind}-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}"


def _teller(name: str, steps: int) -> Callable[[Row], None]:
    """Tells the progress, and each line of the log."""
    from csp.search.pace import Pace
    from flows.progress import Reporter

    log, reporter = (
        get_run_logger(),
        Reporter(_key("progress", name), Pace({"train": 100.0}, {"train": "training"})),
    )

    def tell(row: Row) -> None:
        reporter("train", int(row["step"]), steps)
        log.info(", ".join(f"{key} {value:.5g}" for key, value in row.items()))

    return tell


def _errors(rows: list[Row]) -> dict[str, float]:
    """The last validation error of each kind of energies, eV/atom."""
    return {key.removeprefix("val_"): row[key] for row in rows for key in row if key.startswith("val_")}


def _publish(out: Path, name: str, steps: int, rows: list[Row]) -> None:
    """The course as a picture; steps and errors as Markdown."""
    step, where = int(rows[-1]["step"]), files_url(name)
    log = [f"{link('Log', f'{where}/log.jsonl')}.", ""] if where else []
    lines = [
        f"# {literal(out.name)}: step {step:,} of {steps:,}",
        "",
        "| kind of energies | validation error, meV/atom |",
        "|---|---:|",
        *(f"| {literal(kind)} | {1000 * error:.1f} |" for kind, error in _errors(rows).items()),
        "",
        *log,
        "A model of the newest checkpoint is made by "
        + literal(f"csp train export {out}/step-{step:08d} NAME …")
        + ("." if step == steps else "; a run with the same folder goes on."),
    ]
    create_markdown_artifact("\n".join(lines) + "\n", key=_key("summary", out.name), description="Training")
    create_image_artifact(
        image_url(out / "log.png", where), key=_key("picture", out.name), description="Errors against steps"
    )
