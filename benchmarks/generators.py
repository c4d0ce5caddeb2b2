"""How early the template generators propose the truth: as proposed, and after short relaxations.

Three rankings of the same library: `template`, `metric_learning`, and `plain`, the reference: nearest
elements first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.files import read_energies, write_json, write_text
from benchmarks.truths import read_truths
from csp.crystals import Crystals
from csp.errors import InputError
from csp.heldout import HELD_OUT, composition_name, fold, hashed
from csp.library import Library
from csp.matcher import Matcher
from csp.protocols import EnergyModel, Generator
from csp.relax import relax
from csp.symmetry import operations, primitive
from csp.target import Target
from csp.volume import VolumePrior
from generators.candidates import Assignments
from generators.metric_learning import MetricLearningGenerator
from generators.prototypes import PrototypeIndex, Prototypes
from generators.scale import pettifor_scale
from generators.substitution import Substitution
from generators.template import TemplateGenerator

__all__ = [
    "ARMS",
    "KS",
    "Known",
    "Placed",
    "held_out",
    "in_folder",
    "measure",
    "place",
    "reachable",
    "summary",
    "write_held_out",
]

KS = (1, 5, 10, 20, 100)
BATCHES = (10, 100)  # proposals are built and compared up to the first, then up to the second
HELD_OUT_TARGETS = 2000
MAX_ATOMS = 100
SYMPREC = 0.05
MAX_STEPS = 50  # of a relaxation


@dataclass(frozen=True, slots=True)
class Known:
    """A target and its answer, a primitive cell."""

    target: Target
    crystal: Crystals


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the answer for a target is.

    rank       arm → place of the first of 100 proposals that matches it, None if none does
    relaxed    the same of the proposals after at most 50 steps of relaxation; empty where none was asked for
    reachable  does any entry with any assignment match it?
    templates  entries of its ratio
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

    targets: a folder of CIFs, or "heldout"; model: what relaxes, None: nothing is relaxed.
    Returns the summary and the name of the set.
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


def in_folder(library: Library, folder: Path, limit: int | None) -> tuple[Library, list[Known]]:
    """The truths of a folder of CIFs, and the library without all their compositions."""
    truths = read_truths(folder).truths
    targets = [Target.parse(t.formula, max_atoms=max(MAX_ATOMS, int(t.crystal.n_atoms[0]))) for t in truths]
    known = [Known(target, truth.crystal) for target, truth in zip(targets, truths, strict=True)]
    return library.excluding(*targets), known[:limit]


def held_out(
    library: Library, energies: Path | None, seed: int, max_atoms: int = MAX_ATOMS, entries: int = 1
) -> tuple[Library, Iterator[Known]]:
    """Compositions of the held-out fold with their answers, and the library without any of the fold.

    The answer is the entry of the lowest known formation energy; where none is known, the only entry. A
    composition with several entries and no energy has no answer and is no target. Targets come in the
    order of the hash of their name and the seed; answers of more than `max_atoms` a cell and compositions
    with fewer `entries` are left out.
    """
    rows = library.all_rows()
    numbers, counts = library.compositions(rows)
    names = [composition_name(z, n) for z, n in zip(numbers.tolist(), counts.tolist(), strict=True)]
    of_name: dict[str, list[int]] = {}
    for row, name in zip(rows.tolist(), names, strict=True):
        if fold(name) == HELD_OUT:
            of_name.setdefault(name, []).append(row)
    known_energy = read_energies(energies) if energies is not None else {}
    hidden = np.array([row for members in of_name.values() for row in members])

    def known() -> Iterator[Known]:
        for name in sorted(of_name, key=lambda name: hashed(f"{seed} {name}")):
            answer = _answer(library, of_name[name], known_energy)
            if answer is not None and len(of_name[name]) >= entries and library.n_atoms[answer] <= max_atoms:
                crystal = primitive(library.crystals([answer]), SYMPREC)
                formula = crystal.structures()[0].composition.reduced_formula
                yield Known(Target.parse(formula, max_atoms=MAX_ATOMS), crystal)

    return library.hiding(np.union1d(library.hidden, hidden)), known()


def write_held_out(
    library: Path | None, energies: Path | None, out: Path, n: int, max_atoms: int, entries: int, seed: int
) -> int:
    """Write the answers of the first n held-out compositions (`held_out`) as FORMULA.cif; their number."""
    from pymatgen.io.cif import CifWriter

    known = list(islice(held_out(Library.open(library), energies, seed, max_atoms, entries)[1], n))
    for one in known:
        write_text(out / f"{one.target.formula}.cif", str(CifWriter(one.crystal.structures()[0])))
    return len(known)


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


def reachable(known: Known, library: Library) -> bool:
    """Is any entry of the target's ratio, with its elements in any order in its places, the answer?"""
    anonymous = known.target.anonymous
    rows = library.rows(anonymous)
    fits = library.n_atoms[rows] % int(known.crystal.n_atoms[0]) == 0
    rows, elements = rows[fits], library.elements(anonymous)[fits]
    assignments = Assignments.of(known.target)
    for numbers in assignments.elements[assignments.orders]:
        entries = library.crystals(rows)
        places = (entries.numbers.numpy()[:, None] == elements[entries.batch.numpy()]).argmax(1)
        placed = Crystals(
            entries.cell, entries.frac, entries.numbers.new_tensor(numbers[places]), entries.offsets
        )
        if bool(Matcher.DEFAULT.fits(known.crystal, placed).any()):
            return True
    return False


def _answer(library: Library, rows: list[int], energies: Mapping[str, float]) -> int | None:
    known = [(energies[name], row) for row in rows if (name := str(library.material_id[row])) in energies]
    if known:
        return min(known)[1]
    return rows[0] if len(rows) == 1 else None
