"""Properties of crystals and of compositions by the models of the library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from csp.crystals import Crystals
from csp.errors import InputError, did_you_mean
from csp.property_value import PropertyValue
from surrogates.properties import library
from surrogates.properties.contributions import contributions as shared_out
from surrogates.properties.features import pooled
from surrogates.properties.model import Predicted, PropertyModel
from surrogates.transformer.surrogate import Surrogate

__all__ = ["chosen", "of_compositions", "of_crystals"]


def chosen(names: Iterable[str] = (), *, composition: bool = False) -> list[PropertyModel]:
    """Models by the names of properties, of models, or by paths; none: one of each property that there is.

    Args:
        composition: Only models of compositions will do.

    Raises:
        InputError: A name means none of these, or a model needs a crystal where there is none.
        MissingError: There is no model at a path.
    """
    wanted = list(dict.fromkeys(names)) or list(
        dict.fromkeys(
            name.removesuffix(library.COMPOSITION)
            for name in library.names()
            if not composition or library.read_card(name).reads == "composition"
        )
    )
    return [library.load(_best(name, composition)) for name in wanted]


def _best(name: str, composition: bool) -> str:
    known = library.names()
    if composition and not name.endswith((library.COMPOSITION, ".safetensors")):
        name = f"{name}{library.COMPOSITION}" if f"{name}{library.COMPOSITION}" in known else name
    if name not in known and not name.endswith(".safetensors"):
        raise InputError(
            f"There is no model of the property {name!r}"
            + did_you_mean(name, known, f"known are {', '.join(known) or 'none'}")
        )
    if composition and library.read_card(name).reads != "composition":
        raise InputError(f"The model {name} reads crystals, not formulas; give it a structure file.")
    return name


def of_crystals(
    models: Sequence[PropertyModel], crystals: Crystals, *, contributions: bool = False
) -> list[list[PropertyValue | None]]:
    """[B][models]: the properties of each crystal; None where a model does not know its elements.

    Args:
        contributions: With those of the atoms, by models that read crystals.
    """
    found: list[list[PropertyValue | None]] = [[None] * len(models) for _ in range(len(crystals))]
    features = dict[int, tuple[Tensor, Tensor]]()
    for m, model in enumerate(models):
        rows = _readable(model, crystals)
        part = crystals[rows]
        if not len(rows):
            continue
        if model.surrogate is None:
            predicted = model.predict(part)
        else:
            known = features.setdefault(id(model.surrogate), _features(model.surrogate, crystals))
            predicted = model.predict(part, known[1][torch.searchsorted(known[0], rows)])
        for b, value in zip(rows.tolist(), _values(model, predicted), strict=True):
            found[b][m] = value
    return _with_contributions(found, models, crystals) if contributions else found


def _with_contributions(
    found: list[list[PropertyValue | None]], models: Sequence[PropertyModel], crystals: Crystals
) -> list[list[PropertyValue | None]]:
    found = [list(row) for row in found]
    for surrogate in {id(model.surrogate): model.surrogate for model in models if model.surrogate}.values():
        of_it = [m for m, model in enumerate(models) if model.surrogate is surrogate]
        rows = _known(surrogate.elements, crystals)
        shares = shared_out([models[m] for m in of_it], surrogate, crystals[rows])
        for m, of_model in zip(of_it, shares, strict=True):
            for b, share in zip(rows.tolist(), of_model, strict=True):
                if (value := found[b][m]) is not None:
                    found[b][m] = replace(value, contributions=share)
    return found


def of_compositions(models: Sequence[PropertyModel], composition: Tensor) -> list[list[PropertyValue | None]]:
    """[B][models]: the same from compositions [B, L, 2] (see `surrogates.properties.model.shares`)."""
    columns = []
    for model in models:
        known = torch.tensor([0, *model.elements])
        readable = torch.isin(composition[..., 0].long(), known).all(1).tolist()
        values = _values(model, model.from_hidden(model.hidden(composition)))
        columns.append([value if ok else None for value, ok in zip(values, readable, strict=True)])
    return [list(row) for row in zip(*columns, strict=True)]


def _features(surrogate: Surrogate, crystals: Crystals) -> tuple[Tensor, Tensor]:
    """The rows, int64, of which the surrogate knows all elements, and their features."""
    rows = _known(surrogate.elements, crystals)
    return rows, pooled(surrogate, crystals[rows])


def _readable(model: PropertyModel, crystals: Crystals) -> Tensor:
    known = model.elements if model.surrogate is None else model.elements & model.surrogate.elements
    return _known(known, crystals)


def _known(elements: frozenset[int], crystals: Crystals) -> Tensor:
    unknown = ~torch.isin(crystals.numbers, torch.tensor(sorted(elements)))
    bad = torch.zeros(len(crystals), dtype=torch.int64).index_add_(0, crystals.batch, unknown.long())
    return (bad == 0).nonzero().flatten()


def _values(model: PropertyModel, predicted: Predicted) -> list[PropertyValue]:
    card = model.card
    return [
        PropertyValue(
            name=card.property,
            title=card.title,
            unit=card.unit,
            value=float(predicted.value[b]),
            sigma=float(predicted.sigma[b]),
            low=float(predicted.low[b]),
            high=float(predicted.high[b]),
            leverage=float(predicted.leverage[b]),
            outside=bool(predicted.outside[b]),
            model=card.name,
            by_composition=model.by_composition,
        )
        for b in range(len(predicted.value))
    ]
