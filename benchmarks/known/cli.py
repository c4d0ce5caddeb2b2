"""`csp benchmark known`: what is known of a composition is kept and leads its ranking."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csp.cli.console import console, say_figures
from csp.cli.options import Device, Out, Seed

__all__ = ["known"]


def known(
    out: Out,
    library: Annotated[Path, typer.Option(help="Parquet file of known crystals")],
    energies: Annotated[Path, typer.Option(help="Parquet table of their formation energies by DFT, eV/atom")],
    formulas: Annotated[str | None, typer.Option(help="Compositions, a,b; default: ten")] = None,
    effort: Annotated[str, typer.Option(help="quick or standard")] = "standard",
    relaxer: Annotated[str, typer.Option(help="Potential that refines and ranks; none: no other")] = "auto",
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Are all known crystals of a composition relaxed, and is the lowest by DFT first or near it?"""
    from benchmarks.known.benchmark import FORMULAS, measure

    chosen = tuple(formulas.split(",")) if formulas else FORMULAS
    settings = {"effort": effort, "relaxer": relaxer, "seed": seed, "hull": False}
    found = measure(library, energies, chosen, out, settings, device=device, say=console.print)
    say_figures(found)
