"""Symmetry-restricted random crystals: space group, Wyckoff positions, cell and free coordinates at random.

The space group and the number of formula units are drawn from the library's frequencies for that kind of
composition, smoothed with its frequencies over all groups; the rest follows
`wyckoff_combinations` and `packing`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from csp.crystallography.neighbours import COVALENT_RADII
from csp.crystallography.symmetry import wyckoff_text
from csp.crystallography.wyckoff import LETTERS, wyckoff_table
from csp.crystals import Crystals
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.protocols import Low, Proposals, Provenance, Skeleton
from csp.target import Target
from generators.random_streams import Streams
from generators.random_symmetric.fixed_cell import GivenCell
from generators.random_symmetric.packing import PackingSettings, pack
from generators.random_symmetric.skeletons import read_skeletons, tilted
from generators.random_symmetric.space_group_prior import library_prior
from generators.random_symmetric.wyckoff_combinations import WyckoffAssignments, WyckoffCombinations

__all__ = ["Plan", "RandomGenerator"]

AT_ONCE = 4096  # candidates; more is no faster
UNKNOWN_RADIUS = 1.6  # Å, beyond curium


@dataclass(frozen=True, slots=True)
class Plan:
    """What is the same for all candidates of a target.

    Attributes:
        p: float [231, Z], probabilities of space group and number of formula units; all 0 if nothing fits.
        volume: Å³ per formula unit.
    """

    target: Target
    space: WyckoffCombinations
    p: np.ndarray
    volume: float

    def lattices(self, group: Tensor, z: Tensor, streams: Streams) -> Tensor | None:
        """float64 [B, 6]: conventional cells of groups [B] that hold z [B]; None where no cell is given."""
        if self.target.cell is None:
            return None
        given, uniform = GivenCell.of(self.target.cell), streams.uniform(1)[:, 0]
        return given.draw(self.target, self.volume, group, z, uniform)


class RandomGenerator:
    """Random crystals of exact composition in all space groups that the target allows."""

    name = "random"

    def __init__(self, library: Library, volume: VolumePrior, packing: PackingSettings | None = None) -> None:
        self.library = library
        self.volume = volume
        self.packing = packing or PackingSettings()
        self._plans: dict[Target, Plan] = {}

    def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
        """The candidates start … start + n − 1; see `csp.protocols.Generator`.

        Failed are "infeasible" (no combination of Wyckoff positions has the composition in any
        allowed group and size) and "crowded" (no cell and coordinates found that keep the atoms
        apart).
        """
        return self._propose(target, self.plan(target), "space_group", n, seed, start)

    def steered(
        self, target: Target, n: int, groups: Mapping[int, float], low: Low, *, seed: int, start: int = 0
    ) -> Proposals:
        """See `csp.protocols.Steerable`; nothing is learned from the low crystals."""
        plan = self.plan(target)
        plan = replace(plan, p=tilted(plan.p, groups))
        return self._propose(target, plan, "steered", n, seed, start)

    def redraw(
        self, target: Target, skeletons: Sequence[Skeleton], *, seed: int, start: int = 0
    ) -> Proposals:
        """See `csp.protocols.Steerable`."""
        plan, assignments = self.plan(target), read_skeletons(target, skeletons)
        streams = Streams.of(seed, "redrawn", torch.arange(start, start + len(skeletons)))
        crystals, built = self._packed(target, plan, assignments, streams)
        provenance = self._provenance(target, assignments, built, seed, start)
        crowded = len(skeletons) - len(built)
        return Proposals(
            crystals, provenance, len(skeletons), Counter(crowded=crowded) if crowded else Counter()
        )

    def _propose(self, target: Target, plan: Plan, name: str, n: int, seed: int, start: int) -> Proposals:
        if not plan.p.any():
            return Proposals(Crystals.empty(), [], n, Counter(infeasible=n) if n else Counter())
        parts: list[Crystals] = []
        provenance: list[Provenance] = []
        for first in range(start, start + n, AT_ONCE):
            index = torch.arange(first, min(first + AT_ONCE, start + n))
            assignments, crystals, built = self._build(target, plan, Streams.of(seed, name, index))
            parts.append(crystals)
            provenance += self._provenance(target, assignments, built, seed, first)
        crowded = n - len(provenance)
        return Proposals(
            Crystals.cat(parts), provenance, n, Counter(crowded=crowded) if crowded else Counter()
        )

    def plan(self, target: Target) -> Plan:
        """Made once for a target."""
        if target not in self._plans:
            space = WyckoffCombinations(target)
            volume = self.volume.predict(target.numbers, target.counts)
            possible = space.weight > 0
            if target.cell is not None:
                possible &= GivenCell.of(target.cell).fits(target, volume)
            p = library_prior(self.library, target, space.z, possible)
            self._plans[target] = Plan(target, space, p, volume)
        return self._plans[target]

    def _build(
        self, target: Target, plan: Plan, streams: Streams
    ) -> tuple[WyckoffAssignments, Crystals, np.ndarray]:
        """An assignment for each stream, the crystals built and which assignments [B'] those belong to."""
        edges = np.cumsum(plan.p)
        uniform = streams.child(0).uniform(1)[:, 0].numpy()
        choice = np.searchsorted(edges, edges[-1] * uniform, side="right")
        group, z_index = np.divmod(choice, len(plan.space.z))
        assignments = plan.space.draw(group, z_index, streams.child(1))
        return assignments, *self._packed(target, plan, assignments, streams)

    def _packed(
        self, target: Target, plan: Plan, assignments: WyckoffAssignments, streams: Streams
    ) -> tuple[Crystals, np.ndarray]:
        numbers = torch.tensor(target.numbers)
        radii = COVALENT_RADII.nan_to_num(UNKNOWN_RADIUS)[numbers]
        volumes = torch.from_numpy(plan.volume * assignments.z)
        group_and_z = torch.from_numpy(assignments.group), torch.from_numpy(assignments.z)
        lattice = plan.lattices(*group_and_z, streams.child(3))
        crystals, built = pack(assignments, streams.child(2), numbers, radii, volumes, self.packing, lattice)
        return crystals, built.numpy()

    def _provenance(
        self, target: Target, assignments: WyckoffAssignments, built: np.ndarray, seed: int, start: int
    ) -> list[Provenance]:
        letter = wyckoff_table().letter.numpy()[assignments.position]
        first = np.searchsorted(assignments.crystal, np.arange(len(assignments) + 1)).tolist()
        sites = list(zip(assignments.element.tolist(), letter.tolist(), strict=True))
        texts: dict[tuple[tuple[int, int], ...], str] = {}
        rows = []
        for b in built.tolist():
            own = tuple(sites[first[b] : first[b + 1]])
            if own not in texts:
                texts[own] = wyckoff_text((target.numbers[e], LETTERS[k]) for e, k in own)
            rows.append(
                Provenance(
                    generator=self.name,
                    index=start + b,
                    seed=seed,
                    space_group=int(assignments.group[b]),
                    wyckoff=texts[own],
                    why=f"random, {assignments.z[b]} formula units in group {assignments.group[b]}",
                )
            )
        return rows
