"""The shards of a stage: computed, and stored each in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from csp.crystallography.operations import operations
from csp.crystallography.surroundings import Surroundings
from csp.crystals import Crystals
from csp.protocols import EnergyModel, Evaluation
from csp.relaxation.relax import relax
from csp.search.stages import BY_NAME, WHOLE, Share, shards
from csp.settings import SearchSettings
from csp.store.store import Store

__all__ = ["Work"]

KEPT_SYMPREC = 1e-4  # Å; what a relaxation has kept is exact but for rounding, and nothing else is meant

Told = Callable[[int, int], None]
"""Called with (done, total) of a stage."""


@dataclass(frozen=True, slots=True)
class Work:
    """Does what is not yet stored of a stage, a share of it or all.

    `name` is what the stage is called in the store, by default as in `csp.search.stages`, which has the
    size of its shards.
    """

    settings: SearchSettings
    store: Store

    def relax(
        self,
        stage: str,
        model: EnergyModel,
        ids: Sequence[str],
        starts: Crystals,
        share: Share,
        told: Told,
        *,
        name: str = "",
        max_steps: int | None = None,
        max_force: float | None = None,
        symmetric: bool = True,
    ) -> bool:
        """Relax crystals; whether the whole stage is stored now, whoever did it.

        Args:
            stage: As in `csp.search.stages`.
            model: Gives energies and forces.
            ids: Under which they are stored.
            starts: The crystals.
            share: Which shards to do.
            told: Hears how many are done.
            name: Of the stage in the store.
            max_steps: None: those of the settings.
            max_force: None: that of the settings.
            symmetric: Keep the symmetry of the starts.
        """
        name, settings, n = name or stage, self.settings, len(ids)
        written = self.store.done(name)
        told(0, n)
        for shard, part in shards(n, BY_NAME[stage].shard_on(model.device.type), share):
            if shard in written:
                continue
            crystals = starts[part.start : part.stop]

            def on_step(moving: int, step: int, stop: int = part.stop) -> None:
                told(stop - moving, n)

            relaxed = relax(
                crystals.to(model.device),
                model,
                max_steps=settings.max_steps if max_steps is None else max_steps,
                max_force=settings.max_force if max_force is None else max_force,
                pressure=settings.pressure,
                symmetry=operations(crystals).to(model.device) if symmetric else None,
                on_step=on_step,
            )
            self.store.write_relaxed(name, shard, ids[part.start : part.stop], relaxed)
        told(n, n)
        return self.stored(stage, n, model, name)

    def rescore(
        self, stage: str, model: EnergyModel, crystals: Crystals, share: Share, told: Told, *, name: str = ""
    ) -> None:
        """Single points of crystals that a relaxation has left symmetric, by their own ids."""
        name, n = name or stage, len(crystals)
        written = self.store.done(name)
        for shard, part in shards(n, BY_NAME[stage].shard_on(model.device.type), share):
            told(part.start, n)
            if shard not in written:
                some = crystals[part.start : part.stop]
                self.store.write_energies(name, shard, some.ids(), _single_points(model, some))
        told(n, n)

    def stored(self, stage: str, n: int, model: EnergyModel, name: str = "") -> bool:
        """Are all shards of a stage of n crystals stored, whoever did them?"""
        size = BY_NAME[stage].shard_on(model.device.type)
        return self.store.done(name or stage).issuperset(shard for shard, _ in shards(n, size, WHOLE))


def _single_points(model: EnergyModel, crystals: Crystals) -> Evaluation:
    """Energies of crystals whose symmetry was kept in a relaxation.

    To find it again takes 0.6 ms for 10 atoms: worth it for a potential, not for the surrogate.
    """
    known = operations(crystals, KEPT_SYMPREC)
    exact = known.symmetrize(crystals)
    return model.evaluate(exact, surroundings=Surroundings.of(exact, known))
