"""What do a few labels of a composition's own virtual crystals buy? READ `TransferBenchmark.run` FIRST.

The setting of the published method: a source that knows relaxed crystals only, by their DFT formation
energies; a target that is truly another energy, a universal potential's on virtual crystals of compositions
that the source has not seen. For each composition there is a pool; 200 of its crystals, drawn at random, are
never labelled and are what is measured on. Labels are drawn at random from the others, or chosen in rounds as
a search chooses them. "default" is the default's choice among the strategies that make a new last layer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.contestants import exported
from benchmarks.files import changed, write_json, write_text
from benchmarks.machine import machine
from benchmarks.surrogate_pool import Pools, pool_hash
from benchmarks.transfer_summary import Case, plot, summarise, table
from benchmarks.unseen import target_of, unseen
from csp.engine import resolve_device
from csp.errors import InputError
from csp.library import Library
from csp.protocols import EnergyModel, Label
from surrogates.batches import KINDS
from surrogates.data import Labelled, hashed
from surrogates.finetune import FROZEN, FULL, FineTuning, fine_tune
from surrogates.heads import HEADS, Head, fit_head
from surrogates.learner import choose
from surrogates.potentials import load_potential
from surrogates.surrogate import Surrogate
from surrogates.transfer import best, candidates, near_duplicates
from surrogates.transformer import CrystalTransformer
from surrogates.zoo import is_ours, load_model

__all__ = ["TransferBenchmark"]

SCHEMA = 1
SETTINGS_FILE = "benchmark.json"
COMPOSITIONS = 10
POOL = 1200
TEST = 200
LABELS = (5, 10, 20, 50, 100, 200, 500, 1000)
ROUNDS = (10, 20, 50, 100, 200, 500, 1000)  # labels after each round of those that are chosen
TUNED_LABELS = (50, 200)
TUNINGS: dict[str, FineTuning] = {
    "full": FULL,
    "frozen": FROZEN,
    # Adam, squared error, early stopping after 20 epochs, as ShotgunCSP fine-tunes; its grid is not searched
    "published": FineTuning(
        head_lr=4e-3, trunk_lr=4e-3, pull=0.0, epochs=100, patience=20, clip=0.006, ema=0.0, squared=True
    ),
    "scratch": FineTuning(head_lr=1.5e-3, trunk_lr=1.5e-3, pull=0.0, epochs=60, patience=15),
}

Say = Callable[[str], None]


@dataclass(frozen=True)
class TransferBenchmark:
    """A benchmark in its out folder: labels in `pools/`, measured cases in `cases/`, results beside them.

    seeds  draws of the labels; tuned: compositions whose weights are tuned too, with the first two seeds
    """

    out: Path
    source: Surrogate
    teacher: EnergyModel
    library: Library
    seed: int
    compositions: list[str]
    seeds: int
    tuned: int

    @classmethod
    def begin(
        cls,
        structures: Path,
        source: str,
        teacher: str,
        out: Path,
        *,
        limit: int | None = None,
        seeds: int = 5,
        tuned: int = 3,
        seed: int = 0,
        device: str = "auto",
    ) -> TransferBenchmark:
        """Start a benchmark, or go on with the one in `out`.

        source: name, weights file or checkpoint of a surrogate. Raises InputError for one that has seen a
        composition of the benchmark, or where `out` was made with others.
        """
        place = resolve_device(device)
        path = exported(Path(source), out / "models") if (Path(source) / "about.json").is_file() else source
        if not is_ours(path):
            raise InputError(f"{source} is neither a model nor a checkpoint of ours.")
        model = load_model(path, place, kind=KINDS[0])
        assert isinstance(model, Surrogate)
        names = [name for name in unseen() if model.elements.issuperset(target_of(name).numbers)]
        names = names[: limit or COMPOSITIONS]
        leaked = [target_of(name).formula for name in names if hashed(name) in model.seen]
        if leaked:
            raise InputError(f"{source} was trained on {leaked[0]}, which it is judged on.")
        potential, library = load_potential(teacher, place), Library.open(structures)
        settings = {
            "schema": SCHEMA,
            "seed": seed,
            "library": library.fingerprint,
            "source": str(model.label),
            "teacher": str(potential.label),
        }
        file = out / SETTINGS_FILE
        if different := changed(file, settings):
            raise InputError(f"{out} was begun with another {', another '.join(different)}.")
        write_json(file, settings)
        return cls(out, model, potential, library, seed, names, seeds, tuned)

    def run(self, say: Say = lambda line: None) -> dict[str, Any]:
        """Measure all and write `summary.json`, `transfer.json`, `table.md` and `transfer.png`, after each
        composition anew; returns the summary."""
        pools = Pools(self.out / "pools", unseen(), self.library, self.teacher, self.seed, POOL)
        cases, used = list[Case](), list[Labelled]()
        summary: dict[str, Any] = {}
        for k, name in enumerate(self.compositions):
            used.append(pools[unseen().index(name)])
            for seed in range(self.seeds):
                cases += self._stored(f"{k:03d}-heads-{seed}", partial(self._heads, name, used[-1], seed))
            for seed in range(min(2, self.seeds) if k < self.tuned else 0):
                cases += self._stored(f"{k:03d}-tuned-{seed}", partial(self._tunings, name, used[-1], seed))
            say(
                f"{k + 1:3d}/{len(self.compositions)}  {target_of(name).formula:<16} {len(used[-1])} crystals"
            )
            summary = summarise(cases, self.seed) | self._circumstances(used)
            details = {"schema": SCHEMA, "cases": [asdict(case) for case in cases]}
            write_json(self.out / "transfer.json", details)
            write_text(self.out / "table.md", table(summary))
            plot(summary, self.out / "transfer.png")
            write_json(self.out / "summary.json", summary)
        return summary

    def _stored(self, name: str, measure: Callable[[], Iterator[Case]]) -> list[Case]:
        path = self.out / "cases" / f"{name}.json"
        if not path.is_file():
            write_json(path, {"cases": [asdict(case) for case in measure()]})
        return [Case(**case) for case in json.loads(path.read_text(encoding="utf-8"))["cases"]]

    # -- a new last layer -------------------------------------------------------------------------

    def _heads(self, name: str, pool: Labelled, seed: int) -> Iterator[Case]:
        known = _Known.of(self.source, pool)
        test, rest = _split(len(pool), self.seed + seed)
        yield known.case(name, seed, "random", "none", 0, test, known.before, None)
        for n in LABELS:
            if n <= len(rest):
                for strategy, head in known.heads(rest[:n]).items():
                    yield known.headed(name, seed, "random", strategy, n, test, head)
        taken, energy, sigma = list[int](), known.before, None
        for n in ROUNDS:
            if n > len(rest):
                break
            more = n - len(taken)
            taken += choose(known.features, energy, sigma, rest.tolist(), taken, more, self.seed + seed)
            heads = known.heads(np.array(taken))
            for strategy, head in heads.items():
                yield known.headed(name, seed, "chosen", strategy, n, test, head)
            energy = known.before + heads["default"].change(known.features)
            sigma = heads["default"].sigma(known.features)

    # -- new weights ------------------------------------------------------------------------------

    def _tunings(self, name: str, pool: Labelled, seed: int) -> Iterator[Case]:
        known = _Known.of(self.source, pool)
        test, rest = _split(len(pool), self.seed + seed)
        for n in TUNED_LABELS:
            rows = torch.from_numpy(rest[:n])
            labelled = pool[rows]
            for strategy, settings in TUNINGS.items():
                network, column = self.source.network, self.source.column
                if strategy == "scratch":
                    torch.manual_seed(seed)
                    network = CrystalTransformer(network.architecture).to(self.source.device)
                tuned = fine_tune(network, column, labelled, known.groups(rows.numpy()), settings, seed=seed)
                model = Surrogate(
                    tuned.network,
                    kind="tuned",
                    name=strategy,
                    label=Label("", "", strategy),
                    elements=self.source.elements,
                )
                energy = model.evaluate(pool.crystals).energy / pool.crystals.n_atoms
                yield known.case(name, seed, "random", strategy, n, test, energy, None)

    # -- what is told -----------------------------------------------------------------------------

    def _circumstances(self, pools: list[Labelled]) -> dict[str, Any]:
        return {
            "compositions": len(pools),
            "crystals": sum(len(pool) for pool in pools),
            "pool.hash": pool_hash(pools),
            "source": str(self.source.label),
            "teacher": str(self.teacher.label),
            "seeds": self.seeds,
            "tuned_compositions": min(self.tuned, len(pools)),
            "seed": self.seed,
            **machine(self.source.device),
        }


@dataclass(frozen=True)
class _Known:
    """What the source says of a pool, computed once: features [B, W], energies before and labels, eV/atom."""

    pool: Labelled
    features: Tensor
    before: Tensor
    labels: Tensor
    old: Tensor

    @classmethod
    def of(cls, source: Surrogate, pool: Labelled) -> _Known:
        n_atoms = pool.crystals.n_atoms
        return cls(
            pool,
            source.features(pool.crystals).cpu(),
            source.evaluate(pool.crystals).energy / n_atoms,
            pool.energy / n_atoms,
            source.network.energy.weight[source.column].double().cpu(),
        )

    def groups(self, rows: np.ndarray) -> np.ndarray:
        return self._groups[rows]

    @cached_property
    def _groups(self) -> np.ndarray:
        return near_duplicates(self.pool.crystals)

    def heads(self, rows: np.ndarray) -> dict[str, Head]:
        """Of every strategy that so many labels allow, and "default": that of the one which is chosen as
        `surrogates.transfer.adapt` chooses."""
        change, group = (self.labels - self.before)[rows], self.groups(rows)
        fits = {
            name: fit_head(name, self.features[rows], change, self.old, group)
            for name in candidates(len(rows))
            if name in HEADS
        }
        taken = best({name: left_out for name, (_, left_out) in fits.items()})
        return {name: head for name, (head, _) in fits.items()} | {"default": fits[taken][0]}

    def headed(
        self, name: str, seed: int, way: str, strategy: str, n: int, test: np.ndarray, head: Head
    ) -> Case:
        energy = self.before + head.change(self.features)
        return self.case(name, seed, way, strategy, n, test, energy, head.sigma(self.features))

    def case(
        self,
        name: str,
        seed: int,
        way: str,
        strategy: str,
        n: int,
        test: np.ndarray,
        energy: Tensor,
        sigma: Tensor | None,
    ) -> Case:
        truth = self.labels[test].numpy()
        return Case.measured(
            name,
            seed,
            way,
            strategy,
            n,
            energy[test].numpy(),
            truth,
            self.before[test].numpy(),
            None if sigma is None else sigma[test].numpy(),
        )


def _split(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The crystals that are measured on, and the others in the order in which they are labelled."""
    order = np.random.default_rng([seed, n]).permutation(n)
    return np.sort(order[:TEST]), order[TEST:]
