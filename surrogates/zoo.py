"""The model library: our own models with their cards, and published potentials by name or path.

A model of ours is two files: NAME.safetensors, the weights and the hashed compositions it was trained
on, and NAME.json, its card. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from csp.errors import InputError, MissingError
from csp.protocols import EnergyModel, Label
from surrogates.surrogate import Surrogate
from surrogates.transformer import Architecture, CrystalTransformer
from surrogates.uncertainty import Rigidity

__all__ = [
    "Card",
    "export",
    "is_ours",
    "list_models",
    "load_model",
    "read_card",
    "seen_compositions",
    "verify",
    "weights_file",
]

DEFAULT_KIND = "anchored"
RIGIDITY = "rigidity."  # what the names of those tensors begin with
CORRECTIONS = {
    "formation": "MP2018 formation energy",
    "anchored": "MP2018-anchored Δ(CHGNet)",
}


@dataclass(frozen=True, slots=True)
class Card:
    """What a model is and where it comes from.

    kinds     its heads; each predicts a label of its own
    elements  atomic numbers it was trained on
    sha256    of the weights file
    """

    name: str
    property: str
    unit: str
    functional: str
    kinds: dict[str, str]
    elements: list[int]
    architecture: dict[str, Any]
    recipe: dict[str, Any]
    data: list[str]
    split: str
    parents: list[str]
    licence: str
    code_version: str
    sha256: str
    metrics: dict[str, float] = field(default_factory=dict)

    def label(self, kind: str) -> Label:
        return Label(self.functional, self.kinds[kind], f"{self.name}-{self.sha256[:12]}")


def _shipped() -> Path:
    return Path(str(resources.files("surrogates") / "weights"))


def list_models() -> list[Card]:
    """The cards of the models that come with the package, by name."""
    return [_parse_card(path) for path in sorted(_shipped().glob("*.json"))]


def read_card(name_or_path: str | Path) -> Card:
    """The card of a shipped model by name, or of a weights file by path.

    Raises MissingError where there is none, InputError where it cannot be read.
    """
    return _parse_card(weights_file(name_or_path).with_suffix(".json"))


def verify(name_or_path: str | Path) -> Card:
    """The card, once the weights have the hash that it names; InputError otherwise."""
    path = weights_file(name_or_path)
    card = read_card(path)
    if hashlib.sha256(path.read_bytes()).hexdigest() != card.sha256:
        raise InputError(f"The weights in {path} are not those of their card.")
    return card


def seen_compositions(name_or_path: str | Path) -> frozenset[int]:
    """Hashes (see `surrogates.data.hashed`) of all compositions that a model of ours was trained on."""
    from safetensors.torch import load_file

    return frozenset(load_file(weights_file(name_or_path))["seen"].tolist())


def load_model(
    name_or_path: str | Path,
    device: torch.device | str = "cpu",
    *,
    kind: str = DEFAULT_KIND,
) -> EnergyModel:
    """A model by name or path: our own, else CHGNet or one of matgl's potentials.

    kind: the head of a model of ours. Raises InputError for a name that means nothing, a damaged
    file or an unknown head, MissingError for what is not here.
    """
    if not is_ours(name_or_path):
        from surrogates.potentials import load_potential

        return load_potential(name_or_path, device)
    from safetensors.torch import load_file

    card = verify(name_or_path)
    network = CrystalTransformer(Architecture(**{**card.architecture, "kinds": tuple(card.kinds)}))
    weights = load_file(weights_file(name_or_path))
    weights.pop("seen")
    factors = {name: weights.pop(f"{RIGIDITY}{name}", None) for name in card.kinds}
    network.load_state_dict(weights)
    if kind not in card.kinds:
        raise InputError(f"The model {card.name} has no head {kind!r}; it has {', '.join(card.kinds)}.")
    return Surrogate(
        network.to(device),
        kind=kind,
        name=card.name,
        label=card.label(kind),
        elements=frozenset(card.elements),
        rigidity=Rigidity(factor.double()) if (factor := factors[kind]) is not None else None,
    )


def export(
    checkpoint: Path,
    name: str,
    folder: Path,
    metrics: dict[str, float],
    rigidity: Mapping[str, Rigidity] | None = None,
    **about: Any,
) -> Card:
    """Turn a training checkpoint's averaged weights into a model of the library.

    rigidity: kind → that of its head; a head without one gives no σ.
    about: further fields of the card (data, split, licence, parents, code_version).
    """
    from safetensors.torch import save_file

    state = json.loads((checkpoint / "about.json").read_text())
    weights = torch.load(checkpoint / "average.pt", weights_only=True, map_location="cpu")
    weights["seen"] = torch.tensor(state["seen"], dtype=torch.int64)
    for kind, one in (rigidity or {}).items():
        weights[f"{RIGIDITY}{kind}"] = one.factor.float()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    part = path.with_suffix(".part")
    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, part)
    part.chmod(0o644)  # the package makes it readable to its owner alone
    card = Card(
        name=name,
        property="formation energy",
        unit="eV per cell",
        functional="PBE+U",
        kinds={kind: CORRECTIONS[kind] for kind in state["architecture"]["kinds"]},
        elements=state["elements"],
        architecture={k: v for k, v in state["architecture"].items() if k != "kinds"},
        recipe=state["recipe"],
        sha256=hashlib.sha256(part.read_bytes()).hexdigest(),
        metrics=metrics,
        **about,
    )
    os.replace(part, path)
    text = json.dumps(asdict(card), indent=1, ensure_ascii=False)
    part.write_text(text + "\n", encoding="utf-8")
    os.replace(part, path.with_suffix(".json"))
    return card


def is_ours(name_or_path: str | Path) -> bool:
    """Is it a shipped model's name or a path to a weights file of ours?"""
    return str(name_or_path).endswith(".safetensors") or (_shipped() / f"{name_or_path}.safetensors").exists()


def weights_file(name_or_path: str | Path) -> Path:
    """The weights of a model of ours by name or path; MissingError where there is none."""
    path = Path(name_or_path)
    if path.suffix != ".safetensors":
        path = _shipped() / f"{name_or_path}.safetensors"
    if not path.exists():
        known = ", ".join(card.name for card in list_models()) or "none"
        raise MissingError(f"There is no model {str(name_or_path)!r} in the library; there are: {known}.")
    return path


def _parse_card(path: Path) -> Card:
    try:
        return Card(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise MissingError(f"The model card {path} is missing.") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"The model card {path} cannot be read: {error}.") from error
