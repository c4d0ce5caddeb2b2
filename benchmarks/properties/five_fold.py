"""Five-fold errors as matbench has them (Dunn, Wang, Ganose, Dopp, Jain, npj Comput. Mater. 6, 138, 2020).

The folds are drawn by matbench's rule (KFold, shuffled, its seed) from the crystals that are here. Of each
training part a tenth, by composition, is kept to find σ.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.properties.parts import Forest, composition_descriptors, kept
from csp.training.splits import hashed
from surrogates.properties.catalogue import PROPERTIES, backward
from surrogates.properties.fitting import PropertyRecipe, fit
from surrogates.properties.model import LastLayer, last_layer_input
from surrogates.properties.tables import Values
from surrogates.properties.training import calibrated, encoder_for

__all__ = ["FOLDS", "MATBENCH", "five_fold"]

FOLDS, SEED = 5, 18012019  # matbench's
MATBENCH = ("bulk_modulus", "shear_modulus", "highest_phonon", "band_gap")
KEPT = 10  # one in so many compositions of the training part is kept for σ
FAR = 0.9  # crystals of larger leverage than this share of the test have are called outside


def five_fold(
    values: Values, out: Path, *, folds: int, forests: int, log: Callable[[str], None]
) -> dict[str, Any]:
    """Errors and coverage of each property; figures by name.

    Args:
        folds: How many of the five are done.
        forests: In how many of them a random forest is grown beside.
    """
    from sklearn.model_selection import KFold

    figures: dict[str, Any] = {}
    for name in MATBENCH:
        rows = values.rows(name)
        parts = list(KFold(FOLDS, shuffle=True, random_state=SEED).split(rows))
        done = []
        for k in range(min(folds, FOLDS)):
            learned, test = (rows[torch.from_numpy(part)] for part in parts[k])
            path = out / "parts" / f"{name}-{k}.json"
            done.append(kept(path, _one, values, name, learned, test))
            log(f"{name}, fold {k + 1}: {done[-1]['mae']:.4g}")
        for key in done[0]:
            figures[f"{name}.{key}"] = float(f"{np.mean([one[key] for one in done]):.4g}")
        figures[f"{name}.folds"], figures[f"{name}.crystals"] = len(done), len(rows)
        grown = []
        for k in range(min(forests, FOLDS)):
            learned, test = (rows[torch.from_numpy(part)] for part in parts[k])
            path = out / "parts" / f"{name}-forest-{k}.json"
            grown.append(kept(path, _forest, values, name, learned, test))
            log(f"{name}, forest, fold {k + 1}: {grown[-1]['mae']:.4g}")
        if grown:
            figures[f"{name}.forest_mae"] = float(f"{np.mean([one['mae'] for one in grown]):.4g}")
            figures[f"{name}.forest_folds"] = len(grown)
    return figures


def _one(values: Values, name: str, learned: Tensor, test: Tensor) -> dict[str, Any]:
    y = values.y[name]
    keep = torch.tensor([hashed(f"σ {values.names[k]}") % KEPT == 0 for k in learned.tolist()])
    own, held = learned[~keep], learned[keep]
    fitted = fit(encoder_for(values, composition=False), values.features[own], y[own], PropertyRecipe())
    last = calibrated(fitted, values.features[own], values.features[held], y[held])
    h = last_layer_input(fitted.encoder, values.features[test])
    return {"mae": _mae(last.mean(h), y[test], name), **_coverage(last, h, y[test])}


def _forest(values: Values, name: str, learned: Tensor, test: Tensor) -> dict[str, Any]:
    x = composition_descriptors(values.names)
    y = values.y[name]
    trees = 100 if len(learned) > 5000 else 200
    predicted = Forest(0, trees)(x[learned.numpy()], y[learned].numpy(), x[test.numpy()])
    return {"mae": _mae(torch.from_numpy(predicted), y[test], name), "trees": trees}


def _mae(predicted: Tensor, y: Tensor, name: str) -> float:
    """In matbench's unit: of the moduli the logarithms, of others the values."""
    one = PROPERTIES[name]
    if one.non_negative:
        predicted = predicted.clamp(min=0.0)
    if one.logged:
        return float((predicted - y).abs().mean())
    zero = torch.zeros_like(y)
    return float((backward(predicted, zero, one.scale)[0] - backward(y, zero, one.scale)[0]).abs().mean())


def _coverage(last: LastLayer, h: Tensor, y: Tensor) -> dict[str, float]:
    """Shares within the intervals, of all and of the tenth that lies farthest outside the data."""
    free = last.open(h)
    sigma, away = (free + last.noise**2).sqrt(), (last.mean(h) - y).abs()
    far = free > torch.quantile(free, FAR)
    found = {}
    for level, factor in (("68", last.q68), ("95", last.q95)):
        within = (away <= factor * sigma).double()
        found[f"within_{level}"] = float(within.mean())
        found[f"within_{level}_outside"] = float(within[far].mean())
    return found
