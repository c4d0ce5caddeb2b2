"""The model library: our own models with their cards, and published potentials by name or path.

A model of ours is two files: NAME.safetensors, the weights and the hashed compositions it was trained
on, and NAME.json, its card. Nothing is unpickled. Some come with the package, others are in the user's
folder of models.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from csp import plugins
from csp.errors import ContractError, InputError, MissingError
from csp.protocols import EnergyModel, Label
from surrogates.transfer.fit_correction import Head
from surrogates.transformer.network import Architecture, CrystalTransformer
from surrogates.transformer.surrogate import Surrogate
from surrogates.transformer.uncertainty import Rigidity

__all__ = [
    "Card",
    "export",
    "is_ours",
    "list_models",
    "load_model",
    "load_surrogate",
    "our_names",
    "read_card",
    "seen_compositions",
    "user_folder",
    "verify",
    "weights_file",
    "write_model",
]

DEFAULT_KIND = "anchored"
RIGIDITY, CORRECTION = "rigidity.", "correction."  # what the names of those tensors begin with
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


def user_folder() -> Path:
    """Where models that are known by their name can be put."""
    from platformdirs import user_data_path

    return user_data_path("csp-engine") / "models"


def list_models() -> list[Card]:
    """The cards of the models that come with the package, by name, and then of the user's."""
    return [_parse_card(path) for folder in _folders() for path in sorted(folder.glob("*.json"))]


def _folders() -> tuple[Path, Path]:
    return _shipped(), user_folder()


def read_card(name_or_path: str | Path) -> Card:
    """The card of a model of ours by name, or of a weights file by path.

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
    """Hashes (see `surrogates.training.labelled.hashed`) of all compositions that a model of ours was
    trained on."""
    from safetensors.torch import load_file

    return frozenset(load_file(weights_file(name_or_path))["seen"].tolist())


def load_model(
    name_or_path: str | Path,
    device: torch.device | str = "cpu",
    *,
    kind: str | None = None,
) -> EnergyModel:
    """A model by name or path: our own, CHGNet, one of matgl's potentials, or what another package offers.

    kind: the head of a model of ours; None: "anchored", or its only one. Raises InputError for a name that
    means nothing, a damaged file or an unknown head, MissingError for what is not here.
    """
    if offered := plugins.find(plugins.MODELS, str(name_or_path), our_names()):
        return _from_package(offered, device)
    if not is_ours(name_or_path):
        from surrogates.potentials.models import load_potential

        return load_potential(name_or_path, device)
    from safetensors.torch import load_file

    card = verify(name_or_path)
    network = CrystalTransformer(Architecture(**{**card.architecture, "kinds": tuple(card.kinds)}))
    weights = load_file(weights_file(name_or_path))
    seen = frozenset(weights.pop("seen").tolist())
    factors = {name: weights.pop(f"{RIGIDITY}{name}", None) for name in card.kinds}
    corrected = [one.name for one in fields(Head) if f"{CORRECTION}{one.name}" in weights]
    correction = {name: weights.pop(f"{CORRECTION}{name}") for name in corrected}
    network.load_state_dict(weights)
    if kind is None:
        kind = next(iter(card.kinds)) if len(card.kinds) == 1 else DEFAULT_KIND
    if kind not in card.kinds:
        raise InputError(f"The model {card.name} has no head {kind!r}; it has {', '.join(card.kinds)}.")
    return Surrogate(
        network.to(device),
        kind=kind,
        name=card.name,
        label=card.label(kind),
        elements=frozenset(card.elements),
        rigidity=Rigidity(factor.double()) if (factor := factors[kind]) is not None else None,
        correction=Head(**correction) if correction else None,
        seen=seen,
    )


def our_names() -> frozenset[str]:
    """Names that always mean what the engine itself means by them."""
    from surrogates.potentials.catalogue import PUBLISHED

    own = (path.stem for folder in _folders() for path in folder.glob("*.safetensors"))
    return frozenset({"none", *PUBLISHED, *own})


def _from_package(offered: EntryPoint, device: torch.device | str) -> EnergyModel:
    """The model that an entry point makes; ContractError if it is none."""
    model = plugins.load(offered)(torch.device(device))
    if not isinstance(model, EnergyModel):
        raise ContractError(
            f"{offered.name} of {plugins.origin(offered)} gives a {type(model).__name__}, which is no energy "
            "model with a name, a label, elements, a device and evaluate."
        )
    return model


def load_surrogate(name_or_path: str | Path, device: torch.device | str = "cpu") -> Surrogate:
    """A model that can be adapted to labels; InputError for a potential, which cannot."""
    model = load_model(name_or_path, device)
    if not isinstance(model, Surrogate):
        raise InputError(f"{model.name} cannot be adapted to labels; choose a surrogate of ours.")
    return model


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
    about: further fields of the card (data, split, licence, code_version).
    """
    state = json.loads((checkpoint / "about.json").read_text())
    weights = torch.load(checkpoint / "average.pt", weights_only=True, map_location="cpu")
    weights["seen"] = torch.tensor(state["seen"], dtype=torch.int64)
    for kind, one in (rigidity or {}).items():
        weights[f"{RIGIDITY}{kind}"] = one.factor.float()
    return write_model(
        weights,
        folder,
        name=name,
        property="formation energy",
        functional="PBE+U",
        kinds={kind: CORRECTIONS[kind] for kind in state["architecture"]["kinds"]},
        elements=state["elements"],
        architecture={k: v for k, v in state["architecture"].items() if k != "kinds"},
        recipe=state["recipe"],
        parents=state.get("parents", []),
        metrics=metrics,
        **about,
    )


def write_model(weights: Mapping[str, Tensor], folder: Path, *, name: str, **about: Any) -> Card:
    """Write a model's two files, each whole or not at all.

    about: all other fields of the card but the unit and the hash.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    part = path.with_suffix(".part")
    save_file({key: tensor.cpu().contiguous() for key, tensor in weights.items()}, part)
    part.chmod(0o644)  # the package makes it readable to its owner alone
    digest = hashlib.sha256(part.read_bytes()).hexdigest()
    card = Card(name=name, unit="eV per cell", sha256=digest, **about)
    os.replace(part, path)
    text = json.dumps(asdict(card), indent=1, ensure_ascii=False)
    part.write_text(text + "\n", encoding="utf-8")
    os.replace(part, path.with_suffix(".json"))
    return card


def is_ours(name_or_path: str | Path) -> bool:
    """Is it the name of a model of ours or a path to a weights file of one?"""
    return str(name_or_path).endswith(".safetensors") or _named(str(name_or_path)) is not None


def weights_file(name_or_path: str | Path) -> Path:
    """The weights of a model of ours by name or path; MissingError where there is none."""
    path = Path(name_or_path) if str(name_or_path).endswith(".safetensors") else _named(str(name_or_path))
    if path is None or not path.exists():
        known = ", ".join(card.name for card in list_models()) or "none"
        raise MissingError(f"There is no model {str(name_or_path)!r} in the library; there are: {known}.")
    return path


def _named(name: str) -> Path | None:
    """The weights of this name; of two, those that come with the package."""
    paths = (folder / f"{name}.safetensors" for folder in _folders())
    return next((path for path in paths if path.exists()), None)


def _parse_card(path: Path) -> Card:
    try:
        return Card(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise MissingError(f"The model card {path} is missing.") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"The model card {path} cannot be read: {error}.") from error
