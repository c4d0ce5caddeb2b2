"""`csp benchmark pressure`: known phases at high pressure, searched at their pressure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csp.cli.console import console, say_figures
from csp.cli.options import Device, Limit, Out, Seed

__all__ = ["pressure"]


def pressure(
    out: Out,
    truths: Annotated[
        Path, typer.Option(help="CSV table of known phases: formula, spacegroup, Pmin, Pmax, nat")
    ],
    library: Annotated[
        Path, typer.Option(help="Parquet file of known crystals; auto: yours; none: the AFLOW prototypes")
    ] = Path("auto"),
    effort: Annotated[str, typer.Option(help="quick or standard")] = "standard",
    relaxer: Annotated[str, typer.Option(help="Potential that refines and ranks; none: no other")] = "auto",
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Is a phase that is known at a pressure among the first three of a search at it?"""
    from benchmarks.pressure.benchmark import measure

    settings = {
        "library": library,
        "effort": effort,
        "relaxer": relaxer,
        "seed": seed,
        "exclude_composition": True,
        "hull": False,
    }
    say_figures(measure(truths, out, settings, limit=limit, device=device, say=console.print))
