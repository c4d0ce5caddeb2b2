"""Training of the transformer surrogate: resumable to the step, on one CPU core or a GPU.

    python -m surrogates.train --structures S.parquet --energies E.parquet --out DIR [--virtual SHARDS]

Imports torch, numpy and pyarrow only, so that it runs where nothing else is installed. Formation
energies from DFT train the head "formation"; virtual crystals labelled by a teacher train the head
"anchored", forces and stress through finite differences of the energy along random directions:
the projection on a random direction is right in the mean for the whole gradient, and costs one more
pass instead of a second derivative.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from csp.crystals import ranges
from csp.errors import InputError
from surrogates.data import (
    Labelled,
    NeighbourCache,
    compositions,
    hashed,
    read_formation_energies,
    read_shard,
)
from surrogates.environments import Environments
from surrogates.transformer import MAX_Z, SIZES, Architecture, CrystalTransformer

__all__ = ["KINDS", "Recipe", "Source", "Stream", "element_references", "train"]

KINDS = ("formation", "anchored")
SKIN = 0.1  # Å; more than two atoms approach each other in a finite difference
STEP_LENGTH = 0.02  # Å; half the length of a finite difference over all coordinates of a crystal
STRAIN_LENGTH = 3.0  # Å; a unit of strain counts as this displacement
WINDOW = 64  # batches whose crystals are sorted by their number of neighbours


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
        warm = min(1.0, (step + 1) / max(self.warmup, 1))
        begin = self.steps * (1.0 - self.decay)
        done = max(0.0, (step - begin) / max(self.steps - begin, 1.0))
        return self.lr * warm * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))


class Source:
    """Labelled crystals of one kind with their neighbours, ready to be drawn from.

    share   of the steps that draw from this source
    """

    def __init__(self, kind: str, labelled: Labelled, share: float, cutoff: float) -> None:
        self.kind, self.column, self.labelled, self.share = kind, KINDS.index(kind), labelled, share
        skin = SKIN if labelled.forces is not None else 0.0
        self.cache = NeighbourCache(labelled.crystals, cutoff, skin)

    def __len__(self) -> int:
        return len(self.labelled)


class Stream:
    """Endless batches of a source, each epoch in an order of its own; its whole state is two numbers.

    Batches hold crystals of similar numbers of neighbours, so that padding wastes little.
    """

    def __init__(self, source: Source, batch: int, seed: int, max_atoms: int) -> None:
        self.source, self.batch, self.seed = source, batch, seed
        self.rows = np.flatnonzero((source.labelled.crystals.n_atoms <= max_atoms).numpy())
        if len(self.rows) == 0:
            raise InputError(f"No crystal of kind {source.kind} has at most {max_atoms} atoms.")
        self.epoch, self.position = 0, 0
        self._order = self._plan()

    def _plan(self) -> list[np.ndarray]:
        rng = np.random.default_rng([self.seed, self.source.column, len(self.rows), self.epoch])
        rows = rng.permutation(self.rows)
        width = self.source.cache.width.numpy()
        batches = []
        for start in range(0, len(rows), WINDOW * self.batch):
            window = rows[start : start + WINDOW * self.batch]
            window = window[np.argsort(width[window], kind="stable")]
            batches += [window[k : k + self.batch] for k in range(0, len(window), self.batch)]
        return [batches[k] for k in rng.permutation(len(batches))]

    def seek(self, epoch: int, position: int) -> None:
        self.epoch, self.position = epoch, position
        self._order = self._plan()

    def __next__(self) -> Tensor:
        if self.position == len(self._order):
            self.seek(self.epoch + 1, 0)
        self.position += 1
        return torch.from_numpy(self._order[self.position - 1])


# -- losses -----------------------------------------------------------------------------------------


def energy_loss(model: nn.Module, source: Source, chosen: Tensor, device: torch.device) -> Tensor:
    """float [b]: |energy error|, eV/atom."""
    predicted = model(source.cache.environments(chosen).to(device))[:, source.column]
    n_atoms = source.labelled.crystals.n_atoms[chosen]
    return ((predicted - source.labelled.energy[chosen].to(device)) / n_atoms.to(device)).abs()


def twin_environments(atoms: Environments, displacement: Tensor, strain: Tensor) -> Environments:
    """The crystals moved forwards and, after them, the same crystals moved backwards."""
    forth, back = atoms.displaced(displacement, strain), atoms.displaced(-displacement, -strain)
    return Environments(
        torch.cat([atoms.numbers, atoms.numbers]),
        torch.cat([atoms.crystal, atoms.crystal + atoms.n_crystals]),
        2 * atoms.n_crystals,
        torch.cat([atoms.neighbour, atoms.neighbour + len(atoms.numbers)]),
        torch.cat([forth.vector, back.vector]),
    )


def random_directions(labelled: Labelled, chosen: Tensor, rng: np.random.Generator) -> tuple[Tensor, ...]:
    """A random unit direction in (atoms, strain · STRAIN_LENGTH) of each crystal, and dE along it.

    Returns displacement float [a, 3], strain float [b, 3, 3] per Å of the way, slope float [b] eV/Å.
    """
    n_atoms = labelled.crystals.n_atoms[chosen]
    crystal = torch.repeat_interleave(torch.arange(len(chosen)), n_atoms)
    displacement = torch.from_numpy(rng.standard_normal((len(crystal), 3))).float()
    strain = torch.from_numpy(rng.standard_normal((len(chosen), 3, 3))).float()
    strain = 0.5 * (strain + strain.mT)
    squared = torch.zeros(len(chosen)).index_add(0, crystal, (displacement**2).sum(1))
    length = (squared + (strain**2).sum((1, 2))).sqrt()
    displacement = displacement / length[crystal, None]
    strain = strain / (length[:, None, None] * STRAIN_LENGTH)
    assert labelled.forces is not None
    assert labelled.stress is not None
    atoms = ranges(labelled.crystals.offsets[chosen], n_atoms)
    work = (labelled.forces[atoms] * displacement).sum(1)
    virial = labelled.stress[chosen] * labelled.crystals.volumes[chosen, None, None].float()
    slope = (virial * strain).sum((1, 2)).index_add(0, crystal, work, alpha=-1.0)
    return displacement, strain, slope


def slope_loss(
    model: nn.Module, source: Source, chosen: Tensor, rng: np.random.Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    """float [b] twice: |energy error| eV/atom, |error of the slope along a random direction| eV/Å."""
    displacement, strain, slope = random_directions(source.labelled, chosen, rng)
    atoms = source.cache.environments(chosen)
    twins = twin_environments(atoms, displacement * STEP_LENGTH, strain * STEP_LENGTH).to(device)
    forth, back = model(twins)[:, source.column].chunk(2)
    n_atoms = source.labelled.crystals.n_atoms[chosen].to(device)
    energy = (0.5 * (forth + back) - source.labelled.energy[chosen].to(device)) / n_atoms
    return energy.abs(), ((forth - back) / (2 * STEP_LENGTH) - slope.to(device)).abs()


@torch.no_grad()
def mean_error(model: nn.Module, source: Source, device: torch.device, batch: int = 32) -> float:
    """Mean |energy error| over a source, eV/atom."""
    order = torch.argsort(source.cache.width * 1000 + source.labelled.crystals.n_atoms)
    errors = [energy_loss(model, source, rows, device) for rows in order.split(batch)]
    return float(torch.cat(errors).mean())


def element_references(labelled: Labelled, ridge: float = 1e-3) -> Tensor:
    """float64 [MAX_Z + 1]: energy per atom of each element, by ridge regression on compositions.

    Minimises Σ_b (E_b/n_b − Σ_z x_bz ε_z)² + ridge·B·|ε|²/MAX_Z, x_bz the atomic fractions.
    """
    crystals = labelled.crystals
    fractions = torch.zeros(len(crystals), MAX_Z + 1, dtype=torch.float64)
    weights = 1.0 / crystals.n_atoms.double()[crystals.batch]
    fractions.index_put_((crystals.batch, crystals.numbers), weights, accumulate=True)
    normal = fractions.T @ fractions
    normal += ridge * len(crystals) / MAX_Z * torch.eye(MAX_Z + 1, dtype=torch.float64)
    return torch.linalg.solve(normal, fractions.T @ (labelled.energy / crystals.n_atoms))


# -- the training -----------------------------------------------------------------------------------


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
) -> CrystalTransformer:
    """Train to the end of the recipe, or until told to stop; returns the averaged model.

    Continues from the newest checkpoint in `out` as if never interrupted (same batches, same
    directions). `start_from`: a checkpoint of another training whose weights to begin with.
    """
    torch.manual_seed(recipe.seed)
    model = CrystalTransformer(recipe.architecture())
    for source in sources:
        model.reference[source.column] = element_references(source.labelled)
    if start_from is not None:
        adopt(model, start_from, trained={source.column for source in sources})
    model.to(device)
    average = copy.deepcopy(model).requires_grad_(False)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=recipe.weight_decay, fused=True
    )
    streams = [
        Stream(source, recipe.batch, recipe.seed, limit)
        for limit in (recipe.small, 10**9)
        for source in sources
    ]
    shares = np.array([source.share for source in sources])
    data = {
        "seen": sorted({hashed(c) for s in sources for c in compositions(s.labelled.crystals)}),
        "elements": sorted({z for s in sources for z in s.labelled.crystals.numbers.unique().tolist()}),
        "crystals": {s.kind: len(s) for s in sources},
    }
    out.mkdir(parents=True, exist_ok=True)
    step = restore(out, model, average, optimiser, streams)
    log = Log(out / "log.jsonl", [source.kind for source in sources])
    started = saved = time.monotonic()

    while step < recipe.steps:
        small = step < recipe.small_until * recipe.steps
        rng = np.random.default_rng([recipe.seed, step])
        which = int(rng.choice(len(sources), p=shares / shares.sum()))
        source = sources[which]
        chosen = next(streams[which + (0 if small else len(sources))])
        slope = None
        if source.labelled.forces is None:
            energy = energy_loss(model, source, chosen, device)
            loss = energy.mean()
        else:
            energy, slope = slope_loss(model, source, chosen, rng, device)
            loss = energy.mean() + recipe.force * slope.mean()
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate(step)
        optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        if torch.isfinite(norm):
            optimiser.step()
        else:
            log.skipped += 1
        decay = min(recipe.ema, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1.0 - decay)
        step += 1
        log.add(source.kind, energy, slope)

        now = time.monotonic()
        over = now - started > 60.0 * stop_after_minutes or step == recipe.steps
        if step % steps_between_validations == 0 or step == recipe.steps:
            log.validated({f"{s.kind}": mean_error(average, s, device) for s in validation})
        if step % 100 == 0 or step == recipe.steps:
            log.write(step, recipe, now - started)
        if over or now - saved > 60.0 * minutes_between_checkpoints:
            save(out, step, recipe, model, average, optimiser, streams, data)
            saved = now
        if over:
            break
    return average


class Log:
    """Running losses: a line of JSON per hundred steps on disk, the same line for people on stdout."""

    def __init__(self, path: Path, kinds: Sequence[str]) -> None:
        self.path = path
        self.kinds = kinds
        self.skipped = 0
        self.validation: dict[str, float] = {}
        self.sums: dict[str, list[float]] = {}

    def add(self, kind: str, energy: Tensor, slope: Tensor | None) -> None:
        self.sums.setdefault(f"{kind}_energy", []).append(float(energy.detach().mean()))
        if slope is not None:
            self.sums.setdefault(f"{kind}_slope", []).append(float(slope.detach().mean()))

    def validated(self, errors: dict[str, float]) -> None:
        self.validation = {f"val_{kind}": error for kind, error in errors.items()}

    def write(self, step: int, recipe: Recipe, seconds: float) -> None:
        means = {name: sum(values) / len(values) for name, values in self.sums.items()}
        row = {"step": step, "lr": recipe.learning_rate(step), "seconds": round(seconds, 1)}
        row |= {name: round(value, 5) for name, value in (means | self.validation).items()}
        if self.skipped:
            row["skipped_not_finite"] = self.skipped
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(" ".join(f"{name}={value:.5g}" for name, value in row.items()), flush=True)
        self.sums, self.validation = {}, {}


def plot(log: Path, image: Path) -> None:
    """The course of a training as a PNG; needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [json.loads(line) for line in log.read_text().splitlines()]
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for name in sorted({key for row in rows for key in row} - {"step", "lr", "seconds"}):
        points = [(row["step"], row[name]) for row in rows if name in row]
        axes.plot(*zip(*points, strict=True), "o-" if name.startswith("val") else "-", label=name, ms=3)
    axes.set(xlabel="step", ylabel="mean absolute error (eV/atom, eV/Å)", yscale="log")
    axes.legend()
    figure.savefig(image, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


# -- checkpoints ------------------------------------------------------------------------------------


def save(
    out: Path,
    step: int,
    recipe: Recipe,
    model: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    streams: Sequence[Stream],
    data: dict[str, Any],
) -> None:
    """A directory out/step-… of four tensor files and a JSON, whole or not at all; the older ones go."""
    final, part = out / f"step-{step:08d}", out / "checkpoint.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    state = optimiser.state_dict()["state"]
    torch.save(model.state_dict(), part / "model.pt")
    torch.save(average.state_dict(), part / "average.pt")
    for moment in ("exp_avg", "exp_avg_sq"):
        torch.save({str(k): entry[moment] for k, entry in state.items()}, part / f"{moment}.pt")
    about = data | {
        "step": step,
        "updates": {str(k): float(entry["step"]) for k, entry in state.items()},
        "recipe": asdict(recipe),
        "architecture": asdict(recipe.architecture()),
        "streams": [[stream.epoch, stream.position] for stream in streams],
    }
    (part / "about.json").write_text(json.dumps(about))
    shutil.rmtree(final, ignore_errors=True)
    os.replace(part, final)
    for old in checkpoints(out)[:-1]:
        shutil.rmtree(old)


def checkpoints(out: Path) -> list[Path]:
    """The checkpoints in a directory, oldest first."""
    return sorted(path for path in out.glob("step-*") if (path / "about.json").exists())


def restore(
    out: Path,
    model: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    streams: Sequence[Stream],
) -> int:
    """Continue from the newest checkpoint; returns its step, 0 where there is none."""
    found = checkpoints(out)
    if not found:
        return 0
    path = found[-1]
    about = json.loads((path / "about.json").read_text())

    def tensors(name: str) -> dict[str, Tensor]:
        return torch.load(path / f"{name}.pt", weights_only=True, map_location="cpu")

    model.load_state_dict(tensors("model"))
    average.load_state_dict(tensors("average"))
    first, second = tensors("exp_avg"), tensors("exp_avg_sq")
    state = {
        int(k): {"step": torch.tensor(n), "exp_avg": first[k], "exp_avg_sq": second[k]}
        for k, n in about["updates"].items()
    }
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    for stream, (epoch, position) in zip(streams, about["streams"], strict=True):
        stream.seek(epoch, position)
    return int(about["step"])


def adopt(model: CrystalTransformer, path: Path, trained: set[int]) -> None:
    """Begin with the averaged weights of another training; heads that it lacked start as its first.

    trained: columns that this training has labels for; their references stay as fitted here only
    where the other training had none.
    """
    weights = torch.load(path / "average.pt", weights_only=True, map_location="cpu")
    fitted = model.reference.clone()
    model.load_state_dict(weights)
    with torch.no_grad():
        for column in range(len(model.reference)):
            if not bool(model.reference[column].any()) and column in trained:
                model.reference[column] = fitted[column]
                model.energy.weight[column] = model.energy.weight[0]
                model.energy.bias[column] = model.energy.bias[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m surrogates.train", description=__doc__.splitlines()[0])
    parser.add_argument("--structures", type=Path, required=True, help="Parquet table of crystals")
    parser.add_argument("--energies", type=Path, required=True, help="Parquet table of formation energies")
    parser.add_argument("--virtual", type=Path, help="directory of labelled shards (train-*.npz, val-*.npz)")
    parser.add_argument("--exclude", type=Path, help="compositions to leave out, one per line (8:3 22:1)")
    parser.add_argument(
        "--out", type=Path, required=True, help="checkpoints and log; continued if they exist"
    )
    parser.add_argument("--start-from", type=Path, help="checkpoint of another training to begin with")
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
    torch.set_flush_denormal(True)
    recipe = Recipe(**{name: getattr(options, name) for name in asdict(Recipe())})
    cutoff = recipe.architecture().cutoff
    exclude = options.exclude.read_text().splitlines() if options.exclude else []

    def formation(split: str) -> Labelled:
        found = read_formation_energies(options.structures, options.energies, split, exclude)
        return found[found.crystals.n_atoms <= options.max_atoms]

    sources = [Source("formation", formation("train"), 1.0 - options.virtual_share, cutoff)]
    validation = [Source("formation", formation("val"), 0.0, cutoff)]
    if options.virtual is not None:
        for prefix, target in (("train", sources), ("val", validation)):
            shards = sorted(options.virtual.glob(f"{prefix}-*.npz"))
            if shards:
                joined = Labelled.cat([read_shard(path) for path in shards])
                target.append(Source("anchored", joined, options.virtual_share, cutoff))
    for source in sources:
        print(f"{source.kind}: {len(source)} crystals, {len(source.cache.counts)} atoms", flush=True)
    train(
        recipe,
        sources,
        validation,
        options.out,
        device=torch.device(options.device),
        start_from=options.start_from,
        stop_after_minutes=options.minutes,
    )
    try:
        plot(options.out / "log.jsonl", options.out / "log.png")
    except ModuleNotFoundError as error:
        print(f"No plot: {error}.", file=sys.stderr)


if __name__ == "__main__":
    main()
