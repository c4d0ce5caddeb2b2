"""`csp benchmark deep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csp.cli.console import console, output
from csp.cli.options import Device, Limit, Out, Seed
from csp.cli.progress import status

__all__ = ["deep"]


def deep(
    out: Out,
    targets: Annotated[
        Path, typer.Option(help="Folder of CIFs of known crystals, or a CSV file with a column material_id")
    ],
    library: Annotated[
        Path | None, typer.Option(help="Parquet file of known crystals; none: the AFLOW prototypes")
    ] = None,
    generators: Annotated[
        str | None, typer.Option(help="Which generators propose, a,b; default: all")
    ] = None,
    minutes: Annotated[float, typer.Option(help="For a target")] = 10.0,
    max_rounds: Annotated[int, typer.Option(help="For a target, at most")] = 10_000,
    until: Annotated[float, typer.Option(help="Share told at which a search ends; 1: never")] = 0.9,
    candidates: Annotated[int, typer.Option(help="Per generator, before all rounds")] = 500,
    max_atoms: Annotated[int, typer.Option(help="Largest primitive cell of a truth")] = 20,
    largest_cell: Annotated[int, typer.Option(help="Largest cell that is proposed")] = 40,
    all_folds: Annotated[
        bool, typer.Option("--all-folds", help="Of a CSV file those, too, that generators learned from")
    ] = False,
    surrogate: Annotated[str, typer.Option(help="Model that screens and relaxes first")] = "xs",
    relaxer: Annotated[str, typer.Option(help="Potential that refines and ranks; auto: the best")] = "auto",
    only: Annotated[str | None, typer.Option(help="Only these targets, by name: a,b")] = None,
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the benchmark in the out folder")
    ] = False,
) -> None:
    """Does a search that goes on in rounds find known crystals, and know when it is done?"""
    from benchmarks.deep.benchmark import DeepBenchmark, DeepSettings

    given = {} if generators is None else {"generators": generators}
    settings = DeepSettings.read(
        targets=targets,
        library=library,
        minutes=minutes,
        max_rounds=max_rounds,
        until=until,
        candidates=candidates,
        max_atoms=max_atoms,
        largest_cell=largest_cell,
        all_folds=all_folds,
        surrogate=surrogate,
        relaxer=relaxer,
        seed=seed,
        **given,
    )
    benchmark = DeepBenchmark.begin(settings, out, device=device, resume=resume)
    wanted = only.split(",") if only else None
    chosen = [truth for truth in benchmark.truths if wanted is None or truth.name in wanted][:limit]
    for k, truth in enumerate(chosen, start=1):
        outcome = benchmark.run(truth, status(truth.name))
        benchmark.write()
        console.print(f"{k:3d}/{len(chosen)}  {outcome.line()}")
    output.print((out / "table.md").read_text(encoding="utf-8"), end="")
    console.print(f"{out}/table.md, deep.json and summary.json are written.")
