"""How early the template generators propose the truth: as proposed, and after short relaxations.

Three rankings of the same library: `template`, `metric_learning`, and `plain`, the reference: nearest
elements first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.targets import Known, held_out, in_folder, reachable
from csp.crystallography.operations import operations
from csp.crystals import Crystals
from csp.errors import InputError
from csp.files import write_json
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.matching.matcher import Matcher
from csp.protocols import EnergyModel, Generator
from csp.relaxation.relax import relax
from csp.target import Target
from generators.templates.assignments import Assignments
from generators.templates.metric_learning import MetricLearningGenerator
from generators.templates.pettifor import pettifor_scale
from generators.templates.prototypes import PrototypeIndex, Prototypes
from generators.templates.substitution import Substitution
from generators.templates.template import TemplateGenerator

__all__ = ["ARMS", "KS", "Placed", "measure", "place", "summary"]

KS = (1, 5, 10, 20, 100)
BATCHES = (10, 100)  # proposals are built and compared up to the first, then up to the second
HELD_OUT_TARGETS = 2000
MAX_STEPS = 50  # of a relaxation


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the answer for a target is.

    Attributes:
        rank: arm → place of the first of 100 proposals that matches it, None if none does.
        relaxed: The same of the proposals after at most 50 steps of relaxation; empty where none was asked
            for.
        reachable: Does any entry with any assignment match it?
        templates: Entries of its ratio.
    """

    formula: str
    rank: dict[str, int | None]
    relaxed: dict[str, int | None]
    reachable: bool
    templates: int


class PlainGenerator:
    """Entries by the mean difference of elements on the modified Pettifor scale, small cells and high
    symmetry first among equals, each structure once: what learned rankings are measured against."""

    name = "plain"

    def __init__(self, library: Library, volume: VolumePrior) -> None:
        self._library = library
        self._scale = pettifor_scale()
        index = PrototypeIndex(library)
        self.propose = Substitution(self.name, library, index, volume, self._evidence).propose

    def _evidence(
        self, target: Target, prototypes: Prototypes, assignments: Assignments
    ) -> NDArray[np.float64]:
        share = np.array(target.anonymous) / target.n_atoms
        new = self._scale[assignments.elements[assignments.orders]]
        distance = (np.abs(new - self._scale[prototypes.elements][:, None]) * share).sum(-1)  # [n, P]
        size, group = self._library.n_atoms[prototypes.rows], self._library.space_group[prototypes.rows]
        keys = [np.broadcast_to(x[:, None], distance.shape).ravel() for x in (-group, size)]
        order = np.lexsort([*keys, distance.round(6).ravel()])
        place = np.empty(len(order))
        place[order] = np.arange(len(order))
        return -100.0 * place.reshape(distance.shape)  # so far apart that the best entry alone decides


ARMS: Mapping[str, Callable[[Library, VolumePrior], Generator]] = {
    "template": TemplateGenerator,
    "metric_learning": MetricLearningGenerator,
    "plain": PlainGenerator,
}


def measure(
    targets: str,
    library: Path,
    energies: Path | None,
    out: Path,
    *,
    model: EnergyModel | None,
    limit: int | None,
    seed: int,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], str]:
    """Place the answers of a set; write `summary.json` and `generators.json` after every target.

    Args:
        targets: A folder of CIFs, or "heldout".
        model: What relaxes; None: nothing is relaxed.

    Returns:
        The summary and the name of the set.
    """
    opened = Library.open(library)
    if targets == "heldout":
        opened, found = held_out(opened, energies, seed)
        name, known = targets, list(islice(found, min(limit or HELD_OUT_TARGETS, HELD_OUT_TARGETS)))
    else:
        name, (opened, known) = Path(targets).name, in_folder(opened, Path(targets), limit)
    if not known:
        raise InputError(f"There is no target in {targets}.")
    arms = {arm: make(opened, VolumePrior.load()) for arm, make in ARMS.items()}
    told = {} if model is None else {"model": str(model.label)}
    placed: list[Placed] = []
    for k, one in enumerate(known, start=1):
        placed.append(place(one, opened, arms, model))
        ranks = "  ".join(f"{arm} {_places(placed[-1], arm)}" for arm in arms)
        say(f"{k:4d}/{len(known)}  {placed[-1].formula:20} {ranks}")
        counts = {"seed": seed, "library": opened.fingerprint, **told, **summary(placed, name)}
        write_json(out / "summary.json", counts)
        write_json(out / "generators.json", {"targets": [asdict(p) for p in placed]})
    return counts, name


def place(
    known: Known, library: Library, arms: Mapping[str, Generator], model: EnergyModel | None = None
) -> Placed:
    """Ask every arm for the target."""
    rank = {name: _rank(known, generator) for name, generator in arms.items()}
    relaxed = {name: _rank(known, generator, model) for name, generator in arms.items() if model}
    found = any(r is not None for r in rank.values()) or reachable(known, library)
    return Placed(known.target.formula, rank, relaxed, found, len(library.rows(known.target.anonymous)))


def summary(placed: Iterable[Placed], name: str) -> dict[str, Any]:
    """Flat counts of a set of this name."""
    listed = list(placed)
    kinds = {"": [p.rank for p in listed], "_relaxed": [p.relaxed for p in listed if p.relaxed]}
    found = {
        f"recall_at_{k}{kind}.{arm}.{name}": sum((rank[arm] or KS[-1] + 1) <= k for rank in ranks)
        for kind, ranks in kinds.items()
        if ranks
        for arm in ARMS
        for k in KS
    }
    return found | {f"ceiling.{name}": sum(p.reachable for p in listed), f"n.{name}": len(listed)}


def _places(placed: Placed, arm: str) -> str:
    kinds = (placed.rank, placed.relaxed) if placed.relaxed else (placed.rank,)
    return "/".join(str(ranks[arm] or "-") for ranks in kinds)


def _rank(known: Known, generator: Generator, model: EnergyModel | None = None) -> int | None:
    """Place of the first of 100 proposals that matches (default StructureMatcher), relaxed if by a model."""
    start = 0
    for end in BATCHES:
        proposals = generator.propose(known.target, end - start, seed=0, start=start)
        crystals = proposals.crystals if model is None else _relaxed(proposals.crystals, model)
        hits = Matcher.DEFAULT.fits(known.crystal, crystals).nonzero().flatten()
        if len(hits):
            return proposals.provenance[int(hits[0])].index + 1
        start = end
    return None


def _relaxed(crystals: Crystals, model: EnergyModel) -> Crystals:
    """The ends of short relaxations that keep the symmetry."""
    symmetry = operations(crystals).to(model.device)
    return relax(crystals.to(model.device), model, max_steps=MAX_STEPS, symmetry=symmetry).crystals.to("cpu")
