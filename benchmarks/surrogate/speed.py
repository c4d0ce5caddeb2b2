"""Crystals per second of several models, which take turns so that all meet the same load of the machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from csp.crystals import Crystals
from csp.library.library import Library
from csp.protocols import EnergyModel

__all__ = ["N_ATOMS", "Rate", "rates"]

N_ATOMS = 16
CRYSTALS = {"cpu": 256, "cuda": 16_384}
FEW = 32  # for what is slow: as many are timed if so many took longer than LONG
LONG = 0.5  # seconds
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Rate:
    """Crystals by the clock, and by the second that a core worked (None where the work is not on cores):
    what another load on the machine changes little."""

    per_second: float
    per_cpu_second: float | None


def rates(models: Sequence[EnergyModel], library: Library, seed: int) -> list[Rate]:
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
        slow = _seconds(model, few)[0] > LONG  # warms up, too
        batches.append(few if slow else crystals[: CRYSTALS[model.device.type]].to(model.device))
    best = np.full((len(models), 2), np.inf)
    for _ in range(ROUNDS):
        for k, (model, batch) in enumerate(zip(models, batches, strict=True)):
            best[k] = np.minimum(best[k], np.array(_seconds(model, batch)) / len(batch))
    return [
        Rate(float(1.0 / wall), float(1.0 / cpu) if model.device.type == "cpu" else None)
        for model, (wall, cpu) in zip(models, best, strict=True)
    ]


def _seconds(model: EnergyModel, crystals: Crystals) -> tuple[float, float]:
    """By the clock, and of all cores together."""
    started, worked = time.perf_counter(), time.process_time()
    model.evaluate(crystals).energy.cpu()  # waits for the device
    return time.perf_counter() - started, time.process_time() - worked
