"""How good and how fast is the surrogate? READ `SurrogateBenchmark.run` FIRST.

Measured are the DFT formation energies of the test split; the order of virtual crystals of 200
compositions that no training saw, against a universal potential, the teacher; the ends of relaxations,
by the teacher's measure; crystals a second. What the teacher does is kept on disk and never done twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.files import changed
from benchmarks.machine import machine
from benchmarks.rank_metrics import Ordered, ordered
from benchmarks.surrogate.compositions import benchmark_compositions, target_of, unseen
from benchmarks.surrogate.contestants import Contestant, contestants
from benchmarks.surrogate.plot import plot
from benchmarks.surrogate.pool import ORIGINS, Pools, pool_hash
from benchmarks.surrogate.relaxations import TeachersEnds, choose_starts, gaps
from benchmarks.surrogate.speed import Rate, rates
from benchmarks.surrogate.summary import PRESSURE, Errors, Measured, speed_of, summarise
from benchmarks.surrogate.table import table
from csp.device import resolve_device
from csp.errors import InputError, MissingError
from csp.files import write_json, write_text
from csp.library.library import Library
from csp.protocols import EnergyModel
from surrogates.training.labelled import Labelled, compositions, hashed, read_formation_energies
from surrogates.zoo import load_model

__all__ = ["SurrogateBenchmark"]

SCHEMA = 1
SETTINGS_FILE = "benchmark.json"
TEACHER = "nequix-oam-1"
TESTED_FOR_EACH = 15  # test crystals for each composition of a limited run; there are 3,081 for 200

Say = Callable[[str], None]


@dataclass(frozen=True)
class SurrogateBenchmark:
    """A benchmark in its out folder: the teacher's work in `pools/` and `relaxed/`, results beside them.

    Attributes:
        limit: Only the first compositions, and as large a share of the test crystals.
    """

    structures: Path
    energies: Path
    out: Path
    seed: int
    limit: int | None
    library: Library
    teacher: EnergyModel
    models: list[Contestant]

    @classmethod
    def begin(
        cls,
        structures: Path,
        energies: Path,
        out: Path,
        *,
        names: Sequence[str] | None = None,
        teacher: str = TEACHER,
        baseline: Path | None = None,
        limit: int | None = None,
        seed: int = 0,
        device: str = "auto",
    ) -> SurrogateBenchmark:
        """Start a benchmark, or go on with the one in `out`.

        Raises:
            InputError, MissingError: Before any work, for files, models or a device that cannot be used, and
                for an out folder with another pool of crystals.
        """
        if not energies.is_file():
            raise MissingError(f"There is no table of formation energies at {energies}.")
        library, place = Library.open(structures), resolve_device(device)
        judge = load_model(teacher, place)
        settings = {
            "schema": SCHEMA,
            "seed": seed,
            "library": library.fingerprint,
            "teacher": str(judge.label),
        }
        path = out / SETTINGS_FILE
        if different := changed(path, settings):
            raise InputError(f"{out} holds crystals made with another {', another '.join(different)}.")
        models = contestants(names, baseline, place, out / "models")
        write_json(path, settings)
        return cls(structures, energies, out, seed, limit, library, judge, models)

    def run(self, say: Say = lambda line: None) -> dict[str, Any]:
        """Measure all models and write `summary.json`, `surrogate.json`, `table.md` and `surrogate.png`.

        Returns:
            The summary.
        """
        pools = self._pools(say)
        starts = choose_starts(pools, self.seed)
        ends = TeachersEnds(self.out / "relaxed", self.teacher).of(starts, say)
        pressed = TeachersEnds(self.out / f"relaxed-{PRESSURE:.0f}gpa", self.teacher, PRESSURE).of(
            starts, say
        )
        speed, teacher = self._speed(), self.teacher.name
        measured = []
        for model in self.models:
            measured.append(self._measured(model, pools, starts, ends, pressed, speed.get(model.name)))
            say(f"{model.name} is measured")
        summary: dict[str, Any] = {}
        for one in measured:
            summary |= summarise(one)
            if one.speed is not None:
                ratio = one.speed.per_second / speed[teacher].per_second
                summary[f"crystals_per_s_ratio_to_teacher.{one.name}"] = float(f"{ratio:.4g}")
        summary |= speed_of(teacher, speed[teacher])
        summary |= self._circumstances(pools)
        write_json(self.out / "surrogate.json", self._details(measured, pools, starts, ends))
        write_text(self.out / "table.md", table(summary, [one.name for one in measured]))
        plot(measured, self.out / "surrogate.png")
        write_json(self.out / "summary.json", summary)
        return summary

    @cached_property
    def compositions(self) -> list[str]:
        """Those that none of the models has seen."""
        return [unseen()[k] for k in self._unseen]

    @cached_property
    def _unseen(self) -> list[int]:
        """Their places in the file."""
        seen = frozenset().union(*(model.seen or () for model in self.models))
        return [k for k, name in enumerate(unseen()[: self.limit]) if hashed(name) not in seen]

    # -- what is measured -------------------------------------------------------------------------

    def _pools(self, say: Say) -> list[Labelled]:
        pools = Pools(self.out / "pools", unseen(), self.library, self.teacher, self.seed)
        found = []
        for k, name in zip(self._unseen, self.compositions, strict=True):
            found.append(pools[k])
            counts = ", ".join(f"{n} {origin}" for origin, n in _origins(found[-1]).items())
            say(f"{len(found):3d}/{len(self.compositions)}  {target_of(name).formula:<16} {counts}")
        return found

    def _measured(
        self,
        model: Contestant,
        pools: list[Labelled],
        starts: Labelled,
        ends: Labelled,
        pressed: Labelled,
        speed: Rate | None,
    ) -> Measured:
        started = tuple(model.supports(starts.crystals).nonzero().flatten().tolist())
        rows, relaxer = list(started), model.model if started else None
        return Measured(
            model.name,
            [_ordered(model, pool) for pool in pools],
            errors=self._errors(model),
            gaps=gaps(relaxer, self.teacher, starts[rows], ends[rows]) if relaxer else None,
            pressed=gaps(relaxer, self.teacher, starts[rows], pressed[rows], PRESSURE) if relaxer else None,
            started=started,
            speed=speed,
        )

    def _errors(self, model: Contestant) -> Errors | None:
        """On the test crystals, all or a random part."""
        if model.formation is None:
            return None
        supported = model.supports(self._test.crystals)
        part = self._test[supported]
        found = model.formation.evaluate(part.crystals.to(model.formation.device)).energy.cpu()
        names = compositions(part.crystals)
        return Errors(
            ((found - part.energy) / part.crystals.n_atoms).abs().numpy(),
            np.array(names),
            np.array([name not in self._trained for name in names]),
            int((~supported).sum()),
        )

    def _speed(self) -> dict[str, Rate]:
        """Of all energy models by name, the teacher among them."""
        models = {self.teacher.name: self.teacher}
        models |= {one.name: one.model for one in self.models if one.model is not None}
        return dict(zip(models, rates(list(models.values()), self.library, self.seed), strict=True))

    @cached_property
    def _test(self) -> Labelled:
        exclude = benchmark_compositions()
        whole = read_formation_energies(self.structures, self.energies, "test", exclude)
        if self.limit is None:
            return whole
        drawn = np.random.default_rng(self.seed).permutation(len(whole))
        return whole[np.sort(drawn[: self.limit * TESTED_FOR_EACH])]

    @cached_property
    def _trained(self) -> set[str]:
        """Compositions of the training split."""
        labelled = read_formation_energies(self.structures, self.energies, "train")
        return set(compositions(labelled.crystals))

    # -- what is told -----------------------------------------------------------------------------

    def _circumstances(self, pools: list[Labelled]) -> dict[str, Any]:
        counts = [_origins(pool) for pool in pools]
        return {
            "pool.compositions": len(pools),
            "pool.left_out_as_seen": len(unseen()[: self.limit]) - len(pools),
            **{f"pool.{origin}": sum(count[origin] for count in counts) for origin in ORIGINS},
            "pool.hash": pool_hash(pools),
            "teacher": str(self.teacher.label),
            **{f"label.{one.name}": str(one.model.label) for one in self.models if one.model is not None},
            "seed": self.seed,
            "limit": self.limit,
            **machine(self.teacher.device),
        }

    def _details(
        self, measured: list[Measured], pools: list[Labelled], starts: Labelled, ends: Labelled
    ) -> dict[str, Any]:
        """Every composition and every relaxation, JSON values."""
        formulas = [target_of(name).formula for name in self.compositions]
        orders = [
            {
                "formula": formulas[k],
                "composition": name,
                **_origins(pools[k]),
                "models": {one.name: _as_dict(one.orders[k]) for one in measured},
            }
            for k, name in enumerate(self.compositions)
        ]
        rows = {
            one.name: dict(zip(one.started, one.gaps.rows(), strict=True)) for one in measured if one.gaps
        }
        relaxations = [
            {
                "formula": formulas[k],
                "start": starts.ids[k],
                "teacher": ends.ids[k],
                "models": {name: of.get(k) for name, of in rows.items()},
            }
            for k in range(len(starts))
        ]
        return {"schema": SCHEMA, "orders": orders, "relaxations": relaxations}


def _ordered(model: Contestant, pool: Labelled) -> Ordered | None:
    if not bool(model.supports(pool.crystals).all()):
        return None
    teacher = pool.energy / pool.crystals.n_atoms
    return ordered(model.scores(pool.crystals).numpy(), teacher.numpy())


def _origins(pool: Labelled) -> dict[str, int]:
    """How many crystals were made in each way."""
    return {origin: sum(how.startswith(origin) for how in pool.ids) for origin in ORIGINS}


def _as_dict(order: Ordered | None) -> dict[str, Any] | None:
    if order is None:
        return None
    low = None if order.tau_low is None else round(order.tau_low, 4)
    return {"tau": round(order.tau, 4), "tau_low": low, "n_low": order.n_low, "best_at": order.best_at}
