"""`csp benchmark library`: how long it takes to get one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csp.cli.console import console, say_figures
from csp.cli.options import Out

__all__ = ["library"]


def library(
    out: Out,
    library: Annotated[Path, typer.Option(help="Parquet file of known crystals, which is served here")],
    formula: Annotated[
        str, typer.Option(help="Whose ratio and chemical system a search asks for")
    ] = "SrTiO3",
    page: Annotated[int, typer.Option(min=1, max=10_000, help="Entries that a pull asks for at once")] = 500,
) -> None:
    """How long do a whole pull, killed once on the way, and a search's own question take?"""
    from benchmarks.library.benchmark import measure

    say_figures(measure(library, formula, out, page=page, say=console.print))
