"""Property models in files: rows of the model library, beside the energy models.

A model is two files in the folder `properties` of the library: NAME.safetensors with all that is learned, in
half precision (the values and features that a kernel regression learned from in single), and the hashed
compositions that it has seen; and NAME.json, its card.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from csp.errors import InputError, MissingError, did_you_mean
from csp.files import replacing
from csp.training import cards
from csp.training.cards import ModelCard
from surrogates import zoo
from surrogates.properties.kernel import KernelRegression
from surrogates.properties.model import LastLayer, PropertyModel
from surrogates.properties.network import CompositionEncoder, CrystalEncoder, joined
from surrogates.transformer.surrogate import Surrogate

__all__ = [
    "COMPOSITION",
    "TOGETHER",
    "PropertyCard",
    "find",
    "keep_surrogate",
    "list_models",
    "load",
    "names",
    "of_one_surrogate",
    "read_card",
    "seen_compositions",
    "together",
    "user_folder",
    "verify",
    "write",
]

FOLDER = "properties"
FEATURES = "features"  # beside it: surrogates of before, for the models that read them
COMPOSITION = "-composition"  # what the names of models of compositions end with
TOGETHER = "together"  # in the place of a name: all models of crystals as one source
ENCODER, LAST = "encoder.", "last."


@dataclass(frozen=True, slots=True, kw_only=True)
class PropertyCard(ModelCard):
    """What a property model is and where it comes from.

    Attributes:
        unit: Of the values.
        title: Of the property, for people.
        scale: What is learned: the value ("identity") or its decimal logarithm ("log10").
        lowest: No value is below it; None: any may be.
        n: Values that it was trained on.
        span: The smallest and the largest of them.
        surrogate: Name of the surrogate whose features it reads; None: it reads the composition alone.
        surrogate_sha256: The first digits of that of its weights: with others the features are others.
        parents: Models that its training began with.
    """

    unit: str
    title: str
    scale: str
    lowest: float | None
    n: int
    span: list[float]
    surrogate: str | None
    surrogate_sha256: str | None
    parents: list[str]

    @property
    def reads(self) -> str:
        """ "crystal" or "composition"."""
        return "composition" if self.surrogate is None else "crystal"


def _folders() -> list[Path]:
    return [folder / FOLDER for folder in zoo.folders()]


def user_folder() -> Path:
    """Where property models that are known by their name can be put."""
    return zoo.user_folder() / FOLDER


def list_models() -> list[PropertyCard]:
    """The cards of the models that come with the package, by name, and then of the user's."""
    return [
        read_card(path.with_suffix(".safetensors")) for f in _folders() for path in sorted(f.glob("*.json"))
    ]


def names() -> list[str]:
    """Of all models here, those that come with the package first."""
    return [path.stem for folder in _folders() for path in sorted(folder.glob("*.safetensors"))]


def find(name_or_path: str | Path) -> Path:
    """The weights of a model by name or path.

    Raises:
        MissingError: There is no such file.
        InputError: No model has that name; which was probably meant.
    """
    name = str(name_or_path)
    if name.endswith(".safetensors"):
        if not Path(name).is_file():
            raise MissingError(f"There is no property model at {name}.")
        return Path(name)
    paths = (folder / f"{name}.safetensors" for folder in _folders())
    if found := next((path for path in paths if path.is_file()), None):
        return found
    known = names()
    raise InputError(
        f"There is no model of a property {name!r}"
        + did_you_mean(name, known, f"there are {', '.join(known) or 'none'}")
    )


def read_card(name_or_path: str | Path) -> PropertyCard:
    """The card of a model by name or path."""
    return cards.read_card(find(name_or_path), PropertyCard)


def verify(name_or_path: str | Path) -> PropertyCard:
    """The card, once the weights are found to be its.

    Raises:
        InputError: They do not have the hash that it names.
    """
    path = find(name_or_path)
    card = read_card(path)
    cards.check_weights(path, card)
    return card


def seen_compositions(name_or_path: str | Path) -> frozenset[int]:
    """Hashes of all compositions that a model, or a model it began with, was trained on."""
    return cards.seen_compositions(find(name_or_path))


@cache
def _surrogate(name: str, sha256: str) -> Surrogate:
    """The surrogate of a name if its weights are these, or those that were kept for models that read them.

    Raises:
        InputError: Neither is here.
    """
    kept = [folder / FEATURES / f"{name}-{sha256}.safetensors" for folder in zoo.folders()]
    places: list[str | Path] = [name, *(path for path in kept if path.is_file())]
    for place in places:
        if zoo.is_ours(place) and zoo.read_card(place).sha256.startswith(sha256):
            return zoo.load_surrogate(place)
    raise InputError(
        f"It reads the features of the surrogate {name} with weights {sha256}…, which are not here; train it "
        "again on those that are."
    )


