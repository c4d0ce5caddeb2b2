"""What a round of a deep search proposes: draws, skeletons that led low once more, moves on what is low."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from csp.crystals import Crystals
from csp.protocols import Generator, Low, Proposals, Steerable
from csp.search.basins import LOW, WORTH_A_LOOK, Basins
from csp.search.funnel import Funnel
from csp.search.knowledge import Known
from csp.search.moves.moving import MOVED, moved
from csp.target import Target

__all__ = ["REDRAWN", "Proposing"]

REDRAWN = "skeletons"  # as the name of a generator
FINITE = ("template", "metric_learning", "starts")  # lists that end: nothing is drawn from them
PER_ROUND, ON_GPU = 256, 16
SHARDS = 2  # at least, of a round; 96 geometries at once take three quarters of the time of three times 32
SHARES = {"draws": 3, "steered": 1, "redrawn": 2, "moved": 2}  # of eight
PARENTS = 24
LEARNED_FROM = 16  # the weights, exp(−ΔE / 50 meV), leave little for more

Make = Callable[[range], Proposals]


@dataclass(frozen=True)
class Proposing:
    """Of one search.

    Attributes:
        target: What was asked for.
        generators: Of the search; those without templates go on.
        funnel: The search before all rounds.
        compression: Volume that proposals start with, in units of that at no pressure.
    """

    target: Target
    generators: Sequence[Generator]
    funnel: Funnel
    compression: float = 1.0

    @property
    def per_round(self) -> int:
        """Candidates, about."""
        return PER_ROUND * (1 if self.funnel.screening_model.device.type == "cpu" else ON_GPU)

    @property
    def shard(self) -> int:
        """Candidates of one kind that are made at once."""
        return self.per_round // SHARDS

    def kinds(self, number: int, known: Known) -> Iterator[tuple[str, int, Make]]:
        """Of each kind of candidates of a round: the name of their generator, how many, what makes some."""
        drawing = [one for one in self.generators if one.name not in FINITE]
        steerable = next((one for one in drawing if isinstance(one, Steerable)), None)
        count = self._counts(bool(drawing), steerable is not None, known)
        for k, generator in enumerate(drawing):
            n = count["draws"] // len(drawing) + (k < count["draws"] % len(drawing))
            yield generator.name, n, self._draws(generator, number, n)
        n = count["redrawn"] + count["steered"]
        if steerable is not None and n:
            yield REDRAWN, n, self._of_skeletons(steerable, number, n, count["redrawn"], known)
        if count["moved"]:
            yield MOVED, count["moved"], self._moves(number, count["moved"], known)

    def _counts(self, draws: bool, steers: bool, known: Known) -> dict[str, int]:
        """Candidates of each kind. What one kind cannot make the others do."""
        n = self.per_round
        able = {
            "draws": draws,
            "steered": steers and bool(known.skeletons.lowest),
            "redrawn": steers and bool(known.skeletons.lowest),
            "moved": self.target.cell is None and bool(known.basins.last.isfinite().any()),
        }
        total = sum(share for kind, share in SHARES.items() if able[kind])
        return {kind: n * share // total if able[kind] else 0 for kind, share in SHARES.items()}

    def _draws(self, generator: Generator, number: int, n: int) -> Make:
        """What the generator would have proposed next."""
        settings = self.funnel.settings
        first = settings.candidates + (number - 1) * n

        def make(part: range) -> Proposals:
            made = generator.propose(self.target, len(part), seed=settings.seed, start=first + part.start)
            return made.scaled(self.compression)

        return make

    def _of_skeletons(self, generator: Steerable, number: int, n: int, again: int, known: Known) -> Make:
        """New geometries first, then new skeletons, n together; indices go on from round to round."""
        settings, first = self.funnel.settings, (number - 1) * n
        chosen = known.skeletons.drawn(np.random.default_rng([settings.seed, number]), again)
        groups, low = known.skeletons.groups(), self._low(known.basins)

        def make(part: range) -> Proposals:
            old, new = range(part.start, min(part.stop, again)), range(max(part.start, again), part.stop)
            parts = []
            if len(old):
                wanted, start = chosen[old.start : old.stop], first + old.start
                parts.append(generator.redraw(self.target, wanted, seed=settings.seed, start=start))
            if len(new):
                start = first + new.start
                parts.append(
                    generator.steered(self.target, len(new), groups, low, seed=settings.seed, start=start)
                )
            return _together(parts).scaled(self.compression)

        return make

    def _low(self, basins: Basins) -> Low:
        """What a generator may learn from: the lowest crystals by the model that ranks."""
        chosen = basins.lowest_first(basins.last, WORTH_A_LOOK, LEARNED_FROM)
        crystals, per_atom = basins.crystals[chosen], basins.last[chosen]
        above = per_atom - per_atom[:1]
        return Low(crystals.scaled_to(crystals.volumes / self.compression), (-above / LOW).exp())

    def _moves(self, number: int, n: int, known: Known) -> Make:
        """Moves on the lowest crystals by the model that ranks; indices go on from round to round."""
        basins, first, funnel = known.basins, (number - 1) * n, self.funnel
        parents = basins.crystals[basins.lowest_first(basins.last, math.inf, PARENTS)]

        def make(part: range) -> Proposals:
            return moved(
                self.target,
                parents,
                range(first + part.start, first + part.stop),
                seed=[funnel.settings.seed, number],
                volume_per_atom=funnel.volume_per_atom,
                min_distance=funnel.min_distance,
            )

        return make


def _together(parts: Sequence[Proposals]) -> Proposals:
    """As of the one generator `REDRAWN`."""
    failed = sum((part.failed for part in parts), start=type(parts[0].failed)())
    return Proposals(
        Crystals.cat([part.crystals for part in parts]),
        [replace(p, generator=REDRAWN) for part in parts for p in part.provenance],
        sum(part.requested for part in parts),
        failed,
    )
