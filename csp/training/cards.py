"""Models in files: weights that say what they have seen, and beside them a card of where they come from.

A model is two files: NAME.safetensors, the weights and the hashed compositions it was trained on, and
NAME.json, its card. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata, resources
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from csp.errors import InputError, MissingError
from csp.files import replacing, write_text

__all__ = [
    "ModelCard",
    "check_weights",
    "code_version",
    "load_weights",
    "read_card",
    "seen_compositions",
    "shipped",
    "write_model",
]

SEEN = "seen"  # the name, among the weights, of the hashed compositions


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a model is and where it comes from.

    Attributes:
        property: What it predicts.
        architecture: Of the network, as far as it is needed to make an empty one.
        recipe: How it was trained.
        elements: Atomic numbers that it was trained on.
        data: What it was trained on, for people.
        split: What was held out of the training.
        sha256: Of the weights file.
        metrics: Its errors, by name.
    """

    name: str
    property: str
    architecture: dict[str, Any]
    recipe: dict[str, Any]
    elements: list[int]
    data: list[str]
    split: str
    licence: str
    code_version: str
    sha256: str
    metrics: dict[str, float] = field(default_factory=dict)


C = TypeVar("C", bound=ModelCard)


def shipped(name: str) -> Path:
    """The weights file of a generator's model that comes with the package."""
    return Path(str(resources.files("generators") / "weights")) / f"{name}.safetensors"


def code_version() -> str:
    """Of this package, for the card; "" where it runs without being installed."""
    try:
        return metadata.version("csp-engine")
    except metadata.PackageNotFoundError:
        return ""


def read_card(path: Path, kind: type[C]) -> C:
    """The card beside a weights file.

    Raises:
        MissingError: There is none.
        InputError: It cannot be read.
    """
    path = path.with_suffix(".json")
    try:
        return kind(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise MissingError(f"The model card {path} is missing.") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"The model card {path} cannot be read: {error}.") from error


def check_weights(path: Path, card: ModelCard) -> None:
    """Are the weights in a file those of a card?

    Raises:
        InputError: They do not have the hash that it names.
    """
    if hashlib.sha256(path.read_bytes()).hexdigest() != card.sha256:
        raise InputError(f"The weights in {path} are not those of their card.")


def load_weights(path: Path) -> tuple[dict[str, Tensor], ModelCard]:
    """The weights of a file, without the hashed compositions, and their card.

    Raises:
        MissingError: The file or its card is not there.
        InputError: The card cannot be read, or the weights are not those that it names.
    """
    from safetensors.torch import load_file

    if not (path.is_file() and path.with_suffix(".json").is_file()):
        raise MissingError(f"There is no model at {path} with a card beside it.")
    card = read_card(path, ModelCard)
    check_weights(path, card)
    weights: dict[str, Tensor] = load_file(path)
    weights.pop(SEEN)
    return weights, card


def seen_compositions(path: Path) -> frozenset[int]:
    """Hashes (see `csp.training.splits.hashed`) of all compositions that the weights in a file have seen."""
    from safetensors.torch import load_file

    return frozenset(load_file(path)[SEEN].tolist())


def write_model(
    path: Path, kind: type[C], weights: Mapping[str, Tensor], *, seen: Iterable[int], **about: Any
) -> C:
    """Write a model with its card, each file whole or not at all, the weights first.

    Args:
        path: Of the weights, NAME.safetensors.
        seen: Hashed compositions that it was trained on.
        about: The other fields of the card but the name and the hash.
    """
    from safetensors.torch import save_file

    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in weights.items()}
    tensors[SEEN] = torch.tensor(sorted(seen), dtype=torch.int64)
    with replacing(path) as partial:
        save_file(tensors, partial)
        partial.chmod(0o644)  # safetensors makes it readable to its owner alone
        digest = hashlib.sha256(partial.read_bytes()).hexdigest()
    card = kind(name=path.stem, sha256=digest, **about)
    write_text(path.with_suffix(".json"), json.dumps(asdict(card), indent=1, ensure_ascii=False) + "\n")
    return card
