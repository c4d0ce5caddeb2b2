"""Training of the metric between compositions: resumable to the step, on one CPU core or a GPU.

Imports torch, numpy and pyarrow only.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from csp.errors import InputError
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.report.record import versions
from csp.training import checkpoints
from csp.training.cards import Card, export
from csp.training.schedule import learning_rate
from csp.training.splits import FOLDS, HELD_OUT, VALIDATION, composition_name, fold, hashed
from generators.templates.composition_encoder import Architecture, CompositionEncoder
from generators.templates.neighbour_loss import Ratio, anonymous_compositions, neighbour_loss, ratios
from generators.templates.prototypes import PrototypeIndex

__all__ = ["ARCHITECTURES", "Recipe", "mean_loss", "train", "train_on_library"]

ARCHITECTURES = {
    "metric_learning": Architecture(width=64, layers=2),
    "template": Architecture(width=64, layers=0),  # substitutions, whatever else is in the composition
}
MIN_ENTRIES = 34  # of an anonymous composition that is trained on; 85 % of the library have more
PAIRS_AT_ONCE = 6_000_000  # query × order × entry


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the course of a training beside its data; saved with what it made.

    entries  of a step, from as many anonymous compositions as it takes
    spread   an anonymous composition of n entries is drawn with a probability proportional to n^spread
    decay    fraction of the steps over which the learning rate falls to zero, as a cosine
    ema      decay per step of the averaged weights, which are the ones shipped
    """

    steps: int = 1000
    entries: int = 768
    spread: float = 0.8
    lr: float = 3e-3
    warmup: int = 100
    decay: float = 0.5
    weight_decay: float = 0.01
    ema: float = 0.995
    seed: int = 0
    architecture: Architecture = ARCHITECTURES["metric_learning"]

    def learning_rate(self, step: int) -> float:
        return learning_rate(step, steps=self.steps, peak=self.lr, warmup=self.warmup, decay=self.decay)


def train_on_library(
    name: str,
    structures: Path,
    energies: Path | None,
    out: Path,
    *,
    exclude: set[str],
    recipe: Recipe,
    device: torch.device,
    stop_after_minutes: float = math.inf,
) -> Card:
    """Train on a library file, or go on, and export what there is to `out`/`name`.safetensors.

    energies: Parquet table (material_id, formation_energy in eV/atom). exclude: compositions, as
    `csp.training.splits.composition_name` writes them, of which nothing is used. Nor is anything used of the
    held-out fold; the validation fold is only validated on, each composition of it among all others.
    """
    library = Library.open(structures)
    rows = library.all_rows()
    numbers, counts = library.compositions(rows)
    names = [composition_name(z, n) for z, n in zip(numbers.tolist(), counts.tolist(), strict=True)]
    hidden = np.array([name in exclude or fold(name) == HELD_OUT for name in names])
    library = library.hiding(rows[hidden])
    known = _energies(energies) if energies is not None else {}
    anonymous = anonymous_compositions(library, MIN_ENTRIES)
    data = list(ratios(library, PrototypeIndex(library), known, anonymous, VolumePrior.load()))
    validation, training = [], []
    for ratio in data:
        chosen = torch.tensor([fold(name) == VALIDATION for name in ratio.names])[ratio.composition]
        validation.append(ratio.take(chosen.nonzero().flatten()))
        training.append(ratio.take((~chosen).nonzero().flatten()))
    sizeable = [ratio for ratio in training if len(ratio) > 1]
    encoder, step = train(recipe, sizeable, out, device=device, stop_after_minutes=stop_after_minutes)
    seen = {hashed(ratio.names[c]) for ratio in sizeable for c in ratio.composition.unique().tolist()}
    elements = {z for ratio in sizeable for z in ratio.elements.unique().tolist()}
    return export(
        encoder.cpu(),
        out / f"{name}.safetensors",
        property="nearness of compositions that crystallise alike",
        seen=seen,
        elements=elements,
        recipe=asdict(recipe) | {"done": step},
        metrics={"validation_log_loss": round(mean_loss(encoder, validation, training), 4)},
        data=[
            f"{library.name}, fingerprint {library.whole.fingerprint}",
            *([energies.stem] if energies else []),
        ],
        split=f"fold {HELD_OUT} of {FOLDS} held out, fold {VALIDATION} for validation (csp.training.splits)",
        licence="Weights Apache-2.0; data of the Materials Project, CC BY 4.0",
        code_version=versions().get("csp-engine", ""),
    )


def _energies(path: Path) -> dict[str, float]:
    """eV/atom of formation by id."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["material_id", "formation_energy"])
    return dict(zip(table["material_id"].to_pylist(), table["formation_energy"].to_pylist(), strict=True))


def train(
    recipe: Recipe,
    data: Sequence[Ratio],
    out: Path,
    *,
    device: torch.device,
    minutes_between_checkpoints: float = 2.0,
    stop_after_minutes: float = math.inf,
) -> tuple[CompositionEncoder, int]:
    """Train to the end of the recipe, or until told to stop; returns the averaged encoder and the steps done.

    Goes on from the checkpoint in `out` as if never interrupted. Each entry of a step is a query, with
    the weight of its being the answer, among the others of its anonymous composition.
    """
    torch.manual_seed(recipe.seed)
    model = CompositionEncoder(recipe.architecture).to(device)
    average = copy.deepcopy(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    weights = checkpoints.Weights(model, average, optimiser)
    step = _resumed(out, weights, recipe)
    out.mkdir(parents=True, exist_ok=True)
    started = saved = time.monotonic()
    running = math.nan
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        while step < recipe.steps and time.monotonic() - started < 60.0 * stop_after_minutes:
            for group in optimiser.param_groups:
                group["lr"] = recipe.learning_rate(step)
            loss = _batch_loss(model, _batch(recipe, data, step))
            optimiser.zero_grad()
            loss.backward()
            clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            step += 1
            weights.follow(min(recipe.ema, step / (step + 10.0)))
            value = float(loss.detach())
            running = value if math.isnan(running) else 0.98 * running + 0.02 * value
            if step % 50 == 0 or step == recipe.steps:
                log.write(json.dumps({"step": step, "loss": round(running, 4)}) + "\n")
                log.flush()
            if time.monotonic() - saved > 60.0 * minutes_between_checkpoints:
                checkpoints.save(out, weights, step, {"recipe": asdict(recipe)})
                saved = time.monotonic()
    checkpoints.save(out, weights, step, {"recipe": asdict(recipe)})
    return average.eval(), step


def _resumed(out: Path, weights: checkpoints.Weights, recipe: Recipe) -> int:
    """The step to go on from, the newest checkpoint put into the weights. InputError for another recipe."""
    about = checkpoints.read(out)
    if about is None:
        return 0
    if about["recipe"] != json.loads(json.dumps(asdict(recipe))):
        raise InputError(f"The training in {out} has another recipe; choose another folder.")
    checkpoints.restore(out, weights)
    return int(about["step"])


@torch.no_grad()
def mean_loss(encoder: CompositionEncoder, queries: Sequence[Ratio], entries: Sequence[Ratio]) -> float:
    """Mean −ln p of the answers among all entries of their ratio, over those with any neighbour."""
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
            total += float((loss * some.answer)[found].sum())
            weight += float(some.answer[found].sum())
    return total / max(weight, 1e-9)


def _batch(recipe: Recipe, data: Sequence[Ratio], step: int) -> list[Ratio]:
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
        loss = loss + (each * there.answer)[found].sum()
        weight = weight + there.answer[found].sum()
    return loss / weight.clamp(min=1.0)
