"""`csp benchmark ablations`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.options import KnownEnergies
from csp.cli.console import console, output
from csp.cli.options import Device, Limit, Out

__all__ = ["ablations"]


def ablations(
    out: Out,
    structures: Annotated[Path, typer.Option(help="Parquet file of known crystals")],
    energies: KnownEnergies,
    virtual: Annotated[Path, typer.Option(help="Folder of virtual crystals (csp train labels)")],
    teacher_energies: Annotated[
        Path, typer.Option(help="Folder of the same, labelled by the teacher alone (--no-anchored)")
    ],
    pools: Annotated[Path, typer.Option(help="Folder pools of csp benchmark surrogate; filled if need be")],
    variants: Annotated[str | None, typer.Option(help="Only these, a,b; default: all")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of each network")] = 2000,
    seeds: Annotated[int, typer.Option(min=1, help="Networks of each variant")] = 3,
    limit: Limit = None,
    properties: Annotated[
        str | None,
        typer.Option(help="Learn these from the networks' features too, such as band_gap,bulk_modulus"),
    ] = None,
    tables: Annotated[
        list[Path] | None, typer.Option(help="Parquet table of published properties; may be repeated")
    ] = None,
    values: Annotated[
        int | None, typer.Option(min=1, help="Crystals of each property at most; default all")
    ] = None,
    device: Device = "auto",
) -> None:
    """What attention, its heads, three-body terms and the labels are worth to the surrogate."""
    from benchmarks.surrogate.ablations import Ablations

    benchmark = Ablations.begin(
        structures,
        energies,
        {"anchored": virtual, "teacher": teacher_energies},
        out,
        pools=pools,
        steps=steps,
        seeds=seeds,
        limit=limit,
        variants=variants.split(",") if variants else None,
        properties=properties.split(",") if properties else (),
        tables=tables or (),
        values=values,
        device=device,
    )
    benchmark.run(console.print)
    output.print((out / "table.md").read_text(encoding="utf-8"), end="")
