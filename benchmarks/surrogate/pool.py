"""The virtual crystals that a surrogate has to order: made, labelled by the teacher, kept on disk.

For each composition 200 crystals (or as many as are asked for): half of them with its elements in known
crystals of other compositions, at the predicted volume and from all over the generator's ranking, and random
ones in a space group. All are plausible and distinct; none is a copy of another at another volume or rattled.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from benchmarks.surrogate.compositions import target_of
from csp.crystallography.neighbours import plausible
from csp.crystals import Crystals
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.matching.fingerprints import unique
from csp.protocols import EnergyModel, Proposals
from csp.target import Target
from generators.random_symmetric.generator import RandomGenerator
from generators.templates.template import TemplateGenerator
from surrogates.training.labelled import Labelled, read_shard, write_shard

__all__ = ["ORIGINS", "Pools", "make_pool", "pool_hash"]

SIZE = 200  # crystals of a composition
SUBSTITUTED = 0.5  # of them, where the library has so many; random ones take the place of those it lacks
RANKED = 1000  # proposals of the template generator that they are spread over
AT_ONCE = 128  # random crystals asked for together …
ATTEMPTS = 16  # … at most so often for 200 crystals
ORIGINS = ("substituted", "random")


@dataclass(frozen=True)
class Pools:
    """The pools of all compositions in a folder; each is made when it is first asked for.

    Attributes:
        compositions: All of them, which the names of the files count.
        size: Crystals of a composition; None: 200.
    """

    folder: Path
    compositions: Sequence[str]
    library: Library
    teacher: EnergyModel
    seed: int
    size: int | None = None

    def __getitem__(self, k: int) -> Labelled:
        """The pool of composition k with the teacher's energies; `ids` begin with the origin.

        Always as read from the file, so that a run that goes on sees what the first one saw.
        """
        path = self.folder / f"{k:03d}.npz"
        if not path.is_file():
            target = target_of(self.compositions[k])
            crystals, ids = make_pool(target, self.library, self.volume, self.seed, self.size)
            there = crystals.to(self.teacher.device)
            write_shard(path, Labelled(crystals, ids, self.teacher.evaluate(there).energy.cpu()))
        return read_shard(path)

    @cached_property
    def volume(self) -> VolumePrior:
        return VolumePrior.load()


def make_pool(
    target: Target, library: Library, volume: VolumePrior, seed: int, size: int | None = None
) -> tuple[Crystals, list[str]]:
    """The crystals, and "substituted(material)" or "random(space group)" for each.

    The target's composition is left out of the library. Fewer than `size` (None: 200) come back where the
    generators have no more.
    """
    size = size or SIZE
    view = library.excluding(target)
    per_atom = volume.predict(target.numbers, target.counts) / target.n_atoms
    proposals = TemplateGenerator(view, volume).propose(target, RANKED, seed=seed)
    crystals, ids = _sifted(proposals, per_atom, Crystals.empty(), [])
    spread = np.unique(
        np.linspace(0, len(ids) - 1, min(round(SUBSTITUTED * size), len(ids))).round().astype(int)
    )
    crystals, ids = crystals[spread], [ids[k] for k in spread]
    random = RandomGenerator(view, volume)
    for attempt in range(ATTEMPTS * math.ceil(size / SIZE)):
        if len(ids) >= size:
            break
        proposals = random.propose(target, AT_ONCE, seed=seed, start=attempt * AT_ONCE)
        crystals, ids = _sifted(proposals, per_atom, crystals, ids)
    return crystals[:size], ids[:size]


def _sifted(
    proposals: Proposals, volume_per_atom: float, crystals: Crystals, ids: list[str]
) -> tuple[Crystals, list[str]]:
    """The crystals, and after them the proposals that are plausible and not there yet."""
    good = plausible(proposals.crystals, volume_per_atom).nonzero().flatten().tolist()
    origins = [
        f"substituted({row.template_id})" if row.template_id else f"random({row.space_group})"
        for row in (proposals.provenance[k] for k in good)
    ]
    joined, names = Crystals.cat([crystals, proposals.crystals[good]]), ids + origins
    distinct = (unique(joined, scale=True) == torch.arange(len(joined))).nonzero().flatten().tolist()
    return joined[distinct], [names[k] for k in distinct]


def pool_hash(pools: Sequence[Labelled]) -> str:
    """16 hexadecimal digits over all crystals, in order."""
    digest = hashlib.blake2b(digest_size=8)
    for pool in pools:
        for crystal in pool.crystals.ids():
            digest.update(crystal.encode())
    return digest.hexdigest()
