"""Which move is made on which low crystal, and whether what comes of it can be a start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from csp.crystallography.neighbours import plausible
from csp.crystallography.symmetry import primitive, space_groups
from csp.crystals import Crystals
from csp.protocols import Proposals, Provenance
from csp.search.moves.distortion import strained_and_rattled
from csp.search.moves.exchange import with_elements_exchanged
from csp.search.moves.halving import halved
from csp.search.moves.heredity import child
from csp.search.moves.stacking import restacked
from csp.search.moves.subgroups import into_doubled_cell, into_subgroup
from csp.target import Target

__all__ = ["MOVED", "MOVES", "moved"]

MOVED = "moves"  # as the name of a generator

Move = Callable[[Crystals, np.random.Generator], Crystals | None]

MOVES: Mapping[str, tuple[float, Move]] = {
    "into a subgroup": (3.0, into_subgroup),
    "into a doubled cell": (2.0, into_doubled_cell),
    "elements exchanged": (2.0, with_elements_exchanged),
    "strained and rattled": (2.0, strained_and_rattled),
    "halved": (1.0, halved),
    "layers restacked": (2.0, restacked),
    "of two parents": (1.0, child),
}
"""By what people read: how often each is tried, relative to the others, and the move. The last takes two."""

TRIES = 8  # moves at other crystals, or other moves, until one gives a start
HEAD = 4.0  # ranks over which parents are chosen about equally often
SYMPREC = 1e-3  # Å, for the primitive cell of what a move made: symmetry is exact or not there


def moved(
    target: Target,
    parents: Crystals,
    index: range,
    *,
    seed: Sequence[int],
    volume_per_atom: float,
    min_distance: float,
) -> Proposals:
    """Moves on low crystals, lowest first; what is made obeys the target and keeps atoms apart.

    Candidate i depends only on the parents, the seed and i. Failed are "immovable": no move led anywhere.

    Args:
        parents: The crystals, lowest first.
        seed: Numbers that name the search and the round.
        volume_per_atom: Å³, what plausibility is measured by.
        min_distance: Between atoms, as a share of the sum of their covalent radii.
    """
    names = list(MOVES)
    weight = np.array([MOVES[name][0] for name in names])
    odds = 1 / (HEAD + np.arange(len(parents)))
    made, provenance = list[Crystals](), list[Provenance]()
    for i in index if len(parents) else ():
        rng = np.random.default_rng([*seed, i])
        for _ in range(TRIES):
            name = names[rng.choice(len(names), p=weight / weight.sum())]
            one, other = rng.choice(len(parents), 2, p=odds / odds.sum())
            chosen = parents[[int(one), int(other)]] if name == names[-1] else parents[int(one)]
            if name == names[-1] and one == other:
                continue
            start = MOVES[name][1](chosen, rng)
            start = None if start is None else _sound(target, start, volume_per_atom, min_distance)
            if start is not None:
                made.append(start)
                provenance.append(_provenance(start, name, int(one), i, seed))
                break
    lost = len(index) - len(made)
    return Proposals(
        Crystals.cat(made), provenance, len(index), Counter(immovable=lost) if lost else Counter()
    )


def _sound(target: Target, start: Crystals, volume_per_atom: float, min_distance: float) -> Crystals | None:
    """The primitive cell of a start; None where it is none for this target."""
    if not bool(start.cell.isfinite().all()) or not bool(
        plausible(start, volume_per_atom, min_distance=min_distance)[0]
    ):
        return None
    start = primitive(start, SYMPREC)
    if int(start.n_atoms[0]) // target.n_atoms not in target.formula_units:
        return None
    if target.space_groups is not None and space_groups(start, SYMPREC)[0] not in target.space_groups:
        return None
    return start


def _provenance(start: Crystals, name: str, parent: int, index: int, seed: Sequence[int]) -> Provenance:
    return Provenance(
        generator=MOVED,
        index=index,
        seed=seed[0],
        space_group=space_groups(start, SYMPREC)[0],
        why=f"{name}, from number {parent + 1} by energy",
    )
