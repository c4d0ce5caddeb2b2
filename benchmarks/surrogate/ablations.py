"""What each part of the surrogate is worth: networks of equal size on a short schedule, several seeds each.

A variant changes the architecture or the labels and nothing else: the same crystals, steps and seeds. Small
networks that are trained shortly say which way a part works, not how good the finished model is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.files import changed
from benchmarks.machine import machine
from benchmarks.rank_metrics import ordered
from benchmarks.surrogate.ablated_properties import AblatedProperties
from benchmarks.surrogate.benchmark import TEACHER
from benchmarks.surrogate.compositions import benchmark_compositions, unseen
from benchmarks.surrogate.contestants import RELAXED_ONLY, exported
from benchmarks.surrogate.pool import Pools
from csp.device import resolve_device
from csp.errors import InputError
from csp.files import write_json, write_text
from csp.library.library import Library
from csp.training.checkpoints import checkpoints
from surrogates.properties.catalogue import LOG10, PROPERTIES
from surrogates.training.batches import KINDS
from surrogates.training.labelled import Labelled, read_formation_energies, read_teacher
from surrogates.training.train import SurrogateRecipe, read_sources, train_network
from surrogates.zoo import load_model

__all__ = ["VARIANTS", "Ablations", "Variant"]

SCHEMA = 1
FORMATION, ANCHORED = KINDS
VIRTUAL_SHARE = 0.45  # of the steps, as in the training of what ships
MAX_ATOMS = 20  # in a cell that is learned from or tested on
MEASURES = ("mae_test_mev", "tau_virtual", "tau_virtual_low")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Variant:
    """A network that is trained to see what a part is worth.

    Attributes:
        changes: To the architecture, at an equal number of parameters within 1 %.
        labels: Of the virtual crystals: "anchored" or "teacher" (its own energies); None: there are none.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    labels: str | None = "anchored"


VARIANTS = {
    "full": Variant(),
    "mean_over_neighbours": Variant({"attention": False}),
    "no_three_body": Variant({"angular": 0, "hidden": 240}),
    "heads_4": Variant({"heads": 4, "key": 16, "value": 64, "hidden": 228}),
    "heads_16": Variant({"heads": 16, "key": 4, "value": 16, "hidden": 76}),
    "teacher_energies": Variant(labels="teacher"),
    RELAXED_ONLY: Variant(labels=None),
}


