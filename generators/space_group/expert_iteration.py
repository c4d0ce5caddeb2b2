"""Expert iteration: the space-group model learns from its own crystals that turned out to be good.

For compositions of the training folds the model draws, the surrogate relaxes the best, and those that are
low and are no crystal of the library are described as the library's are. The result is a table to train on
beside the library's, in shards of some compositions each; those that exist are not made again. (Anthony, Tian
& Barber, arXiv:1705.08439: imitate what a search finds; here the search is screening and relaxation.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from csp.crystallography.neighbours import plausible
from csp.crystals import Crystals
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.matching.fingerprints import unique
from csp.matching.matcher import Matcher
from csp.protocols import EnergyModel, Generator
from csp.relaxation.relax import relax_symmetric
from csp.target import Target
from csp.training.splits import HELD_OUT, VALIDATION, composition_name, fold, hashed
from generators.space_group.dataset import described, origin_is, write_shard

__all__ = ["Expert", "build_expert_table", "good"]

SHARD = 50  # compositions
SYMPREC = 0.05  # Å, of the descriptions


@dataclass(frozen=True, slots=True)
class Expert:
    """How crystals to learn from are found.

    Attributes:
        drawn: Candidates for a composition.
        relaxed: Of them, the lowest by single points.
        max_steps: Of a relaxation.
        window: eV/atom, over the lowest known or found crystal of the composition.
        max_atoms: In the primitive cell, of what is drawn; compositions whose known crystals are all larger
            are left out.
    """

    drawn: int = 100
    relaxed: int = 24
    max_steps: int = 60
    window: float = 0.05
    max_atoms: int = 20
    seed: int = 0


def build_expert_table(
    library: Library,
    generator: Generator,
    model: EnergyModel,
    out: Path,
    *,
    compositions: int,
    exclude: set[str],
    expert: Expert,
    origin: dict[str, object],
    log: Callable[[str], None] = print,
) -> Counter[str]:
    """Find crystals for as many compositions of the training folds, taken at random.

    Args:
        exclude: Compositions, as `csp.training.splits.composition_name` writes them.
        origin: What else the table follows from.
        log: Gets a line on each shard.

    Returns:
        What became of the candidates.

    Raises:
        InputError: `out` holds a table of other origin.
    """
    out.mkdir(parents=True, exist_ok=True)
    origin_is(out, {**asdict(expert), "library": library.fingerprint, "model": str(model.label), **origin})
    volume = VolumePrior.load()
    chosen = _compositions(library, model.elements, exclude, expert)[:compositions]
    total: Counter[str] = Counter()
    for shard in range(-(-len(chosen) // SHARD)):
        path = out / f"shard-{shard:04d}.npz"
        if path.exists():
            continue
        counts: Counter[str] = Counter()
        crystals, ids = [Crystals.empty()], []
        for rows in chosen[shard * SHARD : (shard + 1) * SHARD]:
            known = library.crystals(rows)
            found = good(known, generator, model, volume, expert, counts)
            crystals.append(found)
            ids += [f"{library.material_id[rows[0]]}-{k}" for k in range(len(found))]
        table, made = described(Crystals.cat(crystals), np.array(ids, np.str_), SYMPREC)
        write_shard(path, table, made)
        total += counts + made
        log(f"{path.name}: {dict(counts)}, {dict(made)}")
    return total


def good(
    known: Crystals,
    generator: Generator,
    model: EnergyModel,
    volume: VolumePrior,
    expert: Expert,
    counts: Counter[str],
) -> Crystals:
    """Distinct crystals that the generator draws for the composition of the known ones, relaxed, none of them
    known and none more than the window above the lowest."""
    formula = known[0].structures()[0].composition.reduced_formula
    target = Target.parse(formula, max_atoms=max(expert.max_atoms, int(known.n_atoms.min())))
    per_atom = volume.predict(target.numbers, target.counts) / target.n_atoms
    drawn = generator.propose(target, expert.drawn, seed=expert.seed).crystals
    distinct = drawn[plausible(drawn, per_atom)]
    distinct = distinct[unique(distinct) == torch.arange(len(distinct))]
    relaxed, energy = distinct, torch.zeros(0, dtype=torch.float64)
    if len(distinct):
        single = model.evaluate(distinct).energy.cpu() / distinct.n_atoms
        relaxed, energy, _ = relax_symmetric(
            distinct[single.argsort()[: expert.relaxed]], model, expert.max_steps
        )
    references, level, _ = relax_symmetric(known, model, expert.max_steps)
    energy, level = energy / relaxed.n_atoms, level / references.n_atoms
    within = energy <= torch.cat([energy, level]).amin() + expert.window if len(energy) else energy > 0
    low = relaxed[energy.argsort()[: int(within.sum())]]
    everything = Crystals.cat([references, low])
    first = Matcher.DEFAULT.group(everything) == torch.arange(len(everything))
    new = low[first[len(references) :]]
    counts.update(compositions=1, drawn=len(drawn), relaxed=len(relaxed), low=len(low), new=len(new))
    return new


def _compositions(
    library: Library, elements: frozenset[int], exclude: set[str], expert: Expert
) -> list[NDArray[np.int64]]:
    """Rows of the library of each composition of the training folds and the elements that has a crystal of at
    most `max_atoms`, in the order of a hash of their names and the seed."""
    rows = library.all_rows()
    rows = rows[library.n_atoms[rows] <= expert.max_atoms]
    numbers, counts = library.compositions(rows)
    known = (np.isin(numbers, list(elements)) | (counts == 0)).all(1)
    rows, numbers, counts = rows[known], numbers[known], counts[known]
    of_name: dict[str, list[int]] = {}
    for row, z, n in zip(rows.tolist(), numbers.tolist(), counts.tolist(), strict=True):
        of_name.setdefault(composition_name(z, n), []).append(row)
    names = [n for n in of_name if n not in exclude and fold(n) not in (HELD_OUT, VALIDATION)]
    names.sort(key=lambda name: hashed(f"{expert.seed} {name}"))
    return [np.array(of_name[name]) for name in names]
