"""A property model with weights drawn at random, and crystals for it."""

from __future__ import annotations

from typing import Any

import torch

from csp.crystals import Crystals
from csp.protocols import Label
from surrogates.properties.features import n_features, pooled
from surrogates.properties.library import PropertyCard
from surrogates.properties.model import LastLayer, PropertyModel
from surrogates.properties.network import CompositionEncoder, CrystalEncoder
from surrogates.transformer.network import CrystalTransformer, SurrogateArchitecture
from surrogates.transformer.surrogate import Surrogate

ELEMENTS = frozenset({1, 8, 11, 12, 17, 22, 38})


def surrogate() -> Surrogate:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"layers": 1, "heads": 2, "edge": 8, "hidden": 16, "radial": 6, "angular": 2}
    network = CrystalTransformer(SurrogateArchitecture(kinds=("formation",), width=12, cutoff=4.0, **sizes))
    torch.nn.init.normal_(network.energy.weight, std=0.3)
    return Surrogate(
        network, kind="formation", name="tiny", label=Label("PBE", "none", "tiny-0"), elements=ELEMENTS
    )


def crystals() -> Crystals:
    """Rock salt NaCl and a perovskite."""
    cubic = torch.eye(3, dtype=torch.float64)
    salt = Crystals(
        (2.82 * (1.0 - cubic))[None],
        torch.tensor([[0.0, 0, 0], [0.5, 0.5, 0.5]], dtype=torch.float64),
        torch.tensor([11, 17]),
        torch.tensor([0, 2]),
    )
    perovskite = Crystals(
        (3.9 * cubic)[None],
        torch.tensor(
            [[0.0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], dtype=torch.float64
        ),
        torch.tensor([38, 22, 8, 8, 8]),
        torch.tensor([0, 5]),
    )
    return Crystals.cat([salt, perovskite])


def card(**about: Any) -> PropertyCard:
    plain: dict[str, Any] = {
        "name": "tiny", "property": "hardness", "architecture": {}, "recipe": {},
        "elements": sorted(ELEMENTS), "data": [], "split": "none", "licence": "Apache-2.0",
        "code_version": "0", "sha256": "0" * 64, "unit": "GPa", "title": "hardness", "scale": "identity",
        "lowest": None, "n": 3, "span": [0.0, 1.0], "surrogate": "tiny", "surrogate_sha256": "0",
        "parents": [],
    }  # fmt: skip
    return PropertyCard(**{**plain, **about})


def model(*, seed: int = 0, composition: bool = False, **about: Any) -> PropertyModel:
    torch.manual_seed(seed)
    encoder: Any
    reads = None if composition else surrogate()
    if reads is None:
        encoder = CompositionEncoder(width=8, layers=1, heads=2)
    else:
        known = pooled(reads, crystals())
        centre, spread = torch.zeros(n_features(reads)), known.std(0) + 1.0
        encoder = CrystalEncoder(centre, spread, members=2, width=6)
    encoder.eval().requires_grad_(False)
    width = encoder.members * encoder.width
    weight = torch.randn(width + 1, dtype=torch.float64)
    factor = 0.1 * torch.eye(width + 1, dtype=torch.float64)
    last = LastLayer(weight, factor, 0.2, 1.0, 2.0, 0.05)
    if composition:
        about = {"surrogate": None, "surrogate_sha256": None, **about}
    return PropertyModel(card(architecture=encoder.architecture, **about), encoder, last, reads)
