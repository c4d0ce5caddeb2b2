"""`csp benchmark properties`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csp.cli.console import console, say_figures
from csp.cli.options import Out

__all__ = ["properties"]

FIRST = "bulk_modulus"  # a model whose surrogate is that of all


def properties(
    out: Out,
    structures: Annotated[Path, typer.Option(help="Parquet file of known crystals")],
    tables: Annotated[
        list[Path], typer.Option(help="Parquet table of published properties; may be repeated")
    ],
    cache: Annotated[Path, typer.Option(help="Folder where the crystals' features are kept")],
    model: Annotated[
        str | None, typer.Option(help="Surrogate whose features are read; default: that of the models here")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Crystals of each property at most; default all")] = None,
    max_atoms: Annotated[int, typer.Option(help="Leave larger cells out")] = 60,
    folds: Annotated[int, typer.Option(min=1, max=5, help="How many of the five folds are done")] = 5,
    forests: Annotated[int, typer.Option(min=0, max=5, help="In how many a random forest is grown")] = 1,
    draws: Annotated[int, typer.Option(min=0, help="Of few values, at each size; 0: none")] = 3,
) -> None:
    """How well property models foretell, and what few values are worth with them. Goes on where it was."""
    import torch

    from benchmarks.properties.few_values import few_values
    from benchmarks.properties.five_fold import five_fold
    from csp.files import write_json
    from surrogates.properties import library
    from surrogates.properties.tables import read_values
    from surrogates.zoo import load_surrogate

    torch.set_flush_denormal(True)
    surrogate = load_surrogate(model) if model else library.load(FIRST).surrogate
    assert surrogate is not None
    values = read_values(
        structures, tables, surrogate, cache, limit=limit, max_atoms=max_atoms, log=console.print
    )
    figures = few_values(values, surrogate, out, draws=draws, log=console.print) if draws else {}
    write_json(out / "summary.json", figures)
    figures |= five_fold(values, out, folds=folds, forests=forests, log=console.print)
    write_json(out / "summary.json", figures)
    say_figures(figures)
