"""Properties of structures for work in Python."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, overload

from csp.crystals import Crystals
from csp.face.keywords import says_what_it_knows
from csp.face.structures import AnyStructures, read_structures
from csp.formula import read_formula
from csp.property_value import PropertyValue

__all__ = ["predict_properties"]

Values = dict[str, PropertyValue]


@overload
def predict_properties(
    structures: str, properties: str | Iterable[str | Path] = (), *, contributions: bool = False
) -> Values: ...


@overload
def predict_properties(
    structures: AnyStructures | Iterable[str],
    properties: str | Iterable[str | Path] = (),
    *,
    contributions: bool = False,
) -> Any: ...


@says_what_it_knows
def predict_properties(
    structures: Any, properties: str | Iterable[str | Path] = (), *, contributions: bool = False
) -> Values | list[Values]:
    """What models foretell of structures, or of formulas alone.

    Args:
        structures: Of pymatgen or ASE, one or many, or `csp.Crystals`; or formulas, of which models of
            compositions are asked.
        properties: Names of properties or of models, or weights files, "bulk_modulus,band_gap" or a list;
            none: all properties that there are models of.
        contributions: With what each atom adds to each value (`surrogates.properties.contributions`), of
            structures, by models that read them.

    Returns:
        Name of the property → value with σ, 95 % interval, unit, and how far outside the data it is; of
        several structures a list of these. What a model does not know the elements of is not among them.

    Raises:
        InputError: A property or a formula is unknown.
    """
    from surrogates.properties.predicting import chosen, of_compositions, of_crystals
    from surrogates.properties.rows import composition_of

    names = properties.split(",") if isinstance(properties, str) else [str(one) for one in properties]
    names = [name.strip() for name in names if name.strip()]
    texts = [structures] if isinstance(structures, str) else structures
    if not isinstance(texts, Crystals) and isinstance(texts, (list, tuple)) and texts and _all_text(texts):
        models = chosen(names, composition=True)
        rows = of_compositions(models, composition_of([read_formula(text) for text in texts]))
        single = isinstance(structures, str)
    else:
        given = read_structures(structures)
        models, single = chosen(names), given.single
        rows = of_crystals(models, given.crystals, contributions=contributions)
    keys = [_key(model.card.property, model.card.name, models) for model in models]
    found = [{key: value for key, value in zip(keys, row, strict=True) if value is not None} for row in rows]
    return found[0] if single else found


def _all_text(given: Iterable[Any]) -> bool:
    return all(isinstance(one, str) for one in given)


def _key(name: str, model: str, models: list[Any]) -> str:
    """The property's name, or the model's where two are of one property."""
    return name if sum(one.card.property == name for one in models) == 1 else model
