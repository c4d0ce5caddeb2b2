"""`csp benchmark baselines`: the engine beside other programs at equal time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from csp.cli.console import console, output
from csp.cli.options import Limit, Out, Seed

__all__ = ["baselines"]


def baselines(
    out: Out,
    targets: Annotated[
        Path | None,
        typer.Option(
            help="Folder of CIFs of known crystals, or a CSV table of their ids in the Materials Project; "
            "default: 18 compositions by their ids"
        ),
    ] = None,
    library: Annotated[
        list[Path] | None,
        typer.Option(
            help="Parquet file that has the crystals of a table; repeatable; none: they are asked for"
        ),
    ] = None,
    arms: Annotated[
        str | None,
        typer.Option(help="Searches, a,b: pyxtal, airss, cryspy_rs, cryspy_ea, ours; default: all"),
    ] = None,
    minutes: Annotated[float, typer.Option(help="Of one core, for a search and a target")] = 10.0,
    relaxer: Annotated[
        str, typer.Option(help="Potential that all relax by; auto: the best at hand")
    ] = "auto",
    max_atoms: Annotated[
        int, typer.Option(help="In the primitive cell of a target, and of what others than ours propose")
    ] = 16,
    limit: Limit = None,
    seed: Seed = 0,
) -> None:
    """Which known crystals do PyXtal, random cells, CrySPY and ours find in equal time, and when first?"""
    from benchmarks.equal_time.benchmark import EqualTime, EqualTimeSettings

    given = {"targets": targets, "arms": tuple(arms.split(",")) if arms else None}
    settings = EqualTimeSettings.read(
        libraries=tuple(library or ()),
        minutes=minutes,
        relaxer=relaxer,
        max_atoms=max_atoms,
        seed=seed,
        **{name: value for name, value in given.items() if value is not None},
    )
    EqualTime.begin(settings, out).run(console.print, limit)
    output.print((out / "table.md").read_text(encoding="utf-8"), end="")
    console.print(f"{out}/table.md, outcomes.jsonl and summary.json are written.")
