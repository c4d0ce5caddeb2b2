"""The weights of the generators: what ships, where it comes from, and what it has seen.

A model is two files: NAME.safetensors, the weights and the hashed compositions it was trained on, and
NAME.json, its card. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from csp.errors import InputError, MissingError
from generators.templates.composition_encoder import Architecture, CompositionEncoder

__all__ = ["Card", "Network", "export", "load_encoder", "load_weights", "seen_compositions", "shipped"]

SEEN, ELEMENTS = "seen", "elements"


@dataclass(frozen=True, slots=True)
class Card:
    """What a model is and where it comes from.

    elements  atomic numbers it was trained on
    sha256    of the weights file
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


def shipped(name: str) -> Path:
    """The weights file of a metric that comes with the package."""
    return Path(str(resources.files("generators") / "weights")) / f"{name}.safetensors"


class Network(Protocol):
    """What can be exported: `architecture` is a dataclass that says how to make an empty one."""

    architecture: Any

    def state_dict(self) -> dict[str, Tensor]: ...


def load_encoder(path: Path) -> tuple[CompositionEncoder, Card]:
    """The metric in a weights file, on the CPU; see `load_weights`."""
    weights, card = load_weights(path)
    encoder = CompositionEncoder(Architecture(**card.architecture))
    encoder.load_state_dict(weights)
    return encoder.eval(), card


def load_weights(path: Path) -> tuple[dict[str, Tensor], Card]:
    """The weights of a file, without the hashed compositions. Raises MissingError where it or its card is not
    there and InputError where the weights are not those of the card."""
    from safetensors.torch import load_file

    try:
        card = Card(**json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise MissingError(f"There is no model at {path} with a card beside it.") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"The card of {path} cannot be read: {error}.") from error
    if hashlib.sha256(content).hexdigest() != card.sha256:
        raise InputError(f"The weights in {path} are not those of their card.")
    weights: dict[str, Tensor] = load_file(path)
    weights.pop(SEEN)
    return weights, card


def seen_compositions(path: Path) -> frozenset[int]:
    """Hashes (see `csp.training.splits.hashed`) of all compositions that a metric was trained on."""
    from safetensors.torch import load_file

    return frozenset(load_file(path)[SEEN].tolist())


def export(
    network: Network,
    path: Path,
    *,
    seen: set[int],
    elements: set[int],
    recipe: Mapping[str, Any],
    metrics: dict[str, float],
    **about: Any,
) -> Card:
    """Write a model with its card, weights first.

    seen: hashed compositions; about: further fields of the card (property, data, split, licence, …).
    """
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {
        key: t.detach().cpu().contiguous() for key, t in network.state_dict().items()
    }
    tensors[SEEN] = torch.tensor(sorted(seen), dtype=torch.int64)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file(tensors, part)
    card = Card(
        name=path.stem,
        architecture=asdict(network.architecture),
        recipe=dict(recipe),
        elements=sorted(elements),
        sha256=hashlib.sha256(part.read_bytes()).hexdigest(),
        metrics=metrics,
        **about,
    )
    os.replace(part, path)
    part.write_text(json.dumps(asdict(card), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, path.with_suffix(".json"))
    return card
