"""Symmetry-restricted random crystals: space group, Wyckoff positions, cell and free coordinates at random.

The space group and the number of formula units are drawn from the library's frequencies for that kind of
composition, smoothed with its frequencies over all groups; the rest follows `skeletons` and `packing`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch

from csp.crystals import Crystals
from csp.geometry import COVALENT_RADII
from csp.library import Library
from csp.protocols import Proposals, Provenance
from csp.symmetry import wyckoff_text
from csp.target import Target
from csp.volume import VolumePrior
from csp.wyckoff import LETTERS, wyckoff_table
from generators.packing import PackingSettings, pack
from generators.randomness import Streams
from generators.skeletons import Skeletons, SkeletonSpace

__all__ = ["RandomGenerator"]

AT_ONCE = 4096  # candidates; more is no faster
SMOOTHING = 10.0  # entries' worth of the frequencies over all groups
UNKNOWN_RADIUS = 1.6  # Å, beyond curium


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is the same for all candidates of a target.

    odds   float [231 × Z]  cumulative probabilities of space group and number of formula units; empty if none
    """

    space: SkeletonSpace
    odds: np.ndarray
    volume: float  # Å³ per formula unit


class RandomGenerator:
    """Random crystals of exact composition in all space groups that the target allows."""

    name = "random"

    def __init__(self, library: Library, volume: VolumePrior, packing: PackingSettings | None = None) -> None:
        self.library = library
        self.volume = volume
        self.packing = packing or PackingSettings()
        self._plans: dict[Target, _Plan] = {}

    def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
        """The candidates start … start + n − 1; see `csp.protocols.Generator`.

        Failed are "infeasible" (no combination of Wyckoff positions has the composition in any
        allowed group and size) and "crowded" (no cell and coordinates found that keep the atoms
        apart).
        """
        plan = self._plan(target)
        if not len(plan.odds):
            return Proposals(Crystals.empty(), [], n, Counter(infeasible=n) if n else Counter())
        parts: list[Crystals] = []
        provenance: list[Provenance] = []
        for first in range(start, start + n, AT_ONCE):
            index = torch.arange(first, min(first + AT_ONCE, start + n))
            skeletons, crystals, built = self._build(target, plan, Streams.of(seed, "space_group", index))
            parts.append(crystals)
            provenance += self._provenance(target, skeletons, built, seed, first)
        crowded = n - len(provenance)
        return Proposals(
            Crystals.cat(parts), provenance, n, Counter(crowded=crowded) if crowded else Counter()
        )

    def _plan(self, target: Target) -> _Plan:
        if target not in self._plans:
            space = SkeletonSpace(target)
            odds = self._odds(target, space) if space.weight.any() else np.zeros(0)
            self._plans[target] = _Plan(space, odds, self.volume.predict(target.numbers, target.counts))
        return self._plans[target]

    def _odds(self, target: Target, space: SkeletonSpace) -> np.ndarray:
        """Cumulative probabilities [231 × Z] of what is possible at all."""
        overall = np.bincount(self.library.space_group[self.library.all_rows()], minlength=231) + 1.0
        odds = np.outer(overall, 1.0 / space.z) * (space.weight > 0)
        odds *= SMOOTHING / odds.sum()
        group, z, count = self.library.group_z_counts(target)
        np.add.at(odds, (group, np.searchsorted(space.z, z)), count)
        odds = np.cumsum(odds * (space.weight > 0))
        return odds / odds[-1]

    def _build(self, target: Target, plan: _Plan, streams: Streams) -> tuple[Skeletons, Crystals, np.ndarray]:
        """A skeleton for each stream, the crystals built and which skeletons [B'] those belong to."""
        choice = np.searchsorted(plan.odds, streams.child(0).uniform(1)[:, 0].numpy(), side="right")
        group, z_index = np.divmod(choice, len(plan.space.z))
        skeletons = plan.space.draw(group, z_index, streams.child(1))
        numbers = torch.tensor(target.numbers)
        radii = COVALENT_RADII.nan_to_num(UNKNOWN_RADIUS)[numbers]
        volumes = torch.from_numpy(plan.volume * skeletons.z)
        crystals, built = pack(skeletons, streams.child(2), numbers, radii, volumes, self.packing)
        return skeletons, crystals, built.numpy()

    def _provenance(
        self, target: Target, skeletons: Skeletons, built: np.ndarray, seed: int, start: int
    ) -> list[Provenance]:
        letter = wyckoff_table().letter.numpy()[skeletons.position]
        first = np.searchsorted(skeletons.crystal, np.arange(len(skeletons) + 1)).tolist()
        sites = list(zip(skeletons.element.tolist(), letter.tolist(), strict=True))
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
                    space_group=int(skeletons.group[b]),
                    wyckoff=texts[own],
                    why=f"random, {skeletons.z[b]} formula units in group {skeletons.group[b]}",
                )
            )
        return rows
