"""Does a pool of virtual crystals hold the answer: the learned space-group generator against chance.

No template is used. As in a search, the distinct crystals of a pool get single points of a surrogate and go a
few steps downhill, and the lowest before and after are relaxed; the answer counts as proposed under loose
tolerances, as found under the default ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.files import changed
from benchmarks.generation import space_group
from benchmarks.generation.validity import Exact, exact
from benchmarks.targets import Known, held_out, in_folder, reachable
from csp.crystallography.neighbours import plausible
from csp.crystals import Crystals
from csp.errors import InputError
from csp.files import write_json
from csp.library.energies import read_energies
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.matching.duplicates import SAME_ENERGY
from csp.matching.fingerprints import unique
from csp.matching.matcher import Matcher
from csp.protocols import EnergyModel, Generator
from csp.ranking.rank import order
from csp.relaxation.relax import relax_symmetric
from csp.search.pool import round_robin
from csp.search.search import PRE_RELAX_STEPS
from csp.training.cards import shipped
from generators.random_symmetric.generator import RandomGenerator
from generators.space_group.generator import SpaceGroupGenerator

__all__ = ["ARMS", "Pooled", "measure", "pooled", "summary"]

SMALL, LARGEST = 20, 40  # atoms in the primitive cell: of a held-out answer, of what is drawn for it
HELD_OUT_TARGETS, NEW_PROTOTYPES = 100, 50
RELAXED = 50  # best distinct crystals of a pool
MAX_STEPS = 30  # of a relaxation, those downhill before included

ARMS: Mapping[str, Callable[[Library, VolumePrior, Path | None], Generator]] = {
    "learned": SpaceGroupGenerator,
    "random": lambda library, volume, weights: RandomGenerator(library, volume),
}


@dataclass(frozen=True, slots=True)
class Pooled:
    """What became of one target's pool of one generator.

    Attributes:
        built: Crystals in the pool.
        distinct: Plausible and different ones among them.
        proposed: Matches among those built, loose tolerances.
        rank: Place by energy of the first match among the relaxed, default tolerances; None: there is none.
        exact: How many of those built are what they say they are.
    """

    built: int
    distinct: int
    proposed: int
    rank: int | None
    exact: Exact


def measure(
    targets: str,
    library: Path,
    energies: Path | None,
    out: Path,
    *,
    size: int,
    model: EnergyModel,
    weights: Path | None,
    arms: Sequence[str] = tuple(ARMS),
    limit: int | None,
    seed: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Pools of `size` crystals; `summary.json` and `pools.json` are written after every target, and targets
    that are there already are not done again.

    Args:
        targets: A folder of CIFs, or "heldout": of the fold that no training uses, with answers of at most 20
            atoms a cell, 100 compositions ("heldout20") and 50 whose structure no entry of the library has
            under any other composition ("new_prototype"), cells of at most 40 atoms being drawn.
        size: Crystals of each pool.
        weights: Of a space-group model; None: the one that ships.
        arms: Which of `ARMS`.
        limit: So many targets of each set.

    Returns:
        The summary.

    Raises:
        InputError: A set has no target, an arm is not in `ARMS`, or the folder is of other pools.
    """
    if unknown := [arm for arm in arms if arm not in ARMS]:
        raise InputError(f"No pools are drawn by {', '.join(unknown)!r}; choose among {', '.join(ARMS)}.")
    opened, known = _targets(targets, Library.open(library), energies, limit, seed)
    volume = VolumePrior.load()
    found: dict[str, Any] = {"seed": seed, "library": opened.fingerprint, "pool": size}
    found |= {"model": str(model.label), "generator": _sha256(weights or shipped("space_group"))}
    found |= {"arms": ",".join(arms)}
    if changed(out / "summary.json", found):
        raise InputError(f"{out} holds pools of other settings or models; choose another folder.")
    rows = _done(out / "pools.json")
    if targets == "heldout":
        of_entries = read_energies(energies) if energies else {}
        found |= space_group.measure(
            Library.open(library), of_entries, weights or shipped("space_group"), seed
        )
    generators = {arm: ARMS[arm](opened, volume, weights) for arm in arms}
    for name, one in known:
        if any((row["set"], row["formula"]) == (name, one.target.formula) for row in rows):
            continue
        per_atom = volume.predict(one.target.numbers, one.target.counts) / one.target.n_atoms
        pools = {arm: pooled(one, made, model, size, per_atom, seed) for arm, made in generators.items()}
        rows.append({"set": name, "formula": one.target.formula} | {a: asdict(p) for a, p in pools.items()})
        told = "  ".join(f"{arm} {p.proposed} proposed, rank {p.rank or '-'}" for arm, p in pools.items())
        say(f"{len(rows):4d}  {name:14} {one.target.formula:20} {told}")
        found |= summary(rows)
        write_json(out / "summary.json", found)
        write_json(out / "pools.json", {"targets": rows})
    if not rows:
        raise InputError(f"There is no target in {targets}.")
    return found


