"""Options that several benchmarks have, and how they print their figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from csp.cli.console import console

__all__ = [
    "Energies",
    "Known",
    "KnownEnergies",
    "OthersKnown",
    "Prototyped",
    "Refiner",
    "Targets",
    "say_some",
]

Known = Annotated[Path, typer.Option(help="Parquet file of known crystals")]
Prototyped = Annotated[
    Path | None, typer.Option(help="Parquet file of known crystals; none: the AFLOW prototypes")
]
OthersKnown = Annotated[
    Path | None,
    typer.Option(
        help="Parquet file of known crystals; none: the AFLOW prototypes. The own composition is left out"
    ),
]
Refiner = Annotated[str, typer.Option(help="Potential that refines; auto: the best at hand")]
Targets = Annotated[
    str, typer.Option(help="Folder of CIFs of known crystals, or heldout: what is kept out of training")
]
KnownEnergies = Annotated[
    Path, typer.Option(help="Parquet table of formation energies: which polymorph is the answer")
]
Energies = Annotated[
    Path | None, typer.Option(help="Parquet table of formation energies: which polymorph is the answer")
]


def say_some(summary: dict[str, Any], names: tuple[str, ...]) -> None:
    """Some figures of a summary, in a line."""
    console.print("  ".join(f"{name} {summary[name]}" for name in names))
