"""`csp library`: the known crystals that templates come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csp.cli.console import output
from csp.cli.progress import progress

__all__ = ["app"]

app = typer.Typer(
    help="The library of known crystals that templates come from.", no_args_is_help=True, add_completion=False
)


@app.command("import")
def library_import(
    source: Annotated[Path, typer.Argument(help="Folder of CIFs, extxyz, ASE database or Parquet")],
    out: Annotated[Path, typer.Argument(help="Library file to write (Parquet)")],
    source_name: Annotated[str, typer.Option("--source", help="Where the crystals are from")],
    licence: Annotated[str, typer.Option("--licence", help="Under which licence")],
) -> None:
    """Make a library file of crystals of your own."""
    from csp.library.importing import import_structures

    with progress() as tell:
        report = import_structures(
            source,
            out,
            source_name=source_name,
            licence=licence,
            progress=lambda done, total: tell("import", done, total),
        )
    output.print(str(report))


@app.command("info")
def library_info(
    library: Annotated[
        Path | None, typer.Argument(help="Library file; none: the embedded prototypes")
    ] = None,
) -> None:
    """What is in a library."""
    from csp.library.library import Library

    output.print(Library.open(library).info())
