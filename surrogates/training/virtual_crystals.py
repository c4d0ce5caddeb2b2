"""Virtual crystals for training: made from known ones, labelled by a teacher, anchored to DFT.

    csp train labels --structures S.parquet --energies E.parquet --out DIR --shards 100

For a composition with a DFT formation energy (its anchor, the lowest of its crystals), virtual
crystals are made by rattling, straining, compressing and expanding its crystals, by putting its
elements into the prototypes of other compositions, and at random in a space group; some of the latter
two walk downhill for a few steps, or where a model to be trained on relaxes them to, in some shards under
pressure, so that the teacher shows it what it is wrong about (Ross, Gordon and Bagnell, AISTATS 2011).
The label of crystal x is

    E(x) = E_DFT(anchor) + [T(x) − T(anchor)],   T the teacher,

both differences per formula unit: element references, corrections and most of the teacher's own
error cancel. It is a label of its own: it is neither DFT nor the teacher. For comparison the teacher's
energies themselves may be the labels (`VirtualRecipe.anchored`). Shard k depends on (seed, k)
alone, so that shards can be made in any order, anywhere, and resumed.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from csp.crystallography.neighbours import distance_ratio
from csp.crystallography.operations import operations
from csp.crystals import Crystals
from csp.library import compression
from csp.protocols import EnergyModel, Generator
from csp.relaxation.relax import Status, relax
from csp.target import Target
from surrogates.training.labelled import (
    Labelled,
    compositions,
    read_formation_energies,
    read_structures,
    write_shard,
    write_teacher,
)

__all__ = ["Anchors", "KnownCells", "VirtualRecipe", "label", "make_shard", "propose"]


@dataclass(frozen=True, slots=True)
class VirtualRecipe:
    """How virtual crystals are made.

    Attributes:
        max_atoms: Largest cell.
        per_anchor: Virtual crystals of a composition in one shard.
        groups: Compositions in a shard.
        rattle: Share of this way, as `volume`, `compress`, `strain`, `substitute` and `random` are of theirs;
            where no prototype is known, nothing is substituted.
        walk: Steps of every second substituted or random crystal, its start with them; each is a crystal.
        volume_spread: σ of ln(volume) about the anchor's, for substituted crystals.
        min_distance: Of atoms, as a share of the sum of two covalent radii; others are dropped.
        max_force: eV/Å; others are dropped.
        max_above: eV/atom over the anchor; others are dropped.
        anchor_force: eV/Å: the teacher must find the anchor this well relaxed.
        anchored: False: the labels are T(x) instead of E(x).
        relaxing: Steps of a walker, which relaxes all of them: where it is after so many more is a crystal.
        pressed: Share of the shards whose walker relaxes under pressure.
        pressures: GPa, of which one is drawn for each such shard, log-uniform between these.
        max_above_pressed: As `max_above`, in such shards.
    """

    max_atoms: int = 12
    per_anchor: int = 6
    groups: int = 64
    rattle: float = 0.12
    volume: float = 0.10
    compress: float = 0.10
    strain: float = 0.10
    substitute: float = 0.34
    random: float = 0.34
    walk: int = 4
    volume_spread: float = 0.1
    min_distance: float = 0.6
    max_force: float = 20.0
    max_above: float = 2.0
    anchor_force: float = 0.3
    anchored: bool = True
    relaxing: tuple[int, ...] = (8, 24, 64)
    pressed: float = 0.3
    pressures: tuple[float, float] = (5.0, 400.0)
    max_above_pressed: float = 6.0
    seed: int = 0

    @classmethod
    def on_policy(cls, **changes: Any) -> VirtualRecipe:
        """For crystals that a model relaxes: hardly any but those that walk."""
        return cls(
            rattle=0.04, volume=0.03, compress=0.08, strain=0.03, substitute=0.41, random=0.41, **changes
        )


class KnownCells:
    """Known cells by anonymous composition ((1, 1, 3) for any ABC3), to put other elements into."""

    def __init__(self, crystals: Crystals, max_atoms: int) -> None:
        self.crystals = crystals[crystals.n_atoms <= max_atoms]
        self._rows: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for row, name in enumerate(compositions(self.crystals)):
            self._rows[_anonymous(name)].append(row)

    def knows(self, composition: str) -> bool:
        """Is there any prototype of this anonymous composition?"""
        return _anonymous(composition) in self._rows

    def draw(self, composition: str, rng: np.random.Generator) -> Crystals:
        """A random prototype with the composition's elements, at its own volume.

        Elements of equal amounts are dealt out at random.
        """
        rows = self._rows[_anonymous(composition)]
        prototype = self.crystals[int(rows[rng.integers(len(rows))])]
        old = _amounts(compositions(prototype)[0])
        new = _amounts(composition)
        exchange = torch.zeros(119, dtype=torch.int64)
        for amount in set(old.values()):
            places = [z for z, n in old.items() if n == amount]
            elements = [z for z, n in new.items() if n == amount]
            exchange[places] = torch.tensor(elements)[torch.from_numpy(rng.permutation(len(elements)))]
        return Crystals(prototype.cell, prototype.frac, exchange[prototype.numbers], prototype.offsets)


class Anchors:
    """Compositions that virtual crystals may be made of, with their DFT crystals.

    Compositions in `held_out` are left out whole. Crystals of more than `max_atoms` atoms are not
    used; the lowest in energy of a composition is its anchor.
    """

    def __init__(self, labelled: Labelled, held_out: set[str], max_atoms: int) -> None:
        self.labelled = labelled[labelled.crystals.n_atoms <= max_atoms]
        per_atom = (self.labelled.energy / self.labelled.crystals.n_atoms).tolist()
        rows: dict[str, list[int]] = defaultdict(list)
        for row, name in enumerate(compositions(self.labelled.crystals)):
            if name not in held_out:
                rows[name].append(row)
        self.names = sorted(rows)
        self.rows = {name: sorted(found, key=lambda row: per_atom[row]) for name, found in rows.items()}

    def __len__(self) -> int:
        return len(self.names)

    def elements(self, index: int) -> list[int]:
        """Atomic numbers of a composition."""
        return list(_amounts(self.names[index]))


def _amounts(composition: str) -> dict[int, int]:
    pairs = (part.split(":") for part in composition.split())
    return {int(z): int(n) for z, n in pairs}


def _formula(composition: str) -> str:
    """A composition ("8:3 22:1") as a formula ("O3Ti")."""
    from ase.data import chemical_symbols

    return "".join(f"{chemical_symbols[z]}{n}" for z, n in _amounts(composition).items())


def _anonymous(composition: str) -> tuple[int, ...]:
    return tuple(sorted(_amounts(composition).values()))


# -- the ways to make them --------------------------------------------------------------------------


def rattled(crystal: Crystals, rng: np.random.Generator) -> Crystals:
    """Atoms displaced by a Gaussian of σ from 0.02 to 0.3 Å (log-uniform), volume by ±3 %."""
    sigma = np.exp(rng.uniform(np.log(0.02), np.log(0.3)))
    moves = torch.from_numpy(rng.normal(0.0, sigma, tuple(crystal.frac.shape)))
    frac = crystal.frac + moves @ torch.linalg.inv(crystal.cell[0])
    return crystal.with_geometry(crystal.cell * (1.0 + rng.normal(0.0, 0.01)), frac)


def swollen(crystal: Crystals, rng: np.random.Generator) -> Crystals:
    """Volume from −15 to +25 %."""
    return crystal.scaled_to(crystal.volumes * rng.uniform(0.85, 1.25))


def compressed(crystal: Crystals, rng: np.random.Generator) -> Crystals:
    """Volume from 60 to 90 %, and a rattle of 0.03 Å."""
    scaled = crystal.scaled_to(crystal.volumes * rng.uniform(0.6, 0.9))
    moves = torch.from_numpy(rng.normal(0.0, 0.03, tuple(crystal.frac.shape)))
    return scaled.with_geometry(scaled.cell, scaled.frac + moves @ torch.linalg.inv(scaled.cell[0]))


def strained(crystal: Crystals, rng: np.random.Generator) -> Crystals:
    """A symmetric strain of at most 8 % in each component, and a rattle of 0.03 Å."""
    strain = torch.from_numpy(rng.uniform(-0.08, 0.08, (3, 3)))
    cell = crystal.cell @ (torch.eye(3, dtype=torch.float64) + 0.5 * (strain + strain.T))
    moves = torch.from_numpy(rng.normal(0.0, 0.03, tuple(crystal.frac.shape)))
    return crystal.with_geometry(cell, crystal.frac + moves @ torch.linalg.inv(cell[0]))


def step_downhill(crystals: Crystals, forces: Tensor, stress: Tensor) -> Crystals:
    """One cautious step along forces and stress: at most 0.15 Å an atom and 5 % of strain."""
    step = 0.03 * forces
    step = step * (0.15 / step.norm(dim=1, keepdim=True).clamp(min=0.15))
    strain = (-0.5 * stress).clamp(-0.05, 0.05)
    moves = torch.einsum("ai,aij->aj", step, torch.linalg.inv(crystals.cell)[crystals.batch])
    return crystals.with_geometry(
        crystals.cell + torch.einsum("bij,bjk->bik", crystals.cell, strain), crystals.frac + moves
    )


WAYS: dict[str, Callable[[Crystals, np.random.Generator], Crystals]] = {
    "rattle": rattled,
    "volume": swollen,
    "compress": compressed,
    "strain": strained,
}


# -- shards -----------------------------------------------------------------------------------------


def propose(
    name: str,
    anchors: Anchors,
    prototypes: KnownCells,
    symmetric: Generator,
    recipe: VirtualRecipe,
    rng: np.random.Generator,
) -> tuple[list[Crystals], list[str]]:
    """Virtual crystals of a composition, and how each was made from what."""
    rows = anchors.rows[name]
    known, ids = anchors.labelled.crystals, anchors.labelled.ids
    per_atom = float(known[rows[0]].volumes) / int(known[rows[0]].n_atoms)
    ways = ("rattle", "volume", "compress", "strain", "substitute", "random")
    shares = np.array([getattr(recipe, way) for way in ways])
    shares[ways.index("substitute")] *= prototypes.knows(name)
    crystals, names = [], []
    n_random = 0
    for way in rng.choice(ways, size=recipe.per_anchor, p=shares / shares.sum()):
        if way == "random":
            n_random += 1
        elif way == "substitute":
            made = prototypes.draw(name, rng)
            volume = per_atom * len(made.numbers) * np.exp(rng.normal(0.0, recipe.volume_spread))
            crystals.append(made.scaled_to(torch.tensor([volume])))
            names.append(f"substitute({name.replace(' ', ',')})")
        else:
            row = rows[rng.integers(len(rows))]
            crystals.append(WAYS[way](known[row], rng))
            names.append(f"{way}({ids[row]})")
    target = Target.parse(_formula(name), max_atoms=recipe.max_atoms)
    random = symmetric.propose(target, n_random, seed=int(rng.integers(2**31))).crystals
    crystals += [random[b] for b in range(len(random))]
    names += [f"random({name.replace(' ', ',')})"] * len(random)
    return crystals, names


def make_shard(
    index: int,
    anchors: Anchors,
    prototypes: KnownCells,
    symmetric: Generator,
    teacher: EnergyModel,
    recipe: VirtualRecipe,
    walker: EnergyModel | None = None,
) -> tuple[Labelled, Counter[str]]:
    """Shard `index`: labelled crystals, and how many were dropped for what reason.

    Args:
        walker: Relaxes what walks; None: the teacher takes cautious steps downhill.
    """
    rng = np.random.default_rng([recipe.seed, index])
    pressed = walker is not None and rng.random() < recipe.pressed
    pressure = float(np.exp(rng.uniform(*np.log(recipe.pressures)))) if pressed else 0.0
    dropped: Counter[str] = Counter()
    chosen = rng.choice(len(anchors), size=min(recipe.groups, len(anchors)), replace=False)
    supported = [k for k in chosen if set(anchors.elements(k)) <= teacher.elements]
    dropped["anchors with an unsupported element"] = len(chosen) - len(supported)
    lowest = anchors.labelled[[anchors.rows[anchors.names[k]][0] for k in supported]]
    at_rest = _evaluated(lowest.crystals, lowest.ids, teacher)
    relaxed = _largest_force(at_rest) <= recipe.anchor_force
    dropped["anchors not relaxed for the teacher"] = int((~relaxed).sum())
    # E_DFT − T of each composition's anchor, eV/atom: what turns the teacher's energies into labels
    offsets = ((lowest.energy - at_rest.energy) / lowest.crystals.n_atoms)[relaxed].tolist()
    lowest_teacher = (at_rest.energy / lowest.crystals.n_atoms)[relaxed].tolist()
    names = [anchors.names[k] for k, kept in zip(supported, relaxed.tolist(), strict=True) if kept]

    parts, ids = [], []
    for name in names:
        proposed, how = propose(name, anchors, prototypes, symmetric, recipe, rng)
        parts += proposed
        ids += how
    crystals = Crystals.cat(parts)
    apart = distance_ratio(crystals, limit=1.0) >= recipe.min_distance
    dropped["atoms too close"] = int((~apart).sum())
    ids = [how for how, kept in zip(ids, apart.tolist(), strict=True) if kept]
    made = _evaluated(crystals[apart], ids, teacher)
    walk = [b for b, how in enumerate(ids) if how.startswith(("substitute", "random"))]
    if walker is None:
        walked = _steps_down(made[walk[::2]], teacher, recipe)
    else:
        walked = _relaxed(made[walk], teacher, walker, recipe, pressure)

    labelled = Labelled.cat([at_rest[relaxed], made, *walked])
    place = {name: k for k, name in enumerate(names)}
    owner = torch.tensor([place[name] for name in compositions(labelled.crystals)])
    per_atom = labelled.energy / labelled.crystals.n_atoms
    weak = _largest_force(labelled) <= recipe.max_force
    highest = recipe.max_above_pressed if pressed else recipe.max_above
    low = per_atom - torch.tensor(lowest_teacher, dtype=torch.float64)[owner] <= highest
    dropped["force too large"] = int((~weak).sum())
    dropped["energy too high"] = int((weak & ~low).sum())
    if recipe.anchored:
        energy = (per_atom + torch.tensor(offsets, dtype=torch.float64)[owner]) * labelled.crystals.n_atoms
        labelled = replace(labelled, energy=energy)
    return labelled[weak & low], dropped


def _steps_down(walkers: Labelled, teacher: EnergyModel, recipe: VirtualRecipe) -> list[Labelled]:
    """Each step of the teacher's walk."""
    rounds = [walkers]
    for step in range(1, recipe.walk):
        last = rounds[-1]
        assert last.forces is not None
        assert last.stress is not None
        moved = step_downhill(last.crystals, last.forces.double(), last.stress.double())
        rounds.append(_evaluated(moved, [f"walk{step}:{how}" for how in walkers.ids], teacher))
    return rounds[1:]


