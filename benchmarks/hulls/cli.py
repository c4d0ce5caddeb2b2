"""`csp benchmark hulls`: are known crystals as stable by a potential's own hull as published?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csp.cli.console import console
from csp.cli.options import Device, Out, Seed

__all__ = ["hulls"]


def hulls(
    out: Out,
    library: Annotated[Path, typer.Option(help="Parquet file of known crystals")],
    stability: Annotated[
        Path, typer.Option(help="Parquet table of their distances from the hull by DFT (e_above_hull)")
    ],
    relaxer: Annotated[
        str, typer.Option(help="Potential that relaxes and whose hull it is")
    ] = "nequix-oam-1",
    limit: Annotated[int, typer.Option(min=1, help="So many stable and so many unstable crystals")] = 200,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Are stable crystals on a potential's own hull, and unstable ones as far above it as published?"""
    from benchmarks.hulls.benchmark import measure
    from csp.device import resolve_device
    from surrogates.zoo import load_model

    model = load_model(relaxer, resolve_device(device))
    found = measure(library, stability, out, model, limit=limit, seed=seed, say=console.print)
    for name, value in found.items():
        console.print(f"{name:36} {value}")
