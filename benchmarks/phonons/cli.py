"""`csp benchmark phonons`: phonons of four crystals by potentials, beside DFT's."""

from __future__ import annotations

from typing import Annotated

import typer

from csp.cli.console import console, say_figures
from csp.cli.options import Device, Limit, Out, Seed

__all__ = ["phonons"]


def phonons(
    out: Out,
    models: Annotated[str, typer.Option(help="Potentials, a,b")] = "nequix-oam-1-pft,nequix-oam-1,chgnet",
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Are Si, NaCl and MgO stable, with DFT's frequencies, and does cubic SrTiO3 tilt?"""
    from benchmarks.phonons.benchmark import CRYSTALS, measure
    from csp.device import resolve_device
    from surrogates.zoo import load_model

    potentials = [load_model(name, resolve_device(device)) for name in models.split(",")]
    say_figures(measure(potentials, out, names=CRYSTALS[:limit], seed=seed, say=console.print))