@dataclass(frozen=True)
class Ablations:
    """Trainings and what came of them, in an out folder: one folder a network, `NAME.json` when measured.

    Attributes:
        virtual: Folders of shards by the kind of their labels, "anchored" and "teacher".
        pools: Folder of `csp benchmark surrogate`'s pools, made where they are missing.
        limit: Compositions whose pools are ordered.
        properties: That are learned from the features of each network.
    """

    structures: Path
    energies: Path
    virtual: dict[str, Path]
    pools: Path
    out: Path
    steps: int
    seeds: int
    limit: int
    variants: Sequence[str]
    properties: AblatedProperties
    device: torch.device

    @classmethod
    def begin(
        cls,
        structures: Path,
        energies: Path,
        virtual: dict[str, Path],
        out: Path,
        *,
        pools: Path,
        steps: int = 2000,
        seeds: int = 3,
        limit: int | None = None,
        variants: Sequence[str] | None = None,
        properties: Sequence[str] = (),
        tables: Sequence[Path] = (),
        values: int | None = None,
        device: str = "auto",
    ) -> Ablations:
        """Start, or go on with what is in `out`; properties can be asked for of networks that are there.

        Args:
            values: Crystals of each property at most; None: all.

        Raises:
            InputError: There is no such variant or property, or the out folder is of another schedule or
                other pools.
        """
        learned = AblatedProperties(properties, structures, tables, values, MAX_ATOMS, out / "properties")
        learned.check()
        chosen = list(VARIANTS) if variants is None else list(variants)
        if unknown := sorted(set(chosen) - VARIANTS.keys()):
            raise InputError(f"No variant is called {unknown[0]}; there are {', '.join(VARIANTS)}.")
        limit = limit or len(unseen())
        fingerprint = Library.open(structures).fingerprint
        settings = {"schema": SCHEMA, "steps": steps, "limit": limit, "library": fingerprint}
        if different := changed(out / "ablations.json", settings):
            raise InputError(f"{out} holds networks trained with another {', another '.join(different)}.")
        write_json(out / "ablations.json", settings)
        return cls(
            structures,
            energies,
            virtual,
            pools,
            out,
            steps,
            seeds,
            limit,
            chosen,
            learned,
            resolve_device(device),
        )

    def run(self, say: Say = lambda line: None) -> dict[str, Any]:
        """Train and measure all networks; write `summary.json` and `table.md` and return the summary."""
        found: dict[str, list[dict[str, float]]] = {}
        measures = [*MEASURES, *self.properties.measures]
        for seed in range(self.seeds):
            for name in self.variants:
                path = self.out / f"{name}-{seed}.json"
                if not path.is_file():
                    write_json(path, self._measured(name, seed))
                one = json.loads(path.read_text(encoding="utf-8"))
                weights = self.out / "models" / f"{path.stem}.safetensors"
                one |= self.properties.measured(weights, seed, self.device, say)
                found.setdefault(name, []).append(one)
                say(f"{name:<22} seed {seed}  " + "  ".join(f"{key} {one[key]:.3f}" for key in measures))
        summary: dict[str, Any] = {}
        for name, of_seeds in found.items():
            summary[f"parameters.{name}"] = of_seeds[0]["parameters"]
            for key in measures:
                values = [one[key] for one in of_seeds]
                summary[f"{key}.{name}"] = round(float(np.mean(values)), 4)
                summary[f"{key}.{name}.sd"] = round(float(np.std(values, ddof=1)), 4) if values[1:] else None
        summary |= {"steps": self.steps, "seeds": self.seeds, "pool.compositions": self.limit}
        summary |= {"max_atoms": MAX_ATOMS, "n_test": len(self._test), **machine(self.device)}
        write_json(self.out / "summary.json", summary)
        write_text(self.out / "table.md", _table(summary, list(found), self.properties))
        return summary

    def _measured(self, name: str, seed: int) -> dict[str, float]:
        variant = VARIANTS[name]
        folder = self.out / f"{name}-{seed}"
        recipe = SurrogateRecipe(steps=self.steps, seed=seed, changes=variant.changes, small=MAX_ATOMS)
        virtual = self.virtual[variant.labels] if variant.labels else None
        sources, _ = read_sources(
            self.structures,
            self.energies,
            virtual,
            cutoff=recipe.architecture().cutoff,
            device=self.device,
            virtual_share=VIRTUAL_SHARE,
            exclude=benchmark_compositions(),
            max_atoms=MAX_ATOMS,
        )
        teacher = read_teacher(virtual) if virtual else ""
        network = train_network(recipe, sources, [], folder, device=self.device, teacher=teacher)
        weights = exported(checkpoints(folder)[-1], self.out / "models")
        formation = load_model(weights, self.device, kind=FORMATION)
        ranker = load_model(weights, self.device, kind=ANCHORED) if variant.labels else formation
        orders = []
        for pool in self._pools:
            n_atoms = pool.crystals.n_atoms
            energy = ranker.evaluate(pool.crystals.to(self.device)).energy.cpu()
            orders.append(ordered((energy / n_atoms).numpy(), (pool.energy / n_atoms).numpy()))
        test = self._test
        error = formation.evaluate(test.crystals.to(self.device)).energy.cpu() - test.energy
        return {
            "mae_test_mev": 1000 * float((error / test.crystals.n_atoms).abs().mean()),
            "tau_virtual": float(np.mean([order.tau for order in orders])),
            "tau_virtual_low": float(np.mean([o.tau_low for o in orders if o.tau_low is not None])),
            "parameters": sum(p.numel() for p in network.parameters()),
        }

    @cached_property
    def _pools(self) -> list[Labelled]:
        library = Library.open(self.structures)
        pools = Pools(self.pools, unseen(), library, load_model(TEACHER, self.device), seed=0)
        return [pools[k] for k in range(self.limit)]

    @cached_property
    def _test(self) -> Labelled:
        whole = read_formation_energies(self.structures, self.energies, "test", benchmark_compositions())
        return whole[whole.crystals.n_atoms <= MAX_ATOMS]


def _table(summary: dict[str, Any], names: Sequence[str], properties: AblatedProperties) -> str:
    """Means over seeds ± standard deviation, Markdown."""
    heads = ["MAE, meV/atom", "τ_b", "τ_b within 0.3 eV/atom", *map(_head, properties.names)]
    keys = [*zip(MEASURES, (1, 3, 3), strict=True), *((key, 4) for key in properties.measures)]
    lines = [f"| variant | parameters | {' | '.join(heads)} |", f"|---{'|---:' * (len(heads) + 1)}|"]
    for name in names:
        cells = [f"{summary[f'parameters.{name}']:,}"]
        for key, digits in keys:
            mean, sd = summary[f"{key}.{name}"], summary[f"{key}.{name}.sd"]
            cells.append(f"{mean:.{digits}f}" + ("" if sd is None else f" ± {sd:.{digits}f}"))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _head(name: str) -> str:
    one = PROPERTIES[name]
    return f"MAE of {one.title}, {f'log10 {one.unit}' if one.scale == LOG10 else one.unit}"
