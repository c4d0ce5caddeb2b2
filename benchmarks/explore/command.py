"""`csp benchmark explore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csp.cli.console import console, output
from csp.cli.options import Device, Out, Seed

__all__ = ["explore"]


def explore(
    out: Out,
    library: Annotated[Path, typer.Option(help="Parquet file of known crystals")],
    stability: Annotated[Path, typer.Option(help="Table of their distances from the published hull")],
    binaries: Annotated[int, typer.Option(min=0, help="Systems of two elements")] = 10,
    ternaries: Annotated[int, typer.Option(min=0, help="Systems of three elements")] = 5,
    arms: Annotated[str, typer.Option(help="How searches are spread: gain,even")] = "gain,even",
    searches: Annotated[int, typer.Option(help="For a system")] = 30,
    max_atoms: Annotated[
        int, typer.Option(help="In a formula unit, and in the primitive cell of a known phase")
    ] = 16,
    largest_cell: Annotated[int, typer.Option(help="Largest cell that is proposed")] = 32,
    depth: Annotated[str, typer.Option(help="Of the deepest searches: quick, standard or deep")] = "standard",
    surrogate: Annotated[str, typer.Option(help="Model of quick searches")] = "xs",
    relaxer: Annotated[str, typer.Option(help="Model that the hull is of; none: the surrogate")] = "auto",
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Are the known stable phases of chemical systems found, all that holds their elements left out?

    Repeated, it goes on where it was.
    """
    from benchmarks.explore.benchmark import ExploreBenchmark, ExploreBenchmarkSettings

    settings = ExploreBenchmarkSettings.read(
        library=library,
        stability=stability,
        binaries=binaries,
        ternaries=ternaries,
        arms=tuple(part for part in arms.split(",") if part),
        searches=searches,
        max_atoms=max_atoms,
        largest_cell=largest_cell,
        depth=depth,
        surrogate=surrogate,
        relaxer=relaxer,
        seed=seed,
    )
    ExploreBenchmark.begin(settings, out, device).run(console.print)
    output.print((out / "table.md").read_text(encoding="utf-8"), end="")
    console.print(f"{out}/table.md and summary.json are written.")
