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

import copy
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from csp.errors import InputError
from csp.files import replacing
from csp.training.loop import Row, TrainingRecipe, run
from surrogates.training.batches import KINDS, Source, Stream
from surrogates.training.checkpoints import State, adopt, parents, restore, seen_by, stream_places
from surrogates.training.labelled import (
    compositions,
    hashed,
    read_formation_energies,
    read_shards,
    read_teacher,
)
from surrogates.training.losses import element_references, energy_loss, mean_error, slope_loss
from surrogates.transformer.network import SIZES, CrystalTransformer, SurrogateArchitecture

__all__ = [
    "SurrogateData",
    "SurrogateRecipe",
    "plot",
    "read_sources",
    "train_network",
    "train_surrogate",
]

EMA_LAG = 9  # steps; see `csp.training.loop.run`


@dataclass(frozen=True, slots=True, kw_only=True)
class SurrogateRecipe(TrainingRecipe):
    """Everything that decides the course of a training beside its data; saved with what it made.

    Attributes:
        size: One of `SIZES`.
        batch: Crystals in a step.
        clip: Largest norm of a gradient.
        force: Weight of |directional derivative error| (eV/Å) against |energy error| (eV/atom).
        small: Cells of at most this many atoms in the first part of the training …
        small_until: … which ends at this fraction of the steps.
        changes: To the architecture of the size, for ablations: {"heads": 4}.
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
    changes: dict[str, Any] = field(default_factory=dict)

    def architecture(self) -> SurrogateArchitecture:
        """Of the network.

        Raises:
            InputError: There is no such size or setting.
        """
        if self.size not in SIZES:
            raise InputError(f"There is no size {self.size!r}; known are {', '.join(SIZES)}.")
        try:
            return SurrogateArchitecture(kinds=KINDS, **(dict(SIZES[self.size]) | self.changes))
        except TypeError as error:
            raise InputError(f"The architecture has no such setting: {error}.") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class SurrogateData:
    """What a surrogate is trained on, in files.

    Attributes:
        structures: Parquet table of crystals.
        energies: Parquet table of their formation energies and splits.
        virtual: Folder of labelled shards (train-*.npz, val-*.npz); None: formation energies alone.
        exclude: Compositions ("8:3 22:1") whose formation energies are left out.
        virtual_share: Of the steps, on virtual crystals.
        max_atoms: Larger cells with a formation energy are left out.
    """

    structures: Path
    energies: Path
    virtual: Path | None = None
    exclude: frozenset[str] = frozenset()
    virtual_share: float = 0.5
    max_atoms: int = 10**9


def train_surrogate(
    recipe: SurrogateRecipe,
    data: SurrogateData,
    out: Path,
    *,
    device: torch.device,
    start_from: Path | None = None,
    stop_after_minutes: float = math.inf,
    log: Callable[[Row], None] = lambda row: None,
    notes: Callable[[str], None] = lambda line: None,
) -> CrystalTransformer:
    """Train on files; see `train_network`.

    Args:
        notes: Gets a line on each kind of data once it is read.
    """
    sources, validation = read_sources(
        data.structures,
        data.energies,
        data.virtual,
        cutoff=recipe.architecture().cutoff,
        device=device,
        virtual_share=data.virtual_share,
        exclude=data.exclude,
        max_atoms=data.max_atoms,
    )
    for source in sources:
        notes(f"{source.kind}: {len(source)} crystals, {len(source.cache.counts)} atoms")
    return train_network(
        recipe,
        sources,
        validation,
        out,
        device=device,
        start_from=start_from,
        teacher=read_teacher(data.virtual) if data.virtual else "",
        stop_after_minutes=stop_after_minutes,
        log=log,
    )


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

    Args:
        virtual: Folder of labelled shards (train-*.npz, val-*.npz), drawn from in `virtual_share` of the
            steps.
        exclude: Compositions ("8:3 22:1") whose formation energies are left out, as are cells of more than
            `max_atoms` atoms.

    Raises:
        InputError: The folder holds no shard to train on.
    """
    excluded = list(exclude)

    def formation(split: str, share: float) -> Source:
        found = read_formation_energies(structures, energies, split, excluded)
        return Source("formation", found[found.crystals.n_atoms <= max_atoms], share, cutoff, device)

    sources = [formation("train", 1.0 - virtual_share if virtual else 1.0)]
    validation = [formation("val", 0.0)]
    if virtual is not None:
        if not any(virtual.glob("train-*.npz")):
            raise InputError(f"{virtual} holds no shards to train on (train-*.npz).")
        sources.append(Source("anchored", read_shards(virtual, "train"), virtual_share, cutoff, device))
        if any(virtual.glob("val-*.npz")):
            validation.append(Source("anchored", read_shards(virtual, "val"), virtual_share, cutoff, device))
    return sources, validation


