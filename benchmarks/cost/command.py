"""`csp benchmark cost`: what a search costs, from its formula to its page."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmarks.options import OthersKnown, Refiner
from csp.cli.console import console, output
from csp.cli.options import Limit, Out, Seed
from csp.errors import InputError

__all__ = ["cost"]


def cost(
    out: Out,
    library: OthersKnown = None,
    efforts: Annotated[str, typer.Option(help="Of quick, standard and deep: a,b")] = "quick,standard",
    cores: Annotated[
        str, typer.Option(help="Threads that a search may use, one number after the other")
    ] = "1",
    minutes: Annotated[float, typer.Option(help="Of a deep search")] = 10.0,
    relaxer: Refiner = "auto",
    limit: Limit = None,
    seed: Seed = 0,
) -> None:
    """What time and memory does a search take, by atoms in the cell, and where does the time go?"""
    from benchmarks.cost.benchmark import CostBenchmark

    try:
        threads = [int(one) for one in cores.split(",")]
    except ValueError:
        raise InputError(
            f"write numbers of threads, for example 1,2; not {cores!r}.", setting="cores"
        ) from None
    benchmark = CostBenchmark.begin(out, library=library, minutes=minutes, relaxer=relaxer, seed=seed)
    benchmark.run(console.print, efforts=efforts.split(","), cores=threads, limit=limit)
    output.print((out / "table.md").read_text(encoding="utf-8"), end="")
    console.print(f"{out}/table.md and summary.json are written.")
