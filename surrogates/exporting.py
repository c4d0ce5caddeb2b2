"""From a checkpoint of a training, or from transfer learning, to a model of the library with its card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from csp.training.cards import code_version
from surrogates.training.batches import KINDS
from surrogates.training.labelled import (
    Labelled,
    read_formation_energies,
    read_shard,
    read_shards,
    read_teacher,
)
from surrogates.transfer.adapt import Adapted
from surrogates.transformer.correction import LastLayerCorrection
from surrogates.transformer.surrogate import Surrogate
from surrogates.transformer.uncertainty import Rigidity
from surrogates.zoo import (
    CORRECTION,
    RIGIDITY,
    EnergyModelCard,
    load_model,
    model_from_checkpoint,
    read_checkpoint,
    write_model,
)

__all__ = ["export_adapted", "export_checkpoint"]

FITTED_ON = 6000  # training crystals of a kind whose features the rigidity is made from
FORMATION, ANCHORED = KINDS


def export_checkpoint(
    checkpoint: Path,
    name: str,
    folder: Path,
    structures: Path,
    energies: Path,
    virtual: Path | None,
    exclude: set[str],
) -> EnergyModelCard:
    """Export a checkpoint with the σ of each head that was trained, and its errors on validation crystals.

    The σ of a head is calibrated on the crystals of the validation split, whose mean and root mean square
    errors (meV/atom), and how many of them lie within σ and 2σ, are the metrics of the card.

    Args:
        virtual: The folder of shards that the head "anchored" was trained on; None if it was not.
        exclude: Compositions that were left out of the training, and are of the calibration too.
    """
    _export(checkpoint, name, folder, virtual)
    about = read_checkpoint(checkpoint)
    rigidity: dict[str, Rigidity] = {}
    metrics: dict[str, float] = {"steps": about["step"]}
    for kind in (FORMATION, ANCHORED):
        if kind not in about["crystals"]:
            continue
        train, val = (
            _labelled(kind, split, structures, energies, virtual, exclude) for split in ("train", "val")
        )
        train, val = (_known(labelled, about["elements"]) for labelled in (train, val))
        model = load_model(folder / f"{name}.safetensors", kind=kind)
        assert isinstance(model, Surrogate)
        some = torch.from_numpy(np.random.default_rng(0).permutation(len(train))[:FITTED_ON])
        errors = (model.evaluate(val.crystals).energy - val.energy) / val.crystals.n_atoms
        features = model.features(val.crystals)
        rigidity[kind] = Rigidity.fit(model.features(train.crystals[some]), features, errors)
        metrics |= _metrics(kind, errors, rigidity[kind].sigma(features))
    return _export(checkpoint, name, folder, virtual, metrics, rigidity)


def export_adapted(
    adapted: Adapted, name: str, folder: Path, *, parent: str, data: list[str]
) -> EnergyModelCard:
    """Write what transfer learning gave as a model with one head.

    Args:
        parent: The checkpoint that it began with.
        data: The labels, for people.
    """
    surrogate = adapted.surrogate
    weights = surrogate.network.state_dict()
    if surrogate.correction:
        weights |= {
            f"{CORRECTION}{one.name}": getattr(surrogate.correction, one.name)
            for one in fields(LastLayerCorrection)
        }
    elif isinstance(surrogate.rigidity, Rigidity):
        weights[f"{RIGIDITY}{surrogate.kind}"] = surrogate.rigidity.factor
    architecture = asdict(surrogate.network.architecture)
    del architecture["kinds"]
    errors = {f"left_out_mae_mev.{one}": 1000 * error for one, error in adapted.errors.items()}
    return write_model(
        weights,
        folder,
        name=name,
        seen=surrogate.seen,
        property="energy",
        functional=surrogate.label.functional,
        kinds={surrogate.kind: surrogate.label.correction},
        elements=sorted(surrogate.elements),
        architecture=architecture,
        recipe={"strategy": adapted.strategy, "labels": adapted.n, "chosen": not adapted.asked},
        data=data,
        split=f"left out in {adapted.groups} groups of near-duplicates",
        parents=[parent],
        licence="that of its parent and of its labels",
        code_version=code_version(),
        metrics={key: round(error, 3) for key, error in errors.items() if np.isfinite(error)},
    )


def _export(
    checkpoint: Path,
    name: str,
    folder: Path,
    virtual: Path | None,
    metrics: dict[str, float] | None = None,
    rigidity: dict[str, Rigidity] | None = None,
) -> EnergyModelCard:
    about = read_checkpoint(checkpoint)
    return model_from_checkpoint(
        checkpoint,
        name,
        folder,
        metrics or {},
        rigidity,
        data=_data(about["crystals"][FORMATION], virtual),
        split="MEGNet split of the Materials Project's formation energies; benchmark compositions left out",
        licence="Apache-2.0; trained on data of the Materials Project (CC BY 4.0)",
        code_version=code_version(),
    )


def _metrics(kind: str, errors: Tensor, sigma: Tensor) -> dict[str, float]:
    found = {
        f"val_mae_mev.{kind}": 1000 * float(errors.abs().mean()),
        f"val_rmse_mev.{kind}": 1000 * float(errors.square().mean().sqrt()),
        f"val_within_1_sigma.{kind}": float((errors.abs() < sigma).double().mean()),
        f"val_within_2_sigma.{kind}": float((errors.abs() < 2 * sigma).double().mean()),
    }
    return {name: round(value, 3) for name, value in found.items()}


def _labelled(
    kind: str, split: str, structures: Path, energies: Path, virtual: Path | None, exclude: set[str]
) -> Labelled:
    if kind == FORMATION:
        return read_formation_energies(structures, energies, split, exclude)
    assert virtual is not None
    return read_shards(virtual, split)


def _known(labelled: Labelled, elements: Sequence[int]) -> Labelled:
    """Those whose elements were all met in training."""
    unknown = torch.zeros(len(labelled), dtype=torch.bool)
    crystals = labelled.crystals
    unknown[crystals.batch[~torch.isin(crystals.numbers, torch.tensor(elements))]] = True
    return labelled[~unknown]


def _data(n: int, virtual: Path | None) -> list[str]:
    data = [f"DFT formation energies of {n:,} crystals of the Materials Project"]
    if virtual is not None:
        shards = [read_shard(path).ids for path in sorted(virtual.glob("train-*.npz"))]
        made = {how.split("(")[0].split(":")[0] for ids in shards for how in ids if ":" in how.split("(")[0]}
        walkers = sorted(name for name in made if not name.startswith("walk"))
        where = f", many of them where {' and '.join(walkers)} relaxes to" if walkers else ""
        data.append(
            f"{len(shards)} shards of virtual crystals{where}, labelled by {read_teacher(virtual)}, "
            "anchored to those (csp train labels)"
        )
    return data
