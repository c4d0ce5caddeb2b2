"""`csp benchmark calibration` and `differences`: how sure rankings are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csp.cli.console import console, say_figures
from csp.cli.options import Device, Out, Seed
from csp.errors import InputError

__all__ = ["calibration", "differences"]


def calibration(
    out: Out,
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Out folders of recovery benchmarks over held-out targets")
    ] = None,
    targets: Annotated[Path | None, typer.Option(help="Folder of their CIFs")] = None,
    library: Annotated[
        Path | None, typer.Option(help="Parquet file of known crystals; none: the AFLOW prototypes")
    ] = None,
    earlier: Annotated[
        Path | None,
        typer.Option(help="ranked_features.jsonl of earlier such searches, to be judged with these"),
    ] = None,
) -> None:
    """Does the order by probability find more than that by energy? And weights fitted to the searches."""
    from benchmarks.calibration.benchmark import measure

    if runs and targets is None:
        raise InputError("--targets is missing: the folder of CIFs that the runs were over.")
    if not runs and earlier is None:
        raise InputError(
            "There is nothing to judge: name the out folders of recovery benchmarks, or --earlier."
        )
    found = measure(runs or [], targets, library, out, console.print, earlier)
    say_figures(found)


def differences(
    out: Out,
    library: Annotated[Path, typer.Option(help="Parquet file of known crystals")],
    energies: Annotated[Path, typer.Option(help="Parquet table of their formation energies by DFT")],
    relaxer: Annotated[str, typer.Option(help="Potential whose differences are judged")] = "nequix-oam-1",
    others: Annotated[
        str,
        typer.Option(help="Models whose disagreement tells of errors: surrogate,second opinion"),
    ] = "xs,chgnet",
    limit: Annotated[int, typer.Option(min=10, help="So many compositions")] = 400,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """How far are energy differences from DFT's? And intervals for them, fitted and judged."""
    from benchmarks.calibration.differences import measure
    from csp.device import resolve_device
    from surrogates.zoo import load_model

    models = [load_model(name, resolve_device(device)) for name in (relaxer, *others.split(","))]
    found = measure(library, energies, out, models, limit=limit, seed=seed, say=console.print)
    say_figures(found)
