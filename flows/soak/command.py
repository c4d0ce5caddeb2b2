"""`csp benchmark soak`."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from csp.cli.console import console, output
from csp.cli.options import Out, Seed
from csp.cli.stopping import terminated_as_interrupted

__all__ = ["soak"]


def soak(
    out: Out,
    formulas: Annotated[int, typer.Option(min=2, help="In the queue, right and wrong ones")] = 1000,
    minutes: Annotated[float, typer.Option(min=0.1, help="With faults; then the queue is left to end")] = 120,
    workers: Annotated[int, typer.Option(min=1, help="Of the queue, one run each at a time")] = 4,
    wrong: Annotated[float, typer.Option(min=0, max=0.5, help="Share of the formulas that are wrong")] = 0.05,
    searches: Annotated[
        int,
        typer.Option(min=1, help="By one undisturbed process, whose memory is told"),
    ] = 200,
    candidates: Annotated[
        int, typer.Option(min=0, help="In a full store that is asked; 0: none")
    ] = 1_000_000,
    seed: Seed = 0,
) -> None:
    """Is anything lost or done twice while workers, server, database and disk fail?"""
    from flows.soak.benchmark import measure

    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a script starts with & has it ignored
    with terminated_as_interrupted():  # or the database, the disk and the workers would stay
        found = measure(
            out,
            formulas=formulas,
            minutes=minutes,
            workers=workers,
            wrong_share=wrong,
            searches=searches,
            candidates=candidates,
            seed=seed,
            say=lambda words: console.print(words, markup=False),
        )
    for name, value in found.items():
        output.print(f"{name:<28} {value:>10}", markup=False)
    output.print(f"{out}/summary.json, events.txt and cases.txt are written.")
