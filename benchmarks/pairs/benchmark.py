"""Pairs of compositions told apart: our metric against CSPML's recipe, trained in the same run.

Tested are pairs of the two folds that no training uses, the one of the benchmarks and the one that settings
are chosen by (`csp.training.splits`). One more fold is not trained on here: it sets the threshold of the
metric and the end of the reference's training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.baselines.cspml import train_cspml
from benchmarks.baselines.descriptors import descriptors
from benchmarks.pairs.metric_scores import SCORES, Nearness, calibrated
from benchmarks.pairs.pairs import Pairs, answers, by_prototype, folds, fours, judged, read, write
from csp.files import write_json
from csp.library.library import Library
from csp.training.splits import HELD_OUT, VALIDATION
from generators.templates.prototypes import PrototypeIndex

__all__ = ["area_under_curve", "measure", "summary"]

COMMITTED = Path(__file__).parents[1] / "pairs.txt"
TESTED = (HELD_OUT, VALIDATION)
CALIBRATION = 2  # a fold
MAX_ATOMS = 40  # in the cell of an answer that is tested; StructureMatcher takes too long for larger ones
TRAINING_PAIRS, CALIBRATION_PAIRS = 50_000, 4_000


def measure(
    library: Library,
    energies: Mapping[str, float],
    out: Path,
    *,
    weights: Path,
    draw: int | None,
    limit: int | None,
    seed: int,
    device: torch.device,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Classify the committed pairs, or their first `limit`; writes `summary.json`.

    Args:
        energies: By id, eV/atom: which polymorph is the answer.
        weights: Of the metric.
        draw: So many pairs are drawn from the seed and judged instead, and written to out/pairs.txt.
    """
    index, fold = PrototypeIndex(library), folds(library)
    known = answers(library, index, energies)
    if draw is not None:
        tested = np.isin(fold, TESTED) & (library.n_atoms <= MAX_ATOMS)
        pairs, lost = judged(library, fours([some.among(tested) for some in known], seed), draw, say)
        say(f"{len(pairs):,} pairs; {lost} fours left out, of which the matcher says otherwise")
        write(out / "pairs.txt", library, pairs)
    test = read(COMMITTED if draw is None else out / "pairs.txt", library, limit)
    seen = ~np.isin(fold, (*TESTED, CALIBRATION))
    training = by_prototype(fours([some.among(seen) for some in known], seed + 1), TRAINING_PAIRS)
    calibration = by_prototype(
        fours([some.among(fold == CALIBRATION) for some in known], seed + 2), CALIBRATION_PAIRS
    )
    say(f"{len(training):,} pairs to train on, {len(calibration):,} to calibrate with, {len(test):,} to tell")

    reference = train_cspml(
        _described(library, training),
        training.similar,
        _described(library, calibration),
        calibration.similar,
        seed=seed,
        device=device,
        say=say,
    )
    view = library.hiding(np.union1d(library.hidden, np.flatnonzero(~seen)))
    nearness = Nearness(view, PrototypeIndex(view), weights, device)
    fitted, asked = nearness.scores(calibration.rows), nearness.scores(test.rows)
    log_odds = {"cspml": reference(_described(library, test))}
    for arm, score in {"metric": "odds", "kernel": "kernel"}.items():
        column = [SCORES.index(score)]
        log_odds[arm] = calibrated(fitted[:, column], calibration.similar)(asked[:, column])
    found = {"seed": seed, "library": library.fingerprint, **summary(test, log_odds)}
    write_json(out / "summary.json", found)
    return found


def summary(pairs: Pairs, log_odds: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Flat: accuracy and area under the curve of each arm, and how many pairs of how many compositions."""
    found: dict[str, Any] = {"n": len(pairs), "n_compositions": len(np.unique(pairs.rows))}
    for arm, values in log_odds.items():
        found[f"accuracy.{arm}"] = round(float(((values > 0) == pairs.similar).mean()), 4)
        found[f"auc.{arm}"] = round(area_under_curve(values, pairs.similar), 4)
    return found


def area_under_curve(values: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Of the receiver operating characteristic: how often a positive has the higher value, ties half."""
    from scipy.stats import rankdata

    n, ranks = int(positive.sum()), rankdata(values)
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(values) - n)))


def _described(library: Library, pairs: Pairs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    numbers, counts = library.compositions(pairs.rows.ravel())
    described = descriptors(numbers, counts)
    return described[::2], described[1::2]
