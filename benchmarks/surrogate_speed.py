"""Crystals per second of several models, which take turns so that all meet the same load of the machine."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from csp.crystals import Crystals
from csp.library import Library
from csp.protocols import EnergyModel

__all__ = ["N_ATOMS", "crystals_per_second"]

N_ATOMS = 16
CRYSTALS = {"cpu": 256, "cuda": 16_384}
FEW = 32  # for what is slow: as many are timed if so many took longer than LONG
LONG = 0.5  # seconds
ROUNDS = 3


def crystals_per_second(models: Sequence[EnergyModel], library: Library, seed: int) -> list[float]:
    """Energies of library crystals of 16 atoms, neighbour lists included, the best of three rounds."""
    known = frozenset.intersection(*(model.elements for model in models))
    rows = library.all_rows()
    rows = rows[library.n_atoms[rows] == N_ATOMS]
    generator = np.random.default_rng(seed)
    drawn = library.crystals(generator.choice(rows, max(CRYSTALS.values())))
    usable = np.isin(drawn.numbers.numpy(), list(known)).reshape(-1, N_ATOMS).all(1)
    crystals = drawn[np.flatnonzero(usable)]
    batches = []
    for model in models:
        few = crystals[:FEW].to(model.device)
        slow = _seconds(model, few) > LONG  # warms up, too
        batches.append(few if slow else crystals[: CRYSTALS[model.device.type]].to(model.device))
    best = [float("inf")] * len(models)
    for _ in range(ROUNDS):
        for k, (model, batch) in enumerate(zip(models, batches, strict=True)):
            best[k] = min(best[k], _seconds(model, batch) / len(batch))
    return [1.0 / seconds for seconds in best]


def _seconds(model: EnergyModel, crystals: Crystals) -> float:
    started = time.perf_counter()
    model.evaluate(crystals).energy.cpu()  # waits for the device
    return time.perf_counter() - started
