"""Training of the transformer surrogate: resumable to the step, on one CPU core or a GPU.

    csp train surrogate --structures S.parquet --energies E.parquet --out DIR [--virtual SHARDS]

Imports torch, numpy and pyarrow only, so that it runs where nothing else is installed. Formation
energies from DFT train the head "formation"; virtual crystals labelled by a teacher (see
`surrogates.training.virtual_crystals`) train the head "anchored", with forces and stress.

Ablations change the architecture and keep the number of parameters within 1 %; each is a training of
its own, to be repeated with --seed 0, 1, 2 and a --steps that can be afforded:

    --changes '{"attention": false}'   the mean over the neighbours; queries, keys and biases idle
    --changes '{"angular": 0, "hidden": 240}'   no three-body invariants
    --changes '{"heads": 4, "key": 16, "value": 64, "hidden": 228}'
    --changes '{"heads": 16, "key": 4, "value": 16, "hidden": 76}'
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from csp.device import keep_freed_memory
from csp.errors import InputError
from csp.training.schedule import learning_rate
from surrogates.training.batches import KINDS, Source, Stream
from surrogates.training.checkpoints import State, adopt, parents, restore, save, seen_by
from surrogates.training.labelled import Labelled, compositions, hashed, read_formation_energies, read_shard
from surrogates.training.losses import element_references, energy_loss, mean_error, slope_loss
from surrogates.transformer.network import SIZES, Architecture, CrystalTransformer

__all__ = ["Recipe", "Row", "plot", "read_sources", "train"]

Row = dict[str, float]
"""What is known of a hundred steps: step, lr, seconds, mean losses, val_… (eV/atom) where validated."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the course of a training beside its data; saved with what it made.

    steps       optimiser steps in all
    batch       crystals in a step
    lr          peak learning rate: linear warm-up, plateau, cosine over the last `decay` of the steps
    ema         decay per step of the averaged weights, which are the ones shipped
    force       weight of |directional derivative error| (eV/Å) against |energy error| (eV/atom)
    small       cells of at most this many atoms in the first part of the training …
    small_until … which ends at this fraction of the steps
    changes     to the architecture of the size, for ablations: {"heads": 4}
    """

    size: str = "xs"
    steps: int = 20_000
    batch: int = 32
    lr: float = 1.5e-3
    warmup: int = 300
    decay: float = 0.4
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    force: float = 0.2
    small: int = 20
    small_until: float = 0.5
    seed: int = 0
    changes: dict[str, Any] = field(default_factory=dict)

    def architecture(self) -> Architecture:
        if self.size not in SIZES:
            raise InputError(f"There is no size {self.size!r}; known are {', '.join(SIZES)}.")
        try:
            return Architecture(kinds=KINDS, **(dict(SIZES[self.size]) | self.changes))
        except TypeError as error:
            raise InputError(f"The architecture has no such setting: {error}.") from error

    def learning_rate(self, step: int) -> float:
        return learning_rate(step, steps=self.steps, peak=self.lr, warmup=self.warmup, decay=self.decay)


def read_sources(
    structures: Path,
    energies: Path,
    virtual: Path | None = None,
    *,
    cutoff: float,
    device: torch.device,
    virtual_share: float = 0.5,
    exclude: Iterable[str] = (),
    max_atoms: int = 10**9,
) -> tuple[list[Source], list[Source]]:
    """What to train on and what to validate on: formation energies and, where there are any, shards.

    virtual: folder of labelled shards (train-*.npz, val-*.npz), drawn from in `virtual_share` of the steps.
    exclude: compositions ("8:3 22:1") whose formation energies are left out, as are cells of more than
    `max_atoms` atoms. Raises InputError where the folder holds no shard to train on.
    """
    excluded = list(exclude)

    def formation(split: str, share: float) -> Source:
        found = read_formation_energies(structures, energies, split, excluded)
        return Source("formation", found[found.crystals.n_atoms <= max_atoms], share, cutoff, device)

    sources = [formation("train", 1.0 - virtual_share if virtual else 1.0)]
    validation = [formation("val", 0.0)]
    for prefix, target in (("train", sources), ("val", validation)):
        shards = sorted(virtual.glob(f"{prefix}-*.npz")) if virtual else []
        if shards:
            joined = Labelled.cat([read_shard(path) for path in shards])
            target.append(Source("anchored", joined, virtual_share, cutoff, device))
        elif virtual and target is sources:
            raise InputError(f"{virtual} holds no shards to train on (train-*.npz).")
    return sources, validation


def train(
    recipe: Recipe,
    sources: Sequence[Source],
    validation: Sequence[Source],
    out: Path,
    *,
    device: torch.device,
    start_from: Path | None = None,
    minutes_between_checkpoints: float = 5.0,
    steps_between_validations: int = 2000,
    stop_after_minutes: float = math.inf,
    tell: Callable[[Row], None] = lambda row: None,
) -> CrystalTransformer:
    """Train to the end of the recipe, or until told to stop; returns the averaged model.

    Continues from the newest checkpoint in `out` as if never interrupted (same batches, same
    directions). `start_from`: a checkpoint of another training, or a model's weights file, to begin with
    the weights of. Sources are on `device`. `tell` hears each line of `log.jsonl`.
    """
    state = _begin(recipe, sources, start_from, device)
    out.mkdir(parents=True, exist_ok=True)
    restore(out, state)
    about = {
        "recipe": asdict(recipe),
        "architecture": asdict(recipe.architecture()),
        "seen": sorted(
            {hashed(c) for s in sources for c in compositions(s.labelled.crystals)}
            | (seen_by(start_from) if start_from else set())
        ),
        "parents": parents(start_from) if start_from else [],
        "elements": sorted({z for s in sources for z in s.labelled.crystals.numbers.unique().tolist()}),
        "crystals": {s.kind: len(s) for s in sources},
    }
    log = Log(out / "log.jsonl", tell)
    started = saved = time.monotonic()
    over = state.step >= recipe.steps
    while not over:
        _step(recipe, sources, state, log)
        now = time.monotonic()
        done = state.step == recipe.steps
        over = done or now - started > 60.0 * stop_after_minutes
        if state.step % steps_between_validations == 0 or done:
            log.validated({source.kind: mean_error(state.average, source) for source in validation})
        if state.step % 100 == 0 or over:
            log.write(state.step, recipe.learning_rate(state.step), now - started)
        if over or now - saved > 60.0 * minutes_between_checkpoints:
            save(out, state, about)
            saved = now
    return state.average


def _begin(recipe: Recipe, sources: Sequence[Source], start_from: Path | None, device: torch.device) -> State:
    torch.manual_seed(recipe.seed)
    model = CrystalTransformer(recipe.architecture())
    for source in sources:
        model.reference[source.column] = element_references(source.labelled.to(torch.device("cpu")))
    if start_from is not None:
        adopt(model, start_from, trained={source.column for source in sources})
    model.to(device)
    average = copy.deepcopy(model).requires_grad_(False)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=recipe.weight_decay, fused=True
    )
    limits = (recipe.small, 10**9)
    streams = [Stream(s, recipe.batch, recipe.seed, limit) for limit in limits for s in sources]
    return State(model, average, optimiser, streams)


def _step(recipe: Recipe, sources: Sequence[Source], state: State, log: Log) -> None:
    """One step of the optimiser, decided by the recipe, the state's streams and its step alone."""
    rng = np.random.default_rng([recipe.seed, state.step])
    shares = np.array([source.share for source in sources])
    which = int(rng.choice(len(sources), p=shares / shares.sum()))
    small = state.step < recipe.small_until * recipe.steps
    chosen = next(state.streams[which + (0 if small else len(sources))])
    source = sources[which]
    if source.labelled.forces is None:
        energy, slope = energy_loss(state.model, source, chosen), None
        loss = energy.mean()
    else:
        energy, slope = slope_loss(state.model, source, chosen, rng)
        loss = energy.mean() + recipe.force * slope.mean()
    for group in state.optimiser.param_groups:
        group["lr"] = recipe.learning_rate(state.step)
    state.optimiser.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip)
    if torch.isfinite(norm):
        state.optimiser.step()
    else:
        log.skipped += 1
    state.follow(min(recipe.ema, (state.step + 1) / (state.step + 10)))
    state.step += 1
    log.add(source.kind, energy, slope)


