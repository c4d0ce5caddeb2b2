"""Training of all property models on published values: one command, resumable, model by model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from csp.training.cards import code_version
from csp.training.splits import fold, hashed
from surrogates.properties import library
from surrogates.properties.catalogue import LOG10, PROPERTIES, Property
from surrogates.properties.fitting import Fitted, PropertyRecipe, fit
from surrogates.properties.model import LastLayer, last_layer_input
from surrogates.properties.network import CompositionEncoder, CrystalEncoder
from surrogates.properties.tables import Values
from surrogates.transformer.surrogate import Surrogate
from surrogates.transformer.uncertainty import Rigidity, with_constant

__all__ = ["calibrated", "encoder_for", "held_out", "train_all", "train_one"]

FEW = 5000  # values below which a fifth of the compositions is held out, not a tenth
LICENCE = "Apache-2.0; trained on data of the Materials Project (CC BY 4.0)"


def held_out(values: Values, one: Property, surrogate: Surrogate) -> Tensor:
    """bool [N]: the rows kept for σ and the error, by composition; see `Property.energetic`."""
    if one.energetic:
        return torch.tensor([hashed(name) not in surrogate.seen for name in values.names])
    folds = 5 if len(values.rows(one.name)) >= FEW else 10
    return torch.tensor([fold(name) < folds for name in values.names])


def encoder_for(values: Values, *, composition: bool, seed: int = 0) -> Any:
    """An untrained encoder; all that read crystals scale features in the same way."""
    torch.manual_seed(seed)
    if composition:
        return CompositionEncoder()
    spread = values.features.std(0).clamp(min=1e-3)
    return CrystalEncoder(values.features.mean(0), spread)


def calibrated(fitted: Fitted, x: Tensor, other: Tensor, y: Tensor) -> LastLayer:
    """The last layer with σ from the training inputs x, as wide as its errors on others (y float64 [M])."""
    h, held = last_layer_input(fitted.encoder, x), last_layer_input(fitted.encoder, other)
    weight = torch.cat([fitted.weight, torch.tensor([fitted.bias], dtype=torch.float64)])
    errors = (with_constant(held) @ weight - y).double()
    rigidity = Rigidity.fit(h, held, errors)
    last = LastLayer(
        weight,
        rigidity.factor,
        0.0,
        1.0,
        1.0,
        float(((with_constant(h) @ rigidity.factor) ** 2).sum(1).mean()),
    )
    # what the weights leave open is small inside the data: a floor, the rest by quantiles of the errors
    noise = float(errors.abs().median())
    ratio = errors.abs() / (last.open(held) + noise**2).sqrt()
    q68, q95 = (float(torch.quantile(ratio, q)) for q in (0.6827, 0.9545))
    return LastLayer(weight, rigidity.factor, noise, q68, q95, last.leverage)


def train_one(
    values: Values, name: str, path: Path, surrogate: Surrogate, *, composition: bool, recipe: PropertyRecipe
) -> library.PropertyCard:
    """Train a model of one property and write it.

    Args:
        path: Of the weights.
        composition: Does it read the composition alone?
    """
    one, rows = PROPERTIES[name], values.rows(name)
    held = held_out(values, one, surrogate)[rows]
    x = (values.composition if composition else values.features)[rows]
    y = values.y[name][rows]
    started = time.process_time()
    fitted = fit(encoder_for(values, composition=composition, seed=recipe.seed), x[~held], y[~held], recipe)
    last = calibrated(fitted, x[~held], x[held], y[held])
    seconds = time.process_time() - started
    learned = rows[~held]
    span = _value(y[~held], one)
    return library.write(
        path,
        fitted.encoder,
        last,
        seen={hashed(values.names[k]) for k in learned.tolist()},
        property=name,
        title=one.title,
        unit=one.unit,
        scale=one.scale,
        lowest=0.0 if one.non_negative else None,
        n=len(learned),
        span=[float(span.min()), float(span.max())],
        surrogate=None if composition else surrogate.name,
        surrogate_sha256=None if composition else surrogate.label.checkpoint.rpartition("-")[2],
        parents=[] if composition else [surrogate.label.checkpoint],
        recipe=asdict(recipe),
        elements=sorted(frozenset().union(*(values.elements[k] for k in learned.tolist()))),
        data=[f"{len(learned):,} values of the Materials Project, as carried by matbench and dara-xrd"],
        split=(
            "compositions that the surrogate has not seen are the test"
            if one.energetic
            else "by a hash of the composition; σ and errors are of those left out"
        ),
        licence=LICENCE,
        code_version=code_version(),
        metrics={**_errors(fitted, last, x[held], y[held], one), "cpu_seconds": round(seconds, 1)},
    )


def _value(y: Tensor, one: Property) -> Tensor:
    return 10.0**y if one.scale == LOG10 else y


def _errors(fitted: Fitted, last: LastLayer, x: Tensor, y: Tensor, one: Property) -> dict[str, float]:
    predicted = last.mean(last_layer_input(fitted.encoder, x))
    if one.non_negative:
        predicted = predicted.clamp(min=0.0)
    found = {
        "test_values": float(len(y)),
        f"test_mae_{one.unit}": float((_value(predicted, one) - _value(y, one)).abs().mean()),
        "test_r2": float(1.0 - ((predicted - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()),
    }
    if one.scale == LOG10:
        found["test_mae_log10"] = float((predicted - y).abs().mean())
    return {key: float(f"{value:.4g}") for key, value in found.items()}


def train_all(
    values: Values,
    folder: Path,
    surrogate: Surrogate,
    *,
    recipe: PropertyRecipe,
    log: Callable[[str], None],
) -> None:
    """Train the models of all properties, of crystals and of compositions; those that are in the folder, on
    the same surrogate and with the same recipe, are kept."""
    for composition in (False, True):
        if composition:
            recipe = replace(recipe, epochs=24, most=800, batch=128, lr=3e-3)  # its steps cost more
        for name in PROPERTIES:
            path = folder / f"{name}{library.COMPOSITION if composition else ''}.safetensors"
            if _there(path, surrogate, recipe, composition):
                log(f"{path.stem}: kept")
                continue
            card = train_one(values, name, path, surrogate, composition=composition, recipe=recipe)
            errors = ", ".join(f"{key} {value:g}" for key, value in card.metrics.items())
            log(f"{path.stem}: {card.n:,} values, {errors}")


def _there(path: Path, surrogate: Surrogate, recipe: PropertyRecipe, composition: bool) -> bool:
    if not (path.is_file() and path.with_suffix(".json").is_file()):
        return False
    card = library.read_card(path)
    same = composition or card.surrogate_sha256 == surrogate.label.checkpoint.rpartition("-")[2]
    return same and card.recipe == asdict(recipe)
