"""Pieces of the benchmark that are kept as they are done, so that it can be gone on with."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.descriptors import descriptors
from csp.files import write_json

__all__ = ["Forest", "composition_descriptors", "kept"]

TREES = 200


def kept(path: Path, make: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What a file holds, or else what `make` gives, which it holds from then on with the CPU seconds."""
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    started = time.process_time()
    made = make(*arguments)
    made = {**made, "cpu_seconds": round(time.process_time() - started, 2)}
    write_json(path, made)
    return made


def composition_descriptors(names: list[str]) -> NDArray[np.float64]:
    """[N, D] of compositions "8:3 22:1 38:1", as `benchmarks.baselines.descriptors` has them, but intensive:
    of amounts that sum to 1."""
    pairs = [[tuple(map(int, one.split(":"))) for one in name.split()] for name in names]
    width = max(map(len, pairs))
    numbers = np.zeros((len(pairs), width), np.int64)
    counts = np.zeros((len(pairs), width))
    for row, elements in enumerate(pairs):
        for column, (z, n) in enumerate(elements):
            numbers[row, column], counts[row, column] = z, n
    return descriptors(numbers, counts / counts.sum(1, keepdims=True))


class Forest:
    """A random forest on descriptors (scikit-learn), a third of them tried at each split."""

    def __init__(self, seed: int, trees: int = TREES) -> None:
        from sklearn.ensemble import RandomForestRegressor

        self.model = RandomForestRegressor(
            n_estimators=trees, max_features=1 / 3, random_state=seed, n_jobs=1
        )

    def __call__(
        self, x: NDArray[np.float64], y: NDArray[np.float64], others: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Values of `others` [M, D] by a forest grown on x [N, D] and y [N]."""
        found: NDArray[np.float64] = self.model.fit(x, y).predict(others)
        return found