class Log:
    """Running losses: a line of JSON per hundred steps on disk, and told to who listens."""

    def __init__(self, path: Path, tell: Callable[[Row], None]) -> None:
        self.path, self.tell = path, tell
        self.skipped = 0  # steps whose gradient was not finite
        self.validation: dict[str, float] = {}
        self.sums: dict[str, list[float]] = {}

    def add(self, kind: str, energy: Tensor, slope: Tensor | None) -> None:
        self.sums.setdefault(f"{kind}_energy", []).append(float(energy.detach().mean()))
        if slope is not None:
            self.sums.setdefault(f"{kind}_slope", []).append(float(slope.detach().mean()))

    def validated(self, errors: dict[str, float]) -> None:
        self.validation = {f"val_{kind}": error for kind, error in errors.items()}

    def write(self, step: int, lr: float, seconds: float) -> None:
        means = {name: sum(values) / len(values) for name, values in self.sums.items()}
        row: Row = {"step": step, "lr": lr, "seconds": round(seconds, 1)}
        row |= {name: round(value, 5) for name, value in (means | self.validation).items()}
        if self.skipped:
            row["skipped_not_finite"] = self.skipped
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.tell(row)
        self.sums, self.validation = {}, {}


def plot(log: Path, image: Path) -> None:
    """The course of a training as a PNG; needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = {row["step"]: row for row in map(json.loads, log.read_text().splitlines())}.values()
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for name in sorted({key for row in rows for key in row} - {"step", "lr", "seconds"}):
        points = [(row["step"], row[name]) for row in rows if name in row]
        axes.plot(*zip(*points, strict=True), "o-" if name.startswith("val") else "-", label=name, ms=3)
    axes.set(xlabel="step", ylabel="mean absolute error (eV/atom, eV/Å)", yscale="log")
    axes.legend()
    figure.savefig(image, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="csp train surrogate", description=__doc__.splitlines()[0])
    parser.add_argument("--structures", type=Path, required=True, help="Parquet table of crystals")
    parser.add_argument("--energies", type=Path, required=True, help="Parquet table of formation energies")
    parser.add_argument("--virtual", type=Path, help="directory of labelled shards (train-*.npz, val-*.npz)")
    parser.add_argument("--exclude", type=Path, help="compositions to leave out, one per line (8:3 22:1)")
    parser.add_argument(
        "--out", type=Path, required=True, help="checkpoints and log; continued if they exist"
    )
    parser.add_argument("--start-from", type=Path, help="checkpoint or model (.safetensors) to begin with")
    parser.add_argument("--virtual-share", type=float, default=0.5, help="of the steps, on virtual crystals")
    parser.add_argument(
        "--max-atoms", type=int, default=10**9, help="leave larger formation-energy cells out"
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so long; resume later")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads")
    for name, default in asdict(Recipe()).items():
        kind = json.loads if isinstance(default, dict) else type(default)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default)
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    keep_freed_memory()
    torch.set_flush_denormal(True)
    recipe = Recipe(**{name: getattr(options, name) for name in asdict(Recipe())})
    exclude = options.exclude.read_text().splitlines() if options.exclude else []
    device = torch.device(options.device)
    sources, validation = read_sources(
        options.structures,
        options.energies,
        options.virtual,
        cutoff=recipe.architecture().cutoff,
        device=device,
        virtual_share=options.virtual_share,
        exclude=exclude,
        max_atoms=options.max_atoms,
    )
    for source in sources:
        print(f"{source.kind}: {len(source)} crystals, {len(source.cache.counts)} atoms", flush=True)
    train(
        recipe,
        sources,
        validation,
        options.out,
        device=device,
        start_from=options.start_from,
        stop_after_minutes=options.minutes,
        tell=lambda row: print(" ".join(f"{name}={value:.5g}" for name, value in row.items()), flush=True),
    )
    try:
        plot(options.out / "log.jsonl", options.out / "log.png")
    except ModuleNotFoundError as error:
        print(f"No plot: {error}.", file=sys.stderr)


if __name__ == "__main__":
    main()