def keep_surrogate(name: str, sha256: str) -> None:
    """Put a copy of a surrogate where models that read it find it when another takes its name."""
    folder = user_folder().parent / FEATURES
    for path in (source := zoo.weights_file(name), source.with_suffix(".json")):
        target = folder / f"{name}-{sha256}{path.suffix}"
        if not target.is_file() and zoo.read_card(name).sha256.startswith(sha256):
            with replacing(target) as partial:
                shutil.copyfile(path, partial)


def load(name_or_path: str | Path) -> PropertyModel:
    """A model by name or path.

    Raises:
        InputError: The name means nothing, a file is damaged, or the surrogate here is another one than it
            was trained on.
        MissingError: It is not here.
    """
    from safetensors.torch import load_file

    path = find(name_or_path)
    card = verify(path)
    weights = load_file(path)
    weights.pop(cards.SEEN)
    parts = {k.removeprefix(ENCODER): w.float() for k, w in weights.items() if k.startswith(ENCODER)}
    sizes = {key: value for key, value in card.architecture.items() if key != "input"}
    encoder: Any = CompositionEncoder(**sizes) if card.surrogate is None else CrystalEncoder.empty(**sizes)
    encoder.load_state_dict(parts)
    encoder.eval().requires_grad_(False)
    ends = {k.removeprefix(LAST): w for k, w in weights.items() if k.startswith(LAST)}
    last = KernelRegression.of_tensors(ends) if "rows" in ends else LastLayer.of_tensors(ends)
    surrogate = None
    if card.surrogate is not None and card.surrogate_sha256 is not None:
        try:
            surrogate = _surrogate(card.surrogate, card.surrogate_sha256)
        except InputError as error:
            raise InputError(f"The model {card.name} cannot be used. {error.message}") from error
    return PropertyModel(card, encoder, last, surrogate)


def of_one_surrogate(models: Sequence[PropertyModel]) -> list[PropertyModel]:
    """Those to take together: trained from the start, not by transfer, on the first one's surrogate."""
    whole = [model for model in models if "strategy" not in model.card.recipe and not model.by_composition]
    return [one for one in whole if one.card.surrogate_sha256 == whole[0].card.surrogate_sha256]


def together(models: Sequence[PropertyModel]) -> PropertyModel:
    """All models of crystals as one source: the first member of each, and the values of them all.

    Raises:
        InputError: They read features of different surrogates, or there is none.
    """
    shas = {model.card.surrogate_sha256 for model in models}
    if len(shas) != 1 or None in shas:
        raise InputError("Only models of crystals on one surrogate can be taken together.")
    encoder = joined([model.encoder for model in models])
    width = encoder.width
    values = torch.zeros(len(models) * width + 1, len(models), dtype=torch.float64)
    for k, model in enumerate(models):
        # a member alone gives the value that all give in the mean
        last = model.last.linear()
        values[k * width : (k + 1) * width, k] = last[:width] * model.encoder.members
        values[-1, k] = last[-1]
    first = models[0]
    card = replace(
        first.card,
        name=TOGETHER,
        # a model that has not met an element is no worse a feature of its compounds than none
        elements=sorted(frozenset[int].union(*(model.elements for model in models))),
        parents=[f"{model.card.name} {model.card.sha256[:12]}" for model in models],
    )
    mean = LastLayer(values.mean(1), values[:, :1] * 0.0, 1.0, 1.0, 1.0, 1.0)
    return PropertyModel(card, encoder, mean, first.surrogate, values)


def write(
    path: Path, encoder: Any, last: LastLayer | KernelRegression, *, seen: Iterable[int], **about: Any
) -> PropertyCard:
    """Write a model's two files, each whole or not at all.

    Args:
        path: Of the weights, NAME.safetensors.
        seen: Hashed compositions that it was trained on.
        about: All other fields of the card but the name, the architecture and the hash.
    """
    weights: dict[str, Tensor] = {f"{ENCODER}{k}": w.half() for k, w in encoder.state_dict().items()}
    weights |= {f"{LAST}{k}": w for k, w in last.tensors().items()}
    return cards.write_model(
        path, PropertyCard, weights, seen=seen, architecture=encoder.architecture, **about
    )