def _relaxed(
    walkers: Labelled, teacher: EnergyModel, walker: EnergyModel, recipe: VirtualRecipe, pressure: float
) -> list[Labelled]:
    """What the walker makes of them under a pressure (GPa), keeping their symmetry as a search does, after so
    many steps each; those that are relaxed early are there once."""
    ids, rounds = walkers.ids, []
    crystals = compression.compressed(walkers.crystals, pressure)
    symmetry = operations(crystals)
    for max_steps in recipe.relaxing:
        if not ids:
            break
        relaxed = relax(crystals, walker, max_steps=max_steps, pressure=pressure, symmetry=symmetry)
        good = [k for k, status in enumerate(relaxed.status) if status.has_energy]
        rounds.append(_evaluated(relaxed.crystals[good], [f"{walker.name}:{ids[k]}" for k in good], teacher))
        on = torch.tensor([status is Status.MAX_STEPS for status in relaxed.status]).nonzero().flatten()
        crystals, ids, symmetry = relaxed.crystals[on], [ids[k] for k in on.tolist()], symmetry[on]
    return rounds


def _evaluated(crystals: Crystals, ids: Sequence[str], teacher: EnergyModel) -> Labelled:
    found = teacher.evaluate(crystals, forces=True)
    assert found.forces is not None
    assert found.stress is not None
    return Labelled(crystals, list(ids), found.energy, found.forces.float(), found.stress.float())


