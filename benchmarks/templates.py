"""How early the template generator proposes the truth, nothing relaxed.

python -m benchmarks.templates LIBRARY [--targets FOLDER] [--heldout N]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.truths import DEFAULT_FOLDER, read_truths
from csp.crystals import Crystals
from csp.library import Library
from csp.matcher import Matcher
from csp.symmetry import primitive
from csp.target import Target
from csp.volume import VolumePrior
from generators.template import TemplateGenerator

__all__ = ["RANKS", "heldout", "recall", "truth_ranks"]

RANKS = (1, 5, 10, 20, 50, 100)
SYMPREC = 0.05


def heldout(library: Library, n: int, *, seed: int = 0) -> Iterator[tuple[str, Crystals]]:
    """n library entries that are the only one of their composition, drawn at random: (formula, crystal).

    A composition with one entry is more often a known compound than one with many.
    """
    rows = library.all_rows()
    numbers, counts = library.compositions(rows)
    _, kind, amount = np.unique(np.hstack([numbers, counts]), axis=0, return_inverse=True, return_counts=True)
    single = rows[(amount[kind.reshape(-1)] == 1) & (library.n_atoms[rows] <= 100)]
    for row in np.random.default_rng(seed).permutation(single)[:n].tolist():
        crystal = library.crystals([row])
        formula = crystal.structures()[0].composition.reduced_formula
        yield formula, primitive(crystal, SYMPREC)


def truth_ranks(
    truths: Iterable[tuple[str, Crystals]], library: Library, volume: VolumePrior, n: int = RANKS[-1]
) -> dict[str, int | None]:
    """Place of the first of n proposals that matches the truth (default StructureMatcher), None if none does.

    The truth's composition is left out of the library.
    """
    ranks: dict[str, int | None] = {}
    for formula, truth in truths:
        target = Target.parse(formula, max_atoms=max(100, int(truth.n_atoms[0])))
        generator = TemplateGenerator(library.excluding(target), volume)
        proposed = generator.propose(target, n, seed=0).crystals
        hits = Matcher.DEFAULT.fits(truth, proposed).nonzero().flatten()
        ranks[formula] = int(hits[0]) + 1 if len(hits) else None
    return ranks


def recall(ranks: dict[str, int | None]) -> dict[int, int]:
    """How many have their truth among the first 1, 5, 10, ... proposals."""
    return {k: sum(rank is not None and rank <= k for rank in ranks.values()) for k in RANKS}


def main(
    library: Path,
    targets: Annotated[Path, typer.Option(help="Folder of CIFs with the truths")] = DEFAULT_FOLDER,
    held_out: Annotated[int, typer.Option("--heldout", help="Library entries instead of the folder")] = 0,
) -> None:
    """Print, for each truth, at which place it is proposed, and how many are among the first."""
    opened = Library.open(library)
    truths = (
        heldout(opened, held_out)
        if held_out
        else ((truth.formula, truth.crystal) for truth in read_truths(targets).truths)
    )
    ranks = truth_ranks(truths, opened, VolumePrior.load())
    for formula, rank in ranks.items():
        typer.echo(f"{formula:20s} {rank or '-'}")
    typer.echo(" ".join(f"@{k}: {count}" for k, count in recall(ranks).items()) + f" of {len(ranks)}")


if __name__ == "__main__":
    typer.run(main)
