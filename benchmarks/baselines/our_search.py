"""The engine's own search, noted as those of others are: `python -m benchmarks.baselines.our_search GaAs
--relaxer chgnet --out OUT`.

A deep search by the default settings without a library: templates are the prototypes that come with the
engine, of the formula's own composition none. What the relaxer has relaxed is noted, shard by shard. The
search is stopped from outside in one of its rounds, so that it does not come to rattle its best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.baselines.record import Asked, Record, asked
from csp.engine import build
from csp.protocols import Label
from csp.relaxation.relax import RelaxationResult
from csp.settings import SearchSettings
from csp.store.store import Store

__all__ = ["settings"]

PATIENCE = 20.0  # minutes by the clock for one of a core, on a machine with much else to do


class _Noted(Store):
    """A store that notes what the model that ranks has relaxed.

    Attributes:
        label: Of that model.
        record: Where to.
    """

    label: Label
    record: Record

    def write_relaxed(self, stage: str, shard: int, ids: Sequence[str], relaxed: RelaxationResult) -> None:
        super().write_relaxed(stage, shard, ids, relaxed)
        if relaxed.label == self.label:
            some = relaxed.take(relaxed.with_energy()).to("cpu")
            per_atom = (some.energy / some.crystals.n_atoms).tolist()
            self.record.add(some.crystals, per_atom, [status == "converged" for status in some.status])


def settings(ask: Asked) -> SearchSettings:
    """Of the search: its own cells, up to the default's largest, are not limited as those of others are."""
    return SearchSettings.read(
        formula=ask.target.formula,
        effort="deep",
        minutes=PATIENCE * ask.minutes,
        until=1.0,
        library=None,
        exclude_composition=True,
        relaxer=ask.relaxer,
        hull=False,
        seed=ask.seed,
    )


def main() -> None:
    ask = asked()
    asking, folder = settings(ask), Path(ask.out / "run")
    search, _ = build(asking, asking.target(), folder, device="cpu")
    noted = _Noted.open(folder)
    assert isinstance(noted, _Noted)
    noted.label, noted.record = search.funnel.ranking_model.label, ask.record
    replace(search, store=noted).run()


if __name__ == "__main__":
    main()
