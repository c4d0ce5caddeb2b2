"""Crystals from a learned language of symmetry: space group, Wyckoff letters, cell and coordinates in turn.

One candidate in five is purely random (`generators.random_symmetric.generator`), so that nothing allowed has
no chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from csp.crystallography.neighbours import COVALENT_RADII
from csp.crystallography.symmetry import wyckoff_text
from csp.crystallography.wyckoff import LETTERS, wyckoff_table
from csp.crystals import Crystals
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.protocols import Low, Proposals, Provenance, Skeleton
from csp.target import Target
from csp.training.cards import load_weights, shipped
from generators.random_streams import Streams
from generators.random_symmetric.generator import UNKNOWN_RADIUS, Plan, RandomGenerator
from generators.random_symmetric.packing import PackingSettings, pack
from generators.random_symmetric.skeletons import read_skeletons, tilted
from generators.random_symmetric.space_group_prior import model_weight
from generators.space_group.geometries import Geometries, Soundness, as_assignments
from generators.space_group.letters import LARGEST
from generators.space_group.model import FREE_CELL, SpaceGroupArchitecture, SpaceGroupModel, site_freedom
from generators.space_group.representation import WyckoffRepresentation, build_crystals, of_assignments
from generators.space_group.sampling import Drawn, draw_assignments, joint
from generators.space_group.steering import as_batch, taught

__all__ = ["Sampling", "SpaceGroupGenerator", "load_space_group_model"]

RANDOM_EVERY = 5
BLOCK = 512  # candidates that are made together; distinct assignments in a block are told apart
RANDOM_SCORE = -100.0  # below whatever the model says
KEPT = 4  # blocks in memory


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the model is drawn from.

    Attributes:
        explore: Share of candidates with a group drawn evenly from the `top` likeliest.
        temperature: Of cells and coordinates; letters are drawn as they are.
        wider: That of further geometries for skeletons that had some.
        rounds: Geometries begun for a candidate until one is sound; then random ones are.
        sound: What they must be.
    """

    explore: float = 0.5
    top: int = 30
    temperature: float = 0.7
    wider: float = 1.0
    rounds: int = 4
    sound: Soundness = field(default_factory=Soundness)


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What is the same for all candidates of a target: the model, ln p of group and Z [231, Z], by it and by
    the library's frequencies; beside it what purely random crystals are drawn by."""

    model: SpaceGroupModel
    z: NDArray[np.int64]
    log_p: Tensor
    random: Plan


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """The built ones of a block of candidates, in their order, with the place in the block [B']."""

    crystals: Crystals
    place: NDArray[np.int64]
    provenance: list[Provenance]


def load_space_group_model(path: Path) -> SpaceGroupModel:
    """The model in a weights file, on the CPU; see `csp.training.cards.load_weights`."""
    weights, card = load_weights(path)
    model = SpaceGroupModel(SpaceGroupArchitecture(**card.architecture))
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return model.eval()