def _largest_force(labelled: Labelled) -> Tensor:
    """float [B], eV/Å."""
    assert labelled.forces is not None
    largest = torch.zeros(len(labelled))
    return largest.scatter_reduce_(0, labelled.crystals.batch, labelled.forces.norm(dim=1), "amax")


def label(
    structures: Path,
    energies: Path,
    out: Path,
    *,
    split: str,
    shards: range,
    exclude: set[str],
    symmetric: Generator,
    teacher: EnergyModel,
    recipe: VirtualRecipe | None = None,
    walker: EnergyModel | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """Make the shards that are not yet in `out`, of the compositions of one split (train, val, test).

    Compositions of the other splits, and those in `exclude`, get no virtual crystals; crystals of the
    validation and test splits are no prototypes.
    """
    recipe = recipe or VirtualRecipe()
    splits = {
        name: read_formation_energies(structures, energies, name, exclude)
        for name in ("train", "val", "test")
    }
    others = [name for name in splits if name != split]
    held_out = exclude.union(*(compositions(splits[name].crystals) for name in others))
    anchors = Anchors(splits[split], held_out, recipe.max_atoms)
    crystals, ids = read_structures(structures)
    unseen = {name for part in ("val", "test") for name in splits[part].ids}
    prototypes = KnownCells(crystals[torch.tensor([name not in unseen for name in ids])], recipe.max_atoms)
    write_teacher(out, teacher.name)
    log(f"{len(anchors)} compositions, {len(prototypes.crystals)} prototypes")
    for index in shards:
        path = out / f"{split}-{index:05d}.npz"
        if path.exists():
            continue
        started = time.monotonic()
        shard, dropped = make_shard(index, anchors, prototypes, symmetric, teacher, recipe, walker)
        write_shard(path, shard)
        reasons = ", ".join(f"{n} {reason}" for reason, n in dropped.items() if n)
        seconds = time.monotonic() - started
        log(f"{path.name}: {len(shard)} crystals in {seconds:.0f} s; dropped: {reasons}")
