"""A tiny network that was never trained, as a training leaves it: a checkpoint to load, list and measure."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch

from surrogates.training.batches import KINDS
from surrogates.training.labelled import hashed
from surrogates.transformer.network import CrystalTransformer, SurrogateArchitecture

__all__ = ["checkpoint"]


def checkpoint(folder: Path, *, virtual: bool = True, seen: tuple[str, ...] = ()) -> Path:
    """folder/step-00000007, of a random network for the elements up to Ac.

    Without virtual crystals the second head has no reference energies. `seen`: compositions.
    """
    torch.manual_seed(0)
    network = CrystalTransformer(
        SurrogateArchitecture(
            kinds=KINDS, width=16, layers=1, heads=2, edge=8, hidden=16, radial=6, angular=2, cutoff=4.0
        )
    )
    torch.nn.init.normal_(network.energy.weight, std=0.1)
    network.reference[: 1 + virtual, 1:] = -1.0
    place = folder / "step-00000007"
    place.mkdir(parents=True)
    torch.save(network.state_dict(), place / "average.pt")
    about = {
        "teacher": "chgnet" if virtual else "",
        "architecture": asdict(network.architecture),
        "seen": [hashed(name) for name in seen],
        "parents": [],
        "elements": list(range(1, 90)),
        "recipe": {},
        "crystals": {"formation": 3},
        "step": 7,
    }
    (place / "about.json").write_text(json.dumps(about))
    return place
