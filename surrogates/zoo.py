"""The model library: our own models with their cards, and published potentials by name or path.

A model of ours is two files: NAME.safetensors, the weights and the hashed compositions it was trained
on, and NAME.json, its card. Nothing is unpickled. Some come with the package, others are in the user's
folder of models.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from importlib import resources
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from csp import plugins
from csp.errors import ContractError, InputError, MissingError, did_you_mean
from csp.protocols import EnergyModel, Label
from csp.training import cards
from csp.training.cards import ModelCard
from surrogates.transformer.correction import LastLayerCorrection
from surrogates.transformer.network import CrystalTransformer, SurrogateArchitecture
from surrogates.transformer.surrogate import Surrogate
from surrogates.transformer.uncertainty import Rigidity

__all__ = [
    "AUTO",
    "EnergyModelCard",
    "check_known",
    "choose_relaxer",
    "folders",
    "is_ours",
    "list_models",
    "load_model",
    "load_surrogate",
    "model_from_checkpoint",
    "our_names",
    "read_card",
    "read_checkpoint",
    "seen_compositions",
    "user_folder",
    "verify",
    "weights_file",
    "write_model",
]

AUTO = "auto"  # in the place of a name: see `choose_relaxer`
BEST, AT_HAND = "nequix-oam-1", "chgnet"
DEFAULT_KIND = "anchored"
RIGIDITY, CORRECTION = "rigidity.", "correction."  # what the names of those tensors begin with
FORMATION_ENERGY = "MP2018 formation energy"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyModelCard(ModelCard):
    """What an energy model is and where it comes from.

    Attributes:
        unit: Of its energies.
        kinds: Its heads, each with the correction of the energies that it predicts, which are a label of
            their own.
        parents: Models that its training began with.
    """

    unit: str
    functional: str
    kinds: dict[str, str]
    parents: list[str]

    def label(self, kind: str) -> Label:
        """The label of the energies of a head."""
        return Label(self.functional, self.kinds[kind], f"{self.name}-{self.sha256[:12]}")


def _shipped() -> Path:
    return Path(str(resources.files("surrogates") / "weights"))


def user_folder() -> Path:
    """Where models that are known by their name can be put."""
    from platformdirs import user_data_path

    return user_data_path("csp-engine") / "models"


def list_models() -> list[EnergyModelCard]:
    """The cards of the models that come with the package, by name, and then of the user's."""
    return [
        cards.read_card(path, EnergyModelCard)
        for folder in folders()
        for path in sorted(folder.glob("*.json"))
    ]


def folders() -> tuple[Path, Path]:
    """Where models are known by their names: of the package, and the user's."""
    return _shipped(), user_folder()


def read_card(name_or_path: str | Path) -> EnergyModelCard:
    """The card of a model of ours by name, or of a weights file by path.

    Raises:
        MissingError: There is none.
        InputError: It cannot be read.
    """
    return cards.read_card(weights_file(name_or_path), EnergyModelCard)


def verify(name_or_path: str | Path) -> EnergyModelCard:
    """The card, once the weights are found to be its.

    Raises:
        MissingError: There are none.
        InputError: They do not have the hash that it names.
    """
    path = weights_file(name_or_path)
    card = read_card(path)
    cards.check_weights(path, card)
    return card


def seen_compositions(name_or_path: str | Path) -> frozenset[int]:
    """Hashes (see `surrogates.training.labelled.hashed`) of all compositions that a model of ours was
    trained on."""
    return cards.seen_compositions(weights_file(name_or_path))


def load_model(
    name_or_path: str | Path,
    device: torch.device | str = "cpu",
    *,
    kind: str | None = None,
) -> EnergyModel:
    """A model by name or path: our own, a published potential, or what another package offers; "auto" is what
    `choose_relaxer` chooses.

    Args:
        kind: The head of a model of ours; None: "anchored", or its only one.

    Raises:
        InputError: The name means nothing, a file is damaged or a head unknown.
        MissingError: It is not here.
    """
    if str(name_or_path) == AUTO:
        name_or_path = choose_relaxer()[0]
    if offered := plugins.find(plugins.MODELS, str(name_or_path), our_names()):
        return _from_package(offered, device)
    check_known(name_or_path)
    if not is_ours(name_or_path):
        from surrogates.potentials.models import load_potential

        return load_potential(name_or_path, device)
    from safetensors.torch import load_file

    card = verify(name_or_path)
    network = CrystalTransformer(SurrogateArchitecture(**{**card.architecture, "kinds": tuple(card.kinds)}))
    weights = load_file(weights_file(name_or_path))
    seen = frozenset(weights.pop(cards.SEEN).tolist())
    factors = {name: weights.pop(f"{RIGIDITY}{name}", None) for name in card.kinds}
    corrected = [one.name for one in fields(LastLayerCorrection) if f"{CORRECTION}{one.name}" in weights]
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
        correction=LastLayerCorrection(**correction) if correction else None,
        seen=seen,
    )


def our_names() -> frozenset[str]:
    """Names that always mean what the engine itself means by them."""
    from surrogates.potentials.catalogue import PUBLISHED

    return frozenset({"none", AUTO, *PUBLISHED, *_own()})