class SpaceGroupGenerator:
    """Crystals of exact composition in all space groups that the target allows, likely ones first.

    Candidates are made in blocks of 512: each draws a space group, a number of formula units and letters;
    assignments drawn more often than they have freedom to differ pass their turns on to others. `score` is
    ln p of the assignment, less ln 2 for each geometry it had before.
    """

    name = "space_group"

    def __init__(
        self,
        library: Library,
        volume: VolumePrior,
        weights: Path | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        """Read the model.

        Args:
            weights: A model of one's own; None: the one that ships.
        """
        self.model = load_space_group_model(weights or shipped("space_group"))
        self.sampling = sampling or Sampling()
        self._random = RandomGenerator(library, volume)
        self._plans: dict[Target, _Plan] = {}
        self._taught: dict[tuple[Target, tuple[str, ...], tuple[float, ...]], _Plan] = {}
        self._blocks: dict[tuple[Target, int, int], _Block] = {}

    def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
        """See `csp.protocols.Generator`. Failed are "infeasible" (no combination of Wyckoff positions has the
        composition in any allowed group and size) and "crowded" (no geometry keeps the atoms apart)."""
        plan = self._plan(target)
        if not bool(plan.log_p.isfinite().any()):
            made = self._random.propose(target, n, seed=seed, start=start)
            return replace(made, provenance=[self._adopted(p, p.index) for p in made.provenance])
        random = range(start // RANDOM_EVERY, (start + n) // RANDOM_EVERY)
        drawn = range(start - random.start, start + n - random.stop)
        parts = [self._random.propose(target, len(random), seed=seed, start=random.start)]
        crystals = [parts[0].crystals]
        provenance = [
            self._adopted(p, p.index * RANDOM_EVERY + RANDOM_EVERY - 1) for p in parts[0].provenance
        ]
        for number in range(drawn.start // BLOCK, -(-drawn.stop // BLOCK)):
            block = self._block(target, plan, seed, number)
            index = block.place + number * BLOCK
            chosen = np.flatnonzero((index >= drawn.start) & (index < drawn.stop))
            crystals.append(block.crystals[chosen])
            provenance += [block.provenance[k] for k in chosen.tolist()]
        order = np.argsort([p.index for p in provenance], kind="stable")
        crowded = n - len(order)
        return Proposals(
            Crystals.cat(crystals)[order],
            [provenance[k] for k in order.tolist()],
            n,
            Counter(crowded=crowded) if crowded else Counter(),
        )

    def redraw(
        self, target: Target, skeletons: Sequence[Skeleton], *, seed: int, start: int = 0
    ) -> Proposals:
        """See `csp.protocols.Steerable`."""
        plan, distinct = self._plan(target), list(dict.fromkeys(skeletons))
        if not bool(plan.log_p.isfinite().any()):
            made = self._random.redraw(target, skeletons, seed=seed, start=start)
            return replace(made, provenance=[self._adopted(p, p.index) for p in made.provenance])
        assignments = of_assignments(target, read_skeletons(target, distinct))
        which = torch.tensor([distinct.index(one) for one in skeletons], dtype=torch.int64)
        streams = Streams.of(seed, "redrawn", torch.arange(start, start + len(skeletons)))
        return self._proposed(target, plan, assignments, which, streams, seed, start, "drawn again")

    def steered(
        self, target: Target, n: int, groups: Mapping[int, float], low: Low, *, seed: int, start: int = 0
    ) -> Proposals:
        """See `csp.protocols.Steerable`. Drawn by a copy of the model that has learned from the low crystals
        (`generators.space_group.steering`)."""
        plan = self._taught_plan(target, low)
        if not bool(plan.log_p.isfinite().any()):
            made = self._random.steered(target, n, groups, low, seed=seed, start=start)
            return replace(made, provenance=[self._adopted(p, p.index) for p in made.provenance])
        plan = replace(plan, log_p=torch.from_numpy(tilted(plan.log_p.exp().numpy(), groups)).log())
        streams = Streams.of(seed, "steered", torch.arange(start, start + n))
        drawn = self._assignments(target, plan, streams)
        return self._proposed(
            target, plan, drawn.assignments, drawn.which, streams.child(2), seed, start, "steered"
        )

    def _proposed(
        self,
        target: Target,
        plan: _Plan,
        assignments: WyckoffRepresentation,
        which: Tensor,
        streams: Streams,
        seed: int,
        start: int,
        how: str,
    ) -> Proposals:
        """A geometry for each of the assignments `which`, the candidates from `start` on."""
        crystals, built, random = self._geometries(
            target, plan, assignments, which, streams, self.sampling.wider
        )
        index = [start + b for b in built.tolist()]
        none = torch.zeros(len(which))
        provenance = self._provenance(target, assignments, which, none, built, random, seed, index, how)
        crowded = len(which) - len(built)
        return Proposals(crystals, provenance, len(which), Counter(crowded=crowded) if crowded else Counter())

    def _adopted(self, provenance: Provenance, index: int) -> Provenance:
        """Of a purely random crystal as one of this generator; `why` keeps saying that it is random."""
        return replace(provenance, generator=self.name, index=index, score=RANDOM_SCORE)

    # -- assignments --------------------------------------------------------------------------------

    def _plan(self, target: Target) -> _Plan:
        if target not in self._plans:
            self._plans[target] = self._planned(target, self.model)
        return self._plans[target]

    def _planned(self, target: Target, model: SpaceGroupModel) -> _Plan:
        plan = self._random.plan(target)
        z = plan.space.z
        possible = (plan.p > 0) & (z * max(target.counts) <= LARGEST)
        log_p = torch.full(possible.shape, -torch.inf, dtype=torch.float64)
        if possible.any():
            learned = joint(model, target.numbers, target.counts, z, possible).exp()
            frequency = torch.from_numpy(plan.p * possible)
            share = float(model_weight(target.n_atoms, len(self._random.library)))
            log_p = (share * learned + (1 - share) * frequency / frequency.sum()).log()
        return _Plan(model, z, log_p, plan)

    def _taught_plan(self, target: Target, low: Low) -> _Plan:
        """By the model that has learned from the low crystals, by the prior where none can be described. The
        latest is kept: all shards of a round have the same crystals."""
        prior = self._plan(target)
        if not len(low.crystals) or not bool(prior.log_p.isfinite().any()):
            return prior
        key = target, tuple(low.crystals.ids()), tuple(low.weight.tolist())
        if key not in self._taught:
            read = as_batch(target, low, prior.random.volume / target.n_atoms)
            self._taught = {key: self._planned(target, taught(self.model, *read)) if read else prior}
        return self._taught[key]

    def _block(self, target: Target, plan: _Plan, seed: int, number: int) -> _Block:
        key = (target, seed, number)
        if key not in self._blocks:
            while len(self._blocks) >= KEPT:
                del self._blocks[next(iter(self._blocks))]
            self._blocks[key] = self._made(target, plan, seed, number)
        return self._blocks[key]

    def _made(self, target: Target, plan: _Plan, seed: int, number: int) -> _Block:
        streams = Streams.of(seed, "learned", torch.arange(BLOCK) + number * BLOCK)
        drawn, z = self._assignments(target, plan, streams), torch.from_numpy(plan.z)
        log_p = drawn.log_p + plan.log_p[drawn.assignments.group, torch.searchsorted(z, drawn.assignments.z)]
        which, turn = shared_out(drawn, BLOCK)
        crystals, built, random = self._geometries(
            target, plan, drawn.assignments, which, streams.child(2), self.sampling.temperature
        )
        score = log_p[which] - turn * np.log(2.0)
        place = (built + number * BLOCK).tolist()
        index = [k + k // (RANDOM_EVERY - 1) for k in place]  # every fifth is a random one
        return _Block(
            crystals,
            built.numpy(),
            self._provenance(target, drawn.assignments, which, score, built, random, seed, index, "learned"),
        )

    def _assignments(self, target: Target, plan: _Plan, streams: Streams) -> Drawn:
        group, z_index = self._groups(plan, streams.child(0))
        z = torch.from_numpy(plan.z)[z_index]
        return draw_assignments(plan.model, target.numbers, target.counts, group, z, streams.child(1))

    def _groups(self, plan: _Plan, streams: Streams) -> tuple[Tensor, Tensor]:
        """Space group and place of Z, int64 [B] each."""
        uniform = streams.uniform(3)
        p = plan.log_p.exp()
        of_group = p.sum(1)
        top = of_group.argsort(descending=True, stable=True)[: self.sampling.top]
        top = top[of_group[top] > 0]
        group = _picked(of_group.expand(len(uniform), -1), uniform[:, 1])
        even = top[(uniform[:, 1] * len(top)).long()]
        group = torch.where(uniform[:, 0] < self.sampling.explore, even, group)
        return group, _picked(p[group], uniform[:, 2])

    # -- geometries -------------------------------------------------------------------------------

    def _geometries(
        self,
        target: Target,
        plan: _Plan,
        assignments: WyckoffRepresentation,
        which: Tensor,
        streams: Streams,
        temperature: float,
    ) -> tuple[Crystals, Tensor, Tensor]:
        """The crystals built, the candidates [B'] that those are, and whose geometry is random, bool [B']."""
        pending = torch.arange(len(which))
        volume = plan.random.volume
        own_group, own_z = assignments.group[which], assignments.z[which]
        lattice = plan.random.lattices(own_group, own_z, streams.child(self.sampling.rounds + 1))
        numbers = torch.tensor(target.numbers)
        radii = COVALENT_RADII.nan_to_num(UNKNOWN_RADIUS)[numbers]
        geometries = Geometries(plan.model, assignments, radii)
        done, crystals = [pending[:0]], [Crystals.empty()]
        for attempt in range(self.sampling.rounds):
            if not len(pending):
                break
            described, kept = geometries.draw(
                which[pending],
                streams[pending].child(attempt),
                volume / target.n_atoms,
                self.sampling.sound,
                temperature,
                None if lattice is None else lattice[pending],
            )
            done.append(pending[kept])
            crystals.append(build_crystals(described))
            left = torch.ones(len(pending), dtype=torch.bool)
            left[kept] = False
            pending = pending[left]
        by_model = torch.cat(done)
        if len(pending):
            own = assignments[which[pending]]
            packed, kept = pack(
                as_assignments(own),
                streams[pending].child(self.sampling.rounds),
                numbers,
                radii,
                volume * own.z.double(),
                PackingSettings(),
                None if lattice is None else lattice[pending],
            )
            done.append(pending[kept])
            crystals.append(packed)
        built = torch.cat(done)
        order = built.argsort()
        return Crystals.cat(crystals)[order], built[order], order >= len(by_model)

    def _provenance(
        self,
        target: Target,
        assignments: WyckoffRepresentation,
        which: Tensor,
        score: Tensor,
        built: Tensor,
        random: Tensor,
        seed: int,
        index: Sequence[int],
        how: str,
    ) -> list[Provenance]:
        """Of the candidates `built` [B'], whose places in the sequence are `index` [B']."""
        texts: dict[int, str] = {}
        first, letter = (
            assignments.first_orbit.tolist(),
            wyckoff_table().letter[assignments.position].tolist(),
        )
        element, group = assignments.element.tolist(), assignments.group.tolist()
        z = assignments.z.tolist()
        rows = []
        for b, by_chance, place in zip(built.tolist(), random.tolist(), index, strict=True):
            own = int(which[b])
            if own not in texts:
                sites = range(first[own], first[own + 1])
                texts[own] = wyckoff_text((target.numbers[element[k]], LETTERS[letter[k]]) for k in sites)
            coordinates = ", coordinates at random" if by_chance else ""
            rows.append(
                Provenance(
                    generator=self.name,
                    index=place,
                    seed=seed,
                    space_group=group[own],
                    wyckoff=texts[own],
                    score=round(float(score[b]), 6),
                    why=f"{how}, {z[own]} formula units in group {group[own]}{coordinates}",
                )
            )
        return rows


def shared_out(drawn: Drawn, n: int) -> tuple[Tensor, Tensor]:
    """The assignment of each of n candidates, int64 [n], and how many before it had the same, int64 [n].

    Each assignment has as many as drew it, but no more than it has freedom for (two for each free coordinate
    and parameter of the cell's shape); what that leaves goes round among all that have freedom left, then
    among all.
    """
    times = torch.bincount(drawn.which, minlength=len(drawn.assignments))
    room = 1 + 2 * _freedom(drawn.assignments)
    given = torch.minimum(times, room)
    for limit in (room, torch.full_like(room, n)):
        while (left := n - int(given.sum())) > 0 and bool((given < limit).any()):
            more = (given < limit).nonzero().flatten()[:left]
            given[more] += 1
    which = torch.repeat_interleave(torch.arange(len(given)), given)
    turn = torch.arange(n) - (torch.cumsum(given, 0) - given)[which]
    order = turn.argsort(stable=True)
    return which[order], turn[order]


def _freedom(assignments: WyckoffRepresentation) -> Tensor:
    """int64 [U]: free coordinates, and parameters of the cell's shape."""
    crystal = torch.repeat_interleave(torch.arange(len(assignments)), assignments.n_orbits)
    first = torch.arange(len(crystal)) == assignments.first_orbit[crystal]
    free = site_freedom(assignments.group[crystal], assignments.position, first).sum(1)
    shape = FREE_CELL[assignments.group].sum(1).long() - 1
    return shape.index_add(0, crystal, free)


def _picked(weight: Tensor, uniform: Tensor) -> Tensor:
    """int64 [B]: a column each, by its weight [B, N]; uniform [B]."""
    edges = weight.double().cumsum(1)
    return (uniform[:, None] * edges[:, -1:] >= edges).sum(1).clamp(max=weight.shape[1] - 1)
