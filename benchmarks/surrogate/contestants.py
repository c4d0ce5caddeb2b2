"""The models that are compared: ours, published potentials, and ranking by volume alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.leakage import seen_by
from csp.crystals import Crystals
from csp.errors import InputError, MissingError
from csp.protocols import EnergyModel
from surrogates.training.batches import KINDS
from surrogates.zoo import is_ours, list_models, load_model, model_from_checkpoint, weights_file

__all__ = ["RELAXED_ONLY", "VOLUME_ONLY", "Contestant", "contestants", "exported"]

RELAXED_ONLY, VOLUME_ONLY = "relaxed_only", "volume_only"
FORMATION, ANCHORED = KINDS


@dataclass(frozen=True, slots=True)
class Contestant:
    """A model under test.

    Attributes:
        name: What the keys of the summary end in.
        model: Orders virtual crystals and relaxes them; None: they are ordered by volume.
        formation: Gives DFT formation energies; None where the model has no such label.
        seen: Hashed compositions of its training data; None where that is not known.
    """

    name: str
    model: EnergyModel | None = None
    formation: EnergyModel | None = None
    seen: frozenset[int] | None = None

    def scores(self, crystals: Crystals) -> Tensor:
        """float64 [B], lower is better: energy, eV/atom, or volume, Å³/atom."""
        if self.model is None:
            return crystals.volumes / crystals.n_atoms
        return self.model.evaluate(crystals.to(self.model.device)).energy.cpu() / crystals.n_atoms

    def supports(self, crystals: Crystals) -> Tensor:
        """bool [B]: does the model know all elements?"""
        unknown = torch.zeros(len(crystals), dtype=torch.bool)
        if self.model is not None:
            known = torch.tensor(sorted(self.model.elements))
            unknown[crystals.batch[~torch.isin(crystals.numbers, known)]] = True
        return ~unknown


def contestants(
    names: Sequence[str] | None, baseline: Path | None, device: torch.device, folder: Path
) -> list[Contestant]:
    """The models of these names, weights files, or checkpoints of a training (None: all that ship),
    then the one trained on relaxed crystals only, if given, and volume alone.

    Checkpoints are exported into `folder` first, so that what is measured is what would be shipped.

    Raises:
        MissingError: There is nothing to measure.
        InputError: Two models have one name, one among `names` was trained without virtual crystals, or the
            baseline with them.
    """
    named = [card.name for card in list_models()] if names is None else list(names)
    if not named and baseline is None:
        raise MissingError("No model of ours comes with this version; name some `models`.")
    found = [_contestant(name, device, folder, virtual=True) for name in named]
    if baseline is not None:
        found.append(_contestant(str(baseline), device, folder, virtual=False))
    found.append(Contestant(VOLUME_ONLY))
    keys = [one.name for one in found]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(f"Two models are called {key}; rename the file of one.")
    return found


def _contestant(name: str, device: torch.device, folder: Path, *, virtual: bool) -> Contestant:
    if (Path(name) / "about.json").is_file():
        name = str(exported(Path(name), folder))
    if not is_ours(name):
        if not virtual:
            raise InputError(f"`baseline_relaxed` {name} is neither a weights file nor a checkpoint of ours.")
        return Contestant(Path(name).name, load_model(name, device))
    path = weights_file(name)
    if _trained_on_virtual(path) != virtual:
        advice = "name it among `models`" if not virtual else "name it as `baseline_relaxed`"
        how = "with" if not virtual else "without"
        raise InputError(f"{name} was trained {how} virtual crystals; {advice}.")
    formation = load_model(path, device, kind=FORMATION)
    model = load_model(path, device, kind=ANCHORED) if virtual else formation
    key = formation.name if virtual else RELAXED_ONLY
    return Contestant(key, model, formation, seen_by(str(path)))


def _trained_on_virtual(path: Path) -> bool:
    """A head without labels has no reference energies."""
    from safetensors.torch import load_file

    return bool(load_file(path)["reference"][KINDS.index(ANCHORED)].any())


def exported(checkpoint: Path, folder: Path) -> Path:
    """The weights file of a checkpoint, named after its training."""
    about = json.loads((checkpoint / "about.json").read_text(encoding="utf-8"))
    name = checkpoint.absolute().parent.name
    model_from_checkpoint(
        checkpoint,
        name,
        folder,
        {},
        data=[f"{n} crystals, {kind}" for kind, n in about["crystals"].items()],
        split=f"checkpoint at step {about['step']}",
        licence="",
        code_version=metadata.version("csp-engine"),
    )
    return folder / f"{name}.safetensors"