def pooled(
    known: Known, generator: Generator, model: EnergyModel, size: int, volume_per_atom: float, seed: int
) -> Pooled:
    """Draw, screen, relax and look for the answer."""
    proposals = generator.propose(known.target, size, seed=seed)
    built = proposals.crystals
    proposed = int(Matcher.LOOSE.fits(known.crystal, built).sum())
    distinct = built[plausible(built, volume_per_atom)]
    distinct = distinct[unique(distinct) == torch.arange(len(distinct))]
    screened = model.evaluate(distinct).energy.cpu()
    pre_relaxed, energy, good = relax_symmetric(distinct, model, PRE_RELAX_STEPS)
    met = unique(pre_relaxed, energies=energy / pre_relaxed.n_atoms, energy_tolerance=SAME_ENERGY).tolist()
    ways = _by_energy(distinct[good], screened[good]), _by_energy(pre_relaxed, energy)
    best = round_robin([list(dict.fromkeys(met[k] for k in way)) for way in ways], RELAXED)
    crystals, energy, _ = relax_symmetric(pre_relaxed[best], model, MAX_STEPS - PRE_RELAX_STEPS)
    ranked = crystals[_by_energy(crystals, energy)]
    ranked = ranked[unique(ranked) == torch.arange(len(ranked))]
    hits = Matcher.DEFAULT.fits(known.crystal, ranked).nonzero().flatten().tolist()
    rank = hits[0] + 1 if hits else None
    return Pooled(len(built), len(distinct), proposed, rank, exact(known.target, proposals))


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Flat counts, each `.arm.set`: `proposed_in_pool`, `found_in_pool`, `found_at_10`; and `n.set`. Shares
    of the crystals: `composition_exact`, `group_kept` where a coordinate is free, `group_or_above`."""
    counts: dict[str, float] = {}
    for name in dict.fromkeys(row["set"] for row in rows):
        own = [row for row in rows if row["set"] == name]
        for arm in (arm for arm in ARMS if arm in own[0]):
            ranks = [row[arm]["rank"] for row in own]
            counts[f"proposed_in_pool.{arm}.{name}"] = sum(row[arm]["proposed"] > 0 for row in own)
            counts[f"found_in_pool.{arm}.{name}"] = sum(rank is not None for rank in ranks)
            counts[f"found_at_10.{arm}.{name}"] = sum(rank is not None and rank <= 10 for rank in ranks)
            built = sum(row[arm]["built"] for row in own)
            kept = {key: sum(row[arm]["exact"][key] for row in own) for key in Exact.__slots__}
            counts[f"composition_exact.{arm}.{name}"] = kept["composition"] / max(built, 1)
            counts[f"group_kept.{arm}.{name}"] = kept["same"] / max(kept["free"], 1)
            counts[f"group_or_above.{arm}.{name}"] = kept["above"] / max(built, 1)
        counts[f"n.{name}"] = len(own)
    return counts


def _targets(
    targets: str, library: Library, energies: Path | None, limit: int | None, seed: int
) -> tuple[Library, Iterator[tuple[str, Known]]]:
    if targets != "heldout":
        opened, known = in_folder(library, Path(targets), limit)
        return opened, ((Path(targets).name, one) for one in known)
    opened, found = held_out(library, energies, seed)
    small = (
        replace(one, target=replace(one.target, max_atoms=LARGEST))
        for one in found
        if int(one.crystal.n_atoms[0]) <= SMALL
    )
    return opened, _both_sets(opened, small, limit)


def _both_sets(library: Library, small: Iterator[Known], limit: int | None) -> Iterator[tuple[str, Known]]:
    first = list(islice(small, min(limit or HELD_OUT_TARGETS, HELD_OUT_TARGETS)))
    for one in first:
        yield "heldout20", one
    new = (one for one in chain(first, small) if not reachable(one, library))
    for one in islice(new, min(limit or NEW_PROTOTYPES, NEW_PROTOTYPES)):
        yield "new_prototype", one


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _done(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["targets"] if path.is_file() else []


def _by_energy(crystals: Crystals, energy: torch.Tensor) -> list[int]:
    """The order of the crystals by energy per atom; energies [B] in eV per cell."""
    return order(energy / crystals.n_atoms, crystals.ids()).tolist()
