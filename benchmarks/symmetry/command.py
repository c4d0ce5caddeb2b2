"""`csp benchmark symmetry`: what is saved where models are told of symmetry and of earlier pairs."""

from __future__ import annotations

from benchmarks.options import OthersKnown, Refiner
from csp.cli.console import console, output
from csp.cli.options import Limit, Out, Seed

__all__ = ["symmetry"]


def symmetry(
    out: Out,
    library: OthersKnown = None,
    relaxer: Refiner = "auto",
    limit: Limit = None,
    seed: Seed = 0,
) -> None:
    """How much faster is a search whose models compute one atom of each orbit and keep their pairs?"""
    from benchmarks.symmetry.benchmark import SymmetryBenchmark, held_out

    benchmark = SymmetryBenchmark.begin(out, library=library, relaxer=relaxer, seed=seed)
    benchmark.run(held_out(20 if limit is None else limit), console.print)
    output.print((out / "table.md").read_text(encoding="utf-8"), end="")
    console.print(f"{out}/table.md and summary.json are written.")
