"""Training of the metric between compositions: resumable to the step, on one CPU core or a GPU.

Imports torch, numpy, pyarrow and ASE only.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from csp.errors import InputError
from csp.library.energies import read_energies
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.training import checkpoints
from csp.training.cards import ModelCard, code_version, write_model
from csp.training.loop import Row, TrainingRecipe, run
from csp.training.splits import FOLDS, HELD_OUT, VALIDATION, composition_name, fold, hashed
from generators.templates.composition_encoder import CompositionEncoder, EncoderArchitecture
from generators.templates.neighbour_loss import Ratio, anonymous_compositions, neighbour_loss, ratios
from generators.templates.prototypes import PrototypeIndex

__all__ = ["ARCHITECTURES", "MetricRecipe", "mean_loss", "train_encoder", "train_on_library"]

ARCHITECTURES = {
    "metric_learning": EncoderArchitecture(width=64, layers=2),
    "template": EncoderArchitecture(width=64, layers=0),  # substitutions, whatever else is in the composition
}
MIN_ENTRIES = 34  # of an anonymous composition that is trained on; 85 % of the library have more
PAIRS_AT_ONCE = 6_000_000  # query × order × entry


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRecipe(TrainingRecipe):
    """Everything that decides the course of a training beside its data; saved with what it made.

    Attributes:
        entries: Of a step, from as many anonymous compositions as it takes.
        spread: An anonymous composition of n entries is drawn with a probability proportional to n^spread.
    """

    steps: int = 1000
    entries: int = 768
    spread: float = 0.8
    lr: float = 3e-3
    warmup: int = 100
    decay: float = 0.5
    weight_decay: float = 0.01
    ema: float = 0.995
    architecture: EncoderArchitecture = ARCHITECTURES["metric_learning"]


def train_on_library(
    name: str,
    structures: Path,
    energies: Path | None,
    out: Path,
    *,
    exclude: set[str],
    recipe: MetricRecipe,
    device: torch.device,
    stop_after_minutes: float = math.inf,
    log: Callable[[Row], None] = lambda row: None,
) -> ModelCard:
    """Train on a library file, or go on, and export what there is to `out`/`name`.safetensors.

    Nothing is used of the held-out fold; the validation fold is only validated on, each composition of it
    among all others.

    Args:
        energies: Parquet table (material_id, formation_energy in eV/atom).
        exclude: Compositions, as `csp.training.splits.composition_name` writes them, that are not used.
        log: Gets each line of `log.jsonl`.
    """
    library = Library.open(structures)
    rows = library.all_rows()
    numbers, counts = library.compositions(rows)
    names = [composition_name(z, n) for z, n in zip(numbers.tolist(), counts.tolist(), strict=True)]
    hidden = np.array([name in exclude or fold(name) == HELD_OUT for name in names])
    library = library.hiding(rows[hidden])
    known = read_energies(energies) if energies is not None else {}
    anonymous = anonymous_compositions(library, MIN_ENTRIES)
    data = list(ratios(library, PrototypeIndex(library), known, anonymous, VolumePrior.load()))
    validation, training = [], []
    for ratio in data:
        chosen = torch.tensor([fold(name) == VALIDATION for name in ratio.names])[ratio.composition]
        validation.append(ratio.take(chosen.nonzero().flatten()))
        training.append(ratio.take((~chosen).nonzero().flatten()))
    sizeable = [ratio for ratio in training if len(ratio) > 1]
    encoder, step = train_encoder(
        recipe, sizeable, out, device=device, stop_after_minutes=stop_after_minutes, log=log
    )
    seen = {hashed(ratio.names[c]) for ratio in sizeable for c in ratio.composition.unique().tolist()}
    elements = {z for ratio in sizeable for z in ratio.elements.unique().tolist()}
    encoder = encoder.cpu()
    return write_model(
        out / f"{name}.safetensors",
        ModelCard,
        encoder.state_dict(),
        architecture=asdict(encoder.architecture),
        property="nearness of compositions that crystallise alike",
        seen=seen,
        elements=sorted(elements),
        recipe=asdict(recipe) | {"done": step},
        metrics={"validation_log_loss": round(mean_loss(encoder, validation, training), 4)},
        data=[
            f"{library.name}, fingerprint {library.whole.fingerprint}",
            *([energies.stem] if energies else []),
        ],
        split=f"fold {HELD_OUT} of {FOLDS} held out, fold {VALIDATION} for validation (csp.training.splits)",
        licence="Weights Apache-2.0; data of the Materials Project, CC BY 4.0",
        code_version=code_version(),
    )


def train_encoder(
    recipe: MetricRecipe,
    data: Sequence[Ratio],
    out: Path,
    *,
    device: torch.device,
    minutes_between_checkpoints: float = 2.0,
    stop_after_minutes: float = math.inf,
    log: Callable[[Row], None] = lambda row: None,
) -> tuple[CompositionEncoder, int]:
    """Train to the end of the recipe, or for a time.

    Goes on from the checkpoint in `out` as if never interrupted. Each entry of a step is a query, with
    the probability that it is the ground truth as its weight, among the others of its anonymous composition.

    Returns:
        The averaged encoder and the steps done.
    """
    torch.manual_seed(recipe.seed)
    model = CompositionEncoder(recipe.architecture).to(device)
    average = copy.deepcopy(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    state = checkpoints.TrainingState(model, average, optimiser)
    about = checkpoints.read(out)
    if about is not None:
        if checkpoints.differs(about["recipe"], asdict(recipe)):
            raise InputError(f"The training in {out} has another recipe; choose another folder.")
        checkpoints.restore(out, state)

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        found = _batch_loss(model, _batch(recipe, data, step))
        return found, {"loss": found}

    run(
        state,
        recipe,
        loss,
        out,
        about=lambda: {"recipe": asdict(recipe)},
        minutes_between_checkpoints=minutes_between_checkpoints,
        stop_after_minutes=stop_after_minutes,
        log=log,
    )
    return average.eval(), state.step


@torch.no_grad()
def mean_loss(encoder: CompositionEncoder, queries: Sequence[Ratio], entries: Sequence[Ratio]) -> float:
    """Mean −ln p of the ground truths among all entries of their ratio, over those with any neighbour."""
    total = weight = 0.0
    for asked, known in zip(queries, entries, strict=True):
        if len(asked) == 0 or len(known) == 0:
            continue
        vectors = encoder(known.elements, known.counts.expand_as(known.elements))
        at_once = max(1, PAIRS_AT_ONCE // (len(known) * len(known.orders)))
        for rows in torch.arange(len(asked)).split(at_once):
            some = asked.take(rows)
            own = encoder(some.elements, some.counts.expand_as(some.elements))
            loss = neighbour_loss(encoder, some, known, (own, vectors))
            found = loss.isfinite()
            total += float((loss * some.ground_truth)[found].sum())
            weight += float(some.ground_truth[found].sum())
    return total / max(weight, 1e-9)


def _batch(recipe: MetricRecipe, data: Sequence[Ratio], step: int) -> list[Ratio]:
    """Entries of some anonymous compositions, a function of the step alone."""
    random = np.random.default_rng((recipe.seed, step))
    sizes = np.array([len(ratio) for ratio in data], np.float64)
    chance = sizes**recipe.spread
    chosen: list[Ratio] = []
    for k in random.choice(len(data), size=len(data), replace=False, p=chance / chance.sum()).tolist():
        room = recipe.entries - sum(len(ratio) for ratio in chosen)
        if room < 2:
            break
        most = min(len(data[k]), room, math.isqrt(PAIRS_AT_ONCE // len(data[k].orders)))
        chosen.append(data[k].take(torch.from_numpy(random.permutation(len(data[k]))[:most])))
    return chosen


def _batch_loss(model: CompositionEncoder, batch: Sequence[Ratio]) -> Tensor:
    widest = max(ratio.elements.shape[1] for ratio in batch)
    tokens = [
        torch.nn.functional.pad(x, (0, widest - x.shape[1]))
        for ratio in batch
        for x in (ratio.elements, ratio.counts.expand_as(ratio.elements))
    ]
    device = model.norm.weight.device
    whole, place = model(torch.cat(tokens[0::2]).to(device), torch.cat(tokens[1::2]).to(device))
    loss, weight = whole.new_zeros(()), whole.new_zeros(())
    start = 0
    for ratio in batch:
        part, k = slice(start, start + len(ratio)), ratio.elements.shape[1]
        start += len(ratio)
        there = ratio.to(device)
        vectors = (whole[part], place[part, :k])
        each = neighbour_loss(model, there, there, (vectors, vectors))
        found = each.isfinite()
        loss = loss + (each * there.ground_truth)[found].sum()
        weight = weight + there.ground_truth[found].sum()
    return loss / weight.clamp(min=1.0)