def train_network(
    recipe: SurrogateRecipe,
    sources: Sequence[Source],
    validation: Sequence[Source],
    out: Path,
    *,
    device: torch.device,
    start_from: Path | None = None,
    teacher: str = "",
    minutes_between_checkpoints: float = 5.0,
    steps_between_validations: int = 2000,
    stop_after_minutes: float = math.inf,
    log: Callable[[Row], None] = lambda row: None,
) -> CrystalTransformer:
    """Train to the end of the recipe, or for a time.

    Continues from the newest checkpoint in `out` as if never interrupted (same batches, same
    directions).

    Args:
        sources: On `device`.
        start_from: A checkpoint of another training, or a model's weights file, to begin with the weights of.
        teacher: Who labelled the virtual crystals, for the model's card and label.
        log: Gets each line of `log.jsonl`.

    Returns:
        The averaged model.
    """
    state = _begin(recipe, sources, start_from, device)
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
        "teacher": teacher,
        "crystals": {s.kind: len(s) for s in sources},
    }
    run(
        state,
        recipe,
        lambda step: _loss(recipe, sources, state, step),
        out,
        about=lambda: {**about, "streams": stream_places(state)},
        validate=lambda: {source.kind: mean_error(state.average, source) for source in validation},
        clip=recipe.clip,
        ema_lag=EMA_LAG,
        minutes_between_checkpoints=minutes_between_checkpoints,
        steps_between_validations=steps_between_validations,
        stop_after_minutes=stop_after_minutes,
        log=log,
    )
    return state.average


def _begin(
    recipe: SurrogateRecipe, sources: Sequence[Source], start_from: Path | None, device: torch.device
) -> State:
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
    return State(model, average, optimiser, streams=streams)


def _loss(
    recipe: SurrogateRecipe, sources: Sequence[Source], state: State, step: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a step, decided by the recipe, the state's streams and the step alone, and its parts."""
    rng = np.random.default_rng([recipe.seed, step])
    shares = np.array([source.share for source in sources])
    which = int(rng.choice(len(sources), p=shares / shares.sum()))
    small = step < recipe.small_until * recipe.steps
    chosen = next(state.streams[which + (0 if small else len(sources))])
    source = sources[which]
    if source.labelled.forces is None:
        energy = energy_loss(state.model, source, chosen)
        return energy.mean(), {f"{source.kind}_energy": energy}
    energy, slope = slope_loss(state.model, source, chosen, rng)
    loss = energy.mean() + recipe.force * slope.mean()
    return loss, {f"{source.kind}_energy": energy, f"{source.kind}_slope": slope}


def plot(log: Path, image: Path) -> None:
    """The course of a training as a PNG; needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = {
        row["step"]: row for row in map(json.loads, log.read_text(encoding="utf-8").splitlines())
    }.values()
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for name in sorted({key for row in rows for key in row} - {"step", "lr", "seconds"}):
        points = [(row["step"], row[name]) for row in rows if name in row]
        axes.plot(*zip(*points, strict=True), "o-" if name.startswith("val") else "-", label=name, ms=3)
    axes.set(xlabel="step", ylabel="mean absolute error (eV/atom, eV/Å)", yscale="log")
    axes.legend()
    with replacing(image) as partial:
        figure.savefig(partial, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
