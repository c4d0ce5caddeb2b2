"""What do a few labels of a composition's own virtual crystals buy? READ `TransferBenchmark.run` FIRST.

The setting of the published method: a source that knows relaxed crystals only, by their DFT formation
energies; a target that is truly another energy, a universal potential's on virtual crystals of compositions
that the source has not seen. For each composition there is a pool; 200 of its crystals, drawn at random, are
never labelled and are what is measured on. Labels are drawn at random from the others, or chosen in rounds as
a search chooses them. "last_layer" is the best, by left-out errors, of the strategies that make a new last
layer; "default" is what `surrogates.transfer.adapt.adapt` takes, which from 20 labels on tries new weights
too, and is then measured for some of the compositions.
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

from benchmarks.baselines.shotgun_finetuning import GRID, PublishedRecipe, published
from benchmarks.files import changed
from benchmarks.machine import machine
from benchmarks.surrogate.compositions import target_of, unseen
from benchmarks.surrogate.contestants import exported
from benchmarks.surrogate.pool import Pools, pool_hash
from benchmarks.transfer.summary import Case, plot, summarise, table
from csp.device import resolve_device
from csp.errors import InputError
from csp.files import write_json, write_text
from csp.library.library import Library
from csp.protocols import EnergyModel
from surrogates.active_learning import choose
from surrogates.potentials.models import load_potential
from surrogates.training.batches import KINDS
from surrogates.training.labelled import Labelled, hashed
from surrogates.transfer.adapt import adapt, best, candidates, near_duplicates
from surrogates.transfer.finetune import FROZEN, FineTuning, fine_tune
from surrogates.transfer.fit_correction import LAST_LAYER, fit_correction
from surrogates.transformer.correction import LastLayerCorrection
from surrogates.transformer.network import CrystalTransformer
from surrogates.transformer.surrogate import Surrogate
from surrogates.zoo import is_ours, load_model

__all__ = ["TransferBenchmark"]

SCHEMA = 2
SETTINGS_FILE = "benchmark.json"
COMPOSITIONS = 10
POOL = 1200
TEST = 200
LABELS = (5, 10, 20, 50, 100, 200, 500, 1000)
ROUNDS = (10, 20, 50, 100, 200, 500, 1000)  # labels after each round of those that are chosen
TUNED_LABELS = (20, 50, 200)
OTHERS_LABELS = (50, 200)  # of what is compared with
SCRATCH = FineTuning(head_lr=1.5e-3, trunk_lr=1.5e-3)
GRID_LABELS = 50  # by whose error the published recipe's settings are chosen, on two other compositions

Say = Callable[[str], None]


@dataclass(frozen=True)
class TransferBenchmark:
    """A benchmark in its out folder: labels in `pools/`, measured cases in `cases/`, results beside them.

    Attributes:
        seeds: Draws of the labels.
        tuned: Compositions whose weights are tuned too, with the first two seeds.
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

        Args:
            source: Name, weights file or checkpoint of a surrogate.

        Raises:
            InputError: It has seen a composition of the benchmark, or `out` was made with others.
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
        composition anew.

        Returns:
            The summary.
        """
        pools = Pools(self.out / "pools", unseen(), self.library, self.teacher, self.seed, POOL)
        cases, used = list[Case](), list[Labelled]()
        summary: dict[str, Any] = {}
        for k, name in enumerate(self.compositions):
            used.append(pools[unseen().index(name)])
            for seed in range(self.seeds):
                cases += self._stored(f"{k:03d}-heads-{seed}", partial(self._heads, name, used[-1], seed))
            for seed in range(min(2, self.seeds) if k < self.tuned else 0):
                cases += self._stored(f"{k:03d}-tuned-{seed}", partial(self._tunings, name, used[-1], seed))
                others = partial(self._others, name, used[-1], seed, pools)
                cases += self._stored(f"{k:03d}-others-{seed}", others)
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
            energy = known.before + heads["last_layer"].change(known.features)
            sigma = heads["last_layer"].sigma(known.features)

    # -- new weights ------------------------------------------------------------------------------

    def _tunings(self, name: str, pool: Labelled, seed: int) -> Iterator[Case]:
        """The default and, if it is another, full fine-tuning."""
        known = _Known.of(self.source, pool)
        test, rest = _split(len(pool), self.seed + seed)
        for n in TUNED_LABELS:
            rows = torch.from_numpy(rest[:n])
            labelled, groups = pool[rows], known.groups(rows.numpy()).tolist()
            learn = partial(
                adapt, self.source, labelled.crystals, labelled.energy, self.teacher.label, groups=groups
            )
            default = learn(seed=seed)
            full = default if default.strategy == "full" else learn(strategy="full", seed=seed)
            for strategy, found in (("default", default), ("full", full)):
                yield known.adapted(name, seed, strategy, n, test, found.surrogate)

    def _others(self, name: str, pool: Labelled, seed: int, pools: Pools) -> Iterator[Case]:
        """What full fine-tuning is compared with."""
        known = _Known.of(self.source, pool)
        test, rest = _split(len(pool), self.seed + seed)
        network, column = self.source.network, self.source.column
        recipe = self._recipe(pools)
        for n in OTHERS_LABELS:
            rows = torch.from_numpy(rest[:n])
            labelled, groups = pool[rows], known.groups(rows.numpy())
            torch.manual_seed(seed)
            new = CrystalTransformer(network.architecture).to(self.source.device)
            for strategy, tuned in (
                ("frozen", fine_tune(network, column, labelled, groups, FROZEN, seed=seed).network),
                ("scratch", fine_tune(new, column, labelled, groups, SCRATCH, seed=seed).network),
                ("published", published(network, column, labelled, groups, recipe, seed)),
            ):
                yield known.adapted(name, seed, strategy, n, test, self._surrogate(tuned))

    def _recipe(self, pools: Pools) -> PublishedRecipe:
        """Of the grid, the settings with the smallest error on two compositions that nothing else is measured
        on; they are kept in `recipe.json`."""
        path = self.out / "recipe.json"
        if not path.is_file():
            errors = np.zeros(len(GRID))
            for name in [name for name in unseen() if name not in self.compositions][:2]:
                pool = pools[unseen().index(name)]
                known = _Known.of(self.source, pool)
                test, rest = _split(len(pool), self.seed)
                rows = torch.from_numpy(rest[:GRID_LABELS])
                labelled, groups = pool[rows], known.groups(rows.numpy())
                for k, recipe in enumerate(GRID):
                    network = self.source.network
                    tuned = published(network, self.source.column, labelled, groups, recipe, self.seed)
                    model = self._surrogate(tuned)
                    errors[k] += known.adapted(name, 0, "published", len(rows), test, model).ratio / 2
            write_json(
                path,
                {
                    "error_ratios": [
                        asdict(r) | {"error_ratio": e} for r, e in zip(GRID, errors.tolist(), strict=True)
                    ]
                },
            )
        tried = json.loads(path.read_text(encoding="utf-8"))["error_ratios"]
        best = min(tried, key=lambda row: row["error_ratio"])
        return PublishedRecipe(best["lr"], best["clip"])

    def _surrogate(self, network: CrystalTransformer) -> Surrogate:
        return Surrogate(
            network, kind="tuned", name="tuned", label=self.teacher.label, elements=self.source.elements
        )

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

    def heads(self, rows: np.ndarray) -> dict[str, LastLayerCorrection]:
        """Of every strategy that so many labels allow, and "last_layer": that of the one which is chosen as
        `surrogates.transfer.adapt.adapt` chooses; where that tries nothing else, it is "default", too."""
        change, group = (self.labels - self.before)[rows], self.groups(rows)
        fits = {
            name: fit_correction(name, self.features[rows], change, self.old, group)
            for name in candidates(len(rows))
            if name in LAST_LAYER
        }
        taken = best({name: left_out for name, (_, left_out) in fits.items()})
        heads = {name: head for name, (head, _) in fits.items()} | {"last_layer": fits[taken][0]}
        if not set(candidates(len(rows))) - set(LAST_LAYER):
            heads["default"] = fits[taken][0]
        return heads

    def headed(
        self,
        name: str,
        seed: int,
        way: str,
        strategy: str,
        n: int,
        test: np.ndarray,
        head: LastLayerCorrection,
    ) -> Case:
        energy = self.before + head.change(self.features)
        return self.case(name, seed, way, strategy, n, test, energy, head.sigma(self.features))

    def adapted(
        self, name: str, seed: int, strategy: str, n: int, test: np.ndarray, model: Surrogate
    ) -> Case:
        found = model.evaluate(self.pool.crystals)
        energy = found.energy / self.pool.crystals.n_atoms
        return self.case(name, seed, "random", strategy, n, test, energy, found.sigma)

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
