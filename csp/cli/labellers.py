"""`csp labellers`: what can compute reference energies here."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from csp.cli.console import in_options, output
from csp.errors import CspError

__all__ = ["app"]

app = typer.Typer(
    help="DFT codes and potentials that label crystals.", no_args_is_help=True, add_completion=False
)

LATTICE = 5.43  # Å, of the silicon that is tried


@app.callback()
def _group() -> None:
    """A group of commands, of which there is one so far."""


@app.command()
def check(
    name: Annotated[
        str | None, typer.Argument(help="gpaw, vasp, espresso or a potential; none: all known")
    ] = None,
) -> None:
    """Is a labeller installed, and does it give an energy for two atoms of silicon?"""
    from ase.build import bulk

    from csp.crystals import Crystals
    from surrogates.labellers import LABELLERS, load_labeller

    silicon = Crystals.from_atoms([bulk("Si", "diamond", a=LATTICE)])
    failed = False
    for one in [name] if name else LABELLERS:
        try:
            labeller = load_labeller(one)
        except CspError as error:
            if name:
                raise
            output.print(Text.assemble(f"{one:<10} ", ("not here:", "yellow"), f" {in_options(str(error))}"))
            continue
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            labels = labeller.compute(silicon, Path(folder))
        if labels.failed:
            output.print(Text.assemble(f"{one:<10} ", ("fails:", "red"), f" {labels.outcome[0]}"))
            failed = True
        else:
            seconds = time.monotonic() - started
            energy = float(labels.energy) / 2
            output.print(f"{one:<10} works: Si {energy:.3f} eV/atom in {seconds:.0f} s as {labeller.label}")
    if failed:
        raise typer.Exit(3)
