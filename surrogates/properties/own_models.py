"""A model of one's own property, learned by transfer: from a table to a row of the library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from csp.errors import InputError
from csp.training.cards import code_version
from csp.training.splits import hashed
from surrogates.properties import library
from surrogates.properties.model import PropertyModel
from surrogates.properties.own_data import OwnData
from surrogates.properties.recommending import recommend
from surrogates.properties.transfer import Transferred, learning_curve, source_input, transfer

__all__ = ["AUTO", "OwnModel", "check_name", "find_source", "train_own"]

AUTO = "auto"  # in the place of a source's name: the one that is recommended


@dataclass(frozen=True, slots=True, eq=False)
class OwnModel:
    """What was learned, and what is to be known of it.

    Attributes:
        curve: Values learned from → mean absolute error on others, in the values' unit.
    """

    card: library.PropertyCard
    source: str
    transferred: Transferred
    curve: dict[int, float]


def check_name(name: str) -> None:
    """Raise InputError for a name that no model of one's own can have."""
    if not name or not all(letter.isalnum() or letter in "_-" for letter in name):
        raise InputError(f"{name!r} is no name for a model: use letters, digits, _ and -.")
    shipped, own = set(library.names()), {path.stem for path in library.user_folder().glob("*.safetensors")}
    if name == library.TOGETHER or name in shipped - own:
        raise InputError(f"A model of the engine is named {name!r}; give yours another name.")


def find_source(name: str, data: OwnData) -> PropertyModel:
    """The source of a name, the joined one, or, by "auto", the one that is recommended.

    Raises:
        InputError: None can read the data.
    """
    if name == library.TOGETHER:
        reading = [one for one in library.names() if library.read_card(one).reads == "crystal"]
        return library.together(library.of_one_surrogate([library.load(one) for one in reading]))
    if name != AUTO:
        return library.load(name)
    tried = recommend(data)
    if not tried or tried[0].source is None:
        why = tried[0].why_not if tried else "There is no model in the library."
        raise InputError(f"No model can be learned from: {why}")
    return tried[0].source


def train_own(
    data: OwnData, name: str, source: PropertyModel, folder: Path, *, strategy: str = AUTO, seed: int = 0
) -> OwnModel:
    """Learn from a source, and write the model.

    Raises:
        InputError: The source cannot read the data; see `transfer`.
    """
    check_name(name)
    x = source_input(source, data)
    found = transfer(source, data, strategy=strategy, x=x, seed=seed)
    curve = learning_curve(source, data, x, found, seed)
    parents = (
        source.card.parents
        if source.card.name == library.TOGETHER
        else [f"{source.card.name} {source.card.sha256[:12]}"]
    )
    seen = {hashed(one) for one in data.names}
    for parent in parents:
        if (stem := parent.split()[0]) in library.names():
            seen |= library.seen_compositions(stem)
    metrics = {f"left_out_mae.{key}": value for key, value in found.errors.items()}
    metrics |= {"left_out_mae.median_of_all": found.guess}
    metrics |= {f"mae_learning_from_{n}": value for n, value in curve.items()}
    card = library.write(
        folder / f"{name}.safetensors",
        found.encoder,
        found.last,
        seen=seen,
        property=name,
        title=name.replace("_", " "),
        unit=data.unit,
        scale=found.scale,
        lowest=found.lowest,
        n=len(data),
        span=[float(data.value.min()), float(data.value.max())],
        surrogate=source.card.surrogate,
        surrogate_sha256=source.card.surrogate_sha256,
        parents=parents,
        recipe={"strategy": found.strategy, "values": len(data), "seed": seed},
        elements=sorted(source.elements),
        data=[f"{len(data)} values of your own"],
        split=f"left out in {len(set(data.names))} groups of equal composition",
        licence="that of its parents and of its values",
        code_version=code_version(),
        metrics={key: float(f"{value:.4g}") for key, value in metrics.items()},
    )
    if card.surrogate is not None and card.surrogate_sha256 is not None:
        library.keep_surrogate(card.surrogate, card.surrogate_sha256)
    return OwnModel(card, source.card.name, found, curve)
