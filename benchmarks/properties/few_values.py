"""What few values are worth: transfer from models of other properties, beside the same network from scratch
and a random forest on composition descriptors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.properties.parts import Forest, composition_descriptors, kept
from csp.errors import MissingError
from csp.files import write_json
from surrogates.properties import library
from surrogates.properties.catalogue import PROPERTIES, backward
from surrogates.properties.fitting import PropertyRecipe, fit
from surrogates.properties.model import PropertyModel, last_layer_input
from surrogates.properties.own_data import OwnData
from surrogates.properties.recommending import recommend
from surrogates.properties.tables import Values
from surrogates.properties.training import encoder_for
from surrogates.properties.transfer import transfer
from surrogates.transformer.surrogate import Surrogate

__all__ = ["SIZES", "TARGETS", "few_values"]

TARGETS = ("bulk_modulus", "shear_modulus", "highest_phonon", "refractive_index", "band_gap")
SIZES = (50, 20, 200)  # in this order: the first tells most
TEST = 1000  # other crystals that errors are of
LOWER = 0.8  # share of the values that extrapolation learns from
SCRATCH = PropertyRecipe(epochs=200, least=200, most=400, batch=64, lr=1e-3)


def few_values(
    values: Values, surrogate: Surrogate, out: Path, *, draws: int, log: Callable[[str], None]
) -> dict[str, Any]:
    """Errors with so many values, of each property held out of the library in its turn.

    Args:
        draws: Of the values, at each size.
    """
    models = [library.load(name) for name in library.names()]
    sha256 = surrogate.label.checkpoint.rpartition("-")[2]
    models = [m for m in models if m.card.property in PROPERTIES and m.card.surrogate_sha256 == sha256]
    if len(models) < 2:
        raise MissingError(f"There are no models of properties on the features of {surrogate.name} {sha256}.")
    sources = {
        name: [*others, library.together(others)]
        for name in TARGETS
        if (others := [model for model in models if model.card.property != name])
    }
    figures: dict[str, Any] = {}
    for size in SIZES:
        for name in TARGETS:
            done = [
                kept(
                    out / "parts" / f"few-{name}-{size}-{draw}.json",
                    *(_draw, values, name, sources[name], size, draw),
                )
                for draw in range(draws)
            ]
            for key in ("transfer", "scratch", "forest", "within_68", "within_95"):
                figures[f"{name}.{size}.{key}"] = float(f"{np.mean([one[key] for one in done]):.4g}")
            best = min(figures[f"{name}.{size}.{key}"] for key in ("scratch", "forest"))
            figures[f"{name}.{size}.ratio"] = round(figures[f"{name}.{size}.transfer"] / best, 3)
            log(f"{name}, {size} values: {figures[f'{name}.{size}.ratio']} of the better other")
            write_json(out / "summary.json", figures)
    for name in TARGETS:
        far = [
            kept(
                out / "parts" / f"far-{name}-{draw}.json",
                *(_extrapolation, values, name, sources[name], draw),
            )
            for draw in range(draws)
        ]
        for key in ("transfer", "scratch", "forest"):
            figures[f"{name}.extrapolation.{key}"] = round(float(np.mean([one[key] for one in far])), 3)
        write_json(out / "summary.json", figures)
    return figures


def _draw(values: Values, name: str, sources: list[PropertyModel], size: int, draw: int) -> dict[str, Any]:
    learned, test = _split(values, values.rows(name), size, draw)
    found, extra = _all_ways(values, name, sources, learned, test, draw)
    true = _value(values.y[name][test], name)
    errors = {key: float((predicted - true).abs().mean()) for key, predicted in found.items()}
    return {**errors, **extra}


def _extrapolation(values: Values, name: str, sources: list[PropertyModel], draw: int) -> dict[str, Any]:
    """Rank correlation among the upper fifth of the values, of what learned from the lower ones."""
    from scipy.stats import spearmanr

    rows, y = values.rows(name), values.y[name]
    limit = torch.quantile(y[rows], LOWER)
    lower, upper = rows[y[rows] <= limit], rows[y[rows] > limit]
    learned, _ = _split(values, lower, max(SIZES), draw)
    test = upper[torch.randperm(len(upper), generator=torch.Generator().manual_seed(draw))[:TEST]]
    found, _ = _all_ways(values, name, sources, learned, test, draw)
    return {key: float(spearmanr(one.numpy(), y[test].numpy()).statistic) for key, one in found.items()}


def _split(values: Values, rows: Tensor, size: int, draw: int) -> tuple[Tensor, Tensor]:
    """Rows to learn from, each of another composition, and rows of yet others to be judged by."""
    order = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(100 + draw))].tolist()
    learned, names = list[int](), set[str]()
    for row in order:
        if len(learned) < size and values.names[row] not in names:
            learned.append(row)
            names.add(values.names[row])
    test = [row for row in order if values.names[row] not in names][:TEST]
    return torch.tensor(learned), torch.tensor(test)


def _all_ways(
    values: Values, name: str, sources: list[PropertyModel], learned: Tensor, test: Tensor, draw: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Way → values of the test crystals; and of the transfer its source and coverage."""
    y = values.y[name]
    data = OwnData(
        None,
        values.composition[learned],
        [values.names[k] for k in learned.tolist()],
        [values.elements[k] for k in learned.tolist()],
        _value(y[learned], name),
        None,
        list(range(2, len(learned) + 2)),
        PROPERTIES[name].unit,
        [],
    )
    tried = recommend(data, sources, features=values.features[learned])
    best = tried[0]
    assert best.source is not None
    found = transfer(best.source, data, x=values.features[learned], seed=draw)
    h = last_layer_input(found.encoder, values.features[test])
    last = found.last
    middle = last.mean(h)
    sigma = (last.open(h) + last.noise**2).sqrt()
    scale = found.scale
    zero = torch.zeros_like(middle)
    true = _value(y[test], name)
    floor = 0.0 if PROPERTIES[name].non_negative else None
    extra: dict[str, Any] = {"source": best.name, "strategy": found.strategy}
    for level, factor in (("68", last.q68), ("95", last.q95)):
        low, high = (backward(middle + sign * factor * sigma, zero, scale)[0] for sign in (-1, 1))
        low, high = (end if floor is None else end.clamp(min=floor) for end in (low, high))
        extra[f"within_{level}"] = float(((true >= low) & (true <= high)).double().mean())
    transferred = backward(middle, zero, scale)[0]
    fitted = fit(
        encoder_for(values, composition=False, seed=draw), values.features[learned], y[learned], SCRATCH
    )
    scratch = last_layer_input(fitted.encoder, values.features[test]) @ fitted.weight + fitted.bias
    x = composition_descriptors([values.names[k] for k in [*learned.tolist(), *test.tolist()]])
    grown = Forest(draw)(x[: len(learned)], y[learned].numpy(), x[len(learned) :])
    values_by = {
        "transfer": transferred,
        "scratch": _value(scratch, name),
        "forest": _value(torch.from_numpy(grown), name),
    }
    return {key: one if floor is None else one.clamp(min=floor) for key, one in values_by.items()}, extra


def _value(y: Tensor, name: str) -> Tensor:
    return backward(y, torch.zeros_like(y), PROPERTIES[name].scale)[0]