def _own() -> list[str]:
    """The names of our own models: those that come with the package first."""
    return [path.stem for folder in folders() for path in sorted(folder.glob("*.safetensors"))]


def check_known(name_or_path: str | Path, what: str = "model", more: Iterable[str] = ()) -> None:
    """Does a name or a path mean a model at all? Whether it is here and whole is not looked at.

    Args:
        what: What it is to be, for the sentence.
        more: Further names that mean one.

    Raises:
        InputError: It does not; what is known by name, and which of it was probably meant.
    """
    from surrogates.potentials.catalogue import PUBLISHED

    name = str(name_or_path)
    known = dict.fromkeys([*more, *_own(), *PUBLISHED, *plugins.names(plugins.MODELS)])
    if name in known or name.lower() == AT_HAND or is_ours(name) or Path(name).is_dir():
        return
    others = f"known are {', '.join(known)}, and by their paths weights files of ours and folders of matgl"
    raise InputError(f"There is no {what} {name!r}{did_you_mean(name, known, others)}")


def choose_relaxer(*, may_fetch: bool = True) -> tuple[str, str]:
    """The name of the best potential that is here or can be had, and why it is that one, a clause for people.

    Nequix orders polymorphs better than CHGNet at about its cost; CHGNet comes with its package.

    Args:
        may_fetch: May it be downloaded?
    """
    from surrogates.potentials import catalogue

    try:
        path = (catalogue.download if may_fetch else catalogue.files)(BEST)[-1]
    except MissingError as error:
        return AT_HAND, f"{BEST}, which orders crystals better, cannot be used: {str(error).rstrip('.')}"
    return BEST, f"the best that is known here, from {path.parent}"


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
    """A model that can be adapted to labels.

    Raises:
        InputError: It is a potential, which cannot.
    """
    model = load_model(name_or_path, device)
    if not isinstance(model, Surrogate):
        raise InputError(f"{model.name} cannot be adapted to labels; choose a surrogate of ours.")
    return model


def model_from_checkpoint(
    checkpoint: Path,
    name: str,
    folder: Path,
    metrics: dict[str, float],
    rigidity: Mapping[str, Rigidity] | None = None,
    **about: Any,
) -> EnergyModelCard:
    """Turn a training checkpoint's averaged weights into a model of the library.

    Args:
        rigidity: Kind → that of its head; a head without one gives no σ.
        about: Further fields of the card (data, split, licence, code_version).

    Raises:
        MissingError: There is no checkpoint.
    """
    state = read_checkpoint(checkpoint)
    weights = torch.load(checkpoint / "average.pt", weights_only=True, map_location="cpu")
    for kind, one in (rigidity or {}).items():
        weights[f"{RIGIDITY}{kind}"] = one.factor.float()
    return write_model(
        weights,
        folder,
        name=name,
        seen=state["seen"],
        property="formation energy",
        functional="PBE+U",
        kinds={kind: _correction(kind, state) for kind in state["architecture"]["kinds"]},
        elements=state["elements"],
        architecture={k: v for k, v in state["architecture"].items() if k != "kinds"},
        recipe=state["recipe"],
        parents=state.get("parents", []),
        metrics=metrics,
        **about,
    )


def read_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint of a training says of itself.

    Raises:
        MissingError: There is no checkpoint.
    """
    if not (checkpoint / "about.json").is_file():
        raise MissingError(f"There is no checkpoint at {checkpoint}; name a folder step-… of a training.")
    about: dict[str, Any] = json.loads((checkpoint / "about.json").read_text(encoding="utf-8"))
    return about


def _correction(kind: str, state: Mapping[str, Any]) -> str:
    """Of the energies that a head predicts: virtual crystals have differences by their teacher."""
    if kind == "formation":
        return FORMATION_ENERGY
    return f"MP2018-anchored Δ({state['teacher'] or 'no teacher: untrained'})"


def write_model(
    weights: Mapping[str, Tensor], folder: Path, *, name: str, seen: Iterable[int], **about: Any
) -> EnergyModelCard:
    """Write a model's two files, each whole or not at all.

    Args:
        seen: Hashed compositions that it was trained on.
        about: All other fields of the card but the unit and the hash.
    """
    path = folder / f"{name}.safetensors"
    return cards.write_model(path, EnergyModelCard, weights, seen=seen, unit="eV per cell", **about)


def is_ours(name_or_path: str | Path) -> bool:
    """Is it the name of a model of ours or a path to a weights file of one?"""
    return str(name_or_path).endswith(".safetensors") or _named(str(name_or_path)) is not None


def weights_file(name_or_path: str | Path) -> Path:
    """The weights of a model of ours by name or path.

    Raises:
        MissingError: There is none.
    """
    path = Path(name_or_path) if str(name_or_path).endswith(".safetensors") else _named(str(name_or_path))
    if path is None or not path.exists():
        known = ", ".join(card.name for card in list_models()) or "none"
        raise MissingError(f"There is no model {str(name_or_path)!r} in the library; there are: {known}.")
    return path


def _named(name: str) -> Path | None:
    """The weights of this name; of two, those that come with the package."""
    paths = (folder / f"{name}.safetensors" for folder in folders())
    return next((path for path in paths if path.exists()), None)
