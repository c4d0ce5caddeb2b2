"""`csp benchmark generators` and `pools`: what generators propose, before a search chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.options import Energies, Known, Targets, say_some
from csp.cli.console import console
from csp.cli.options import Device, Limit, Out, Seed

__all__ = ["generators", "pools"]


def generators(
    out: Out,
    library: Known,
    targets: Targets = "heldout",
    energies: Energies = None,
    model: Annotated[
        str, typer.Option(help="What relaxes proposals for at most 50 steps too; none: nothing is relaxed")
    ] = "none",
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """How early do the template generators propose known crystals?"""
    from benchmarks.generation.templates import ARMS, KS, measure
    from csp.device import resolve_device
    from surrogates.zoo import load_model

    on = resolve_device(device)
    relaxer = None if model == "none" else load_model(model, on)
    found, name = measure(
        targets, library, energies, out, model=relaxer, limit=limit, seed=seed, say=console.print
    )
    for kind in ("", "_relaxed") if relaxer else ("",):
        for arm in ARMS:
            counts = "  ".join(f"@{k} {found[f'recall_at_{k}{kind}.{arm}.{name}']}" for k in KS)
            console.print(f"{arm + kind.replace('_', ' '):24} {counts}")
    say_some(found, (f"ceiling.{name}", f"n.{name}"))


def pools(
    out: Out,
    library: Known,
    targets: Targets = "heldout",
    energies: Energies = None,
    size: Annotated[int, typer.Option(min=1, help="Crystals in a pool")] = 500,
    surrogate: Annotated[str, typer.Option(help="Model that screens and relaxes")] = "xs",
    weights: Annotated[
        Path | None, typer.Option(help="Weights of a space-group model; default: the one that ships")
    ] = None,
    arms: Annotated[str, typer.Option(help="Generators of the pools, a,b")] = "learned,random",
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Does the learned space-group generator draw known crystals more often than chance does?"""
    from benchmarks.generation.pools import measure
    from csp.device import resolve_device
    from surrogates.zoo import load_model

    model = load_model(surrogate, resolve_device(device))
    found = measure(
        targets,
        library,
        energies,
        out,
        size=size,
        model=model,
        weights=weights,
        arms=arms.split(","),
        limit=limit,
        seed=seed,
        say=console.print,
    )
    say_some(found, tuple(key for key in found if "." in key))
