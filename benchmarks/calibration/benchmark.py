"""Does the order by probability find more than the order by energy, and is the probability right?

From the searches of a finished recovery benchmark over compositions that no generator's training has seen
(`csp benchmark heldout` writes such a folder). They are halved so that no prototype of an answer is in
both halves; each half is judged with weights fitted on the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.calibration.ranked_features import (
    By,
    RankedFeatures,
    first,
    read_features,
    read_runs,
    write_features,
)
from csp.errors import InputError
from csp.files import write_json, write_text
from csp.library.library import Library
from csp.ranking.probability import FEATURES, AnswerProbability, best_first
from csp.training.splits import hashed

__all__ = ["halves", "judge", "measure"]

KS = (1, 3, 5, 10)
BINS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


def measure(
    runs: Sequence[Path],
    targets: Path | None,
    library: Path | None,
    out: Path,
    say: Callable[[str], None],
    earlier: Path | None = None,
) -> dict[str, Any]:
    """Judge the orders by the energies of each model, and fit them to all searches; writes `summary.json`,
    `answer_probability.json`, `ranked_features.jsonl` and `reliability.md`.

    Args:
        runs: Out folders of recovery benchmarks; none: only the earlier ones are judged, again.
        targets: Folder of the CIFs that they were over.
        library: That they had.
        out: Folder of the results.
        say: Gets a line on each run.
        earlier: A `ranked_features.jsonl` of such runs that are no longer there; a formula that is in both is
            taken from the runs.

    Returns:
        The summary.

    Raises:
        InputError: The earlier ones were ranked by other models.
    """
    found = read_runs(runs, targets, library, say) if targets else {}
    if earlier is not None:
        before = read_features(earlier)
        found = _joined(found, before) if found else before
    write_features(out / "ranked_features.jsonl", found)
    summary: dict[str, Any] = {}
    entries = len(Library.open(library))
    fitted, tables = list[dict[str, Any]](), list[str]()
    for (model, label), searches in found.items():
        judged, points = judge(searches)
        summary |= {f"{name}.{model}": value for name, value in judged.items()}
        order = AnswerProbability.fit([(s.features, s.answers) for s in searches])
        weights = dict(zip(FEATURES, (round(w, 4) for w in order.weights), strict=True))
        fitted.append(
            {
                "label": label,
                "entries": entries,
                "searches": len(searches),
                "weights": weights,
                "none": round(order.none, 4),
            }
        )
        tables += [f"## By the energies of {model}", "", _reliability(points)]
    write_json(out / "answer_probability.json", fitted)
    write_text(out / "reliability.md", "\n".join(tables))
    write_json(out / "summary.json", summary)
    return summary


def _joined(
    found: Mapping[By, list[RankedFeatures]], earlier: Mapping[By, list[RankedFeatures]]
) -> dict[By, list[RankedFeatures]]:
    if set(found) != set(earlier):
        names = ", ".join(label for _, label in earlier)
        raise InputError(f"The earlier searches were ranked by other models: {names}.")
    joined = dict[By, list[RankedFeatures]]()
    for model, before in earlier.items():
        now = found.get(model, [])
        again = {one.formula for one in now}
        joined[model] = [one for one in before if one.formula not in again] + now
    return joined


def halves(searches: Sequence[RankedFeatures]) -> tuple[list[RankedFeatures], list[RankedFeatures]]:
    """No prototype is in both."""
    odd = [s for s in searches if hashed(s.prototype) % 2]
    return odd, [s for s in searches if not hashed(s.prototype) % 2]


def judge(searches: Sequence[RankedFeatures]) -> tuple[dict[str, Any], list[tuple[float, bool]]]:
    """Flat figures, and (probability, was it the answer?) of every ranked crystal, each half judged by
    the other's fit.

    found_at_K.{probability,energy}, of n; lowest_at_3: searches of which the lowest crystal by energy is
    among the first three by probability; log_loss.probability, and log_loss.frequency of one who only
    knows how often an answer has each rank by energy.
    """
    parts = halves(searches)
    if not all(parts):
        raise InputError(f"{len(searches)} searches are too few to be halved.")
    ranks: dict[str, list[int | None]] = {"energy": [], "probability": []}
    loss: dict[str, float] = {"probability": 0.0, "frequency": 0.0}
    points: list[tuple[float, bool]] = []
    lowest_at_3 = 0
    for fitted_on, judged in (parts, parts[::-1]):
        order = AnswerProbability.fit([(s.features, s.answers) for s in fitted_on])
        frequency = _frequency(fitted_on)
        for s in judged:
            probability = order.probabilities(s.features)
            ranks["energy"].append(first(s.answers))
            by_probability = best_first(probability)
            ranks["probability"].append(first(s.answers[by_probability]))
            lowest_at_3 += int(0 in by_probability[:3])
            loss["probability"] -= order.log_likelihood(s.features, s.answers) / len(searches)
            loss["frequency"] -= float(np.log(frequency(first(s.answers)))) / len(searches)
            points += zip(probability.tolist(), s.answers.tolist(), strict=True)
    summary: dict[str, Any] = {"n": len(searches), "n_ranked": sum(r is not None for r in ranks["energy"])}
    summary["lowest_at_3"] = lowest_at_3
    for by, found in ranks.items():
        summary |= {f"found_at_{k}.{by}": sum((r or KS[-1] + 1) <= k for r in found) for k in KS}
    return summary | {f"log_loss.{name}": round(value, 4) for name, value in loss.items()}, points


def _frequency(searches: Sequence[RankedFeatures]) -> Callable[[int | None], float]:
    """How often the answer has a rank by energy, with one more of each than was seen."""
    longest = max(len(s.answers) for s in searches) + 2
    counts = np.ones(longest)
    for s in searches:
        counts[first(s.answers) or 0] += 1
    return lambda rank: float(counts[min(rank or 0, longest - 1)] / counts.sum())


def _bins(points: Sequence[tuple[float, bool]]) -> Iterator[tuple[float, float, int]]:
    """(mean probability, share of answers, how many) of each bin that is not empty."""
    probability, answer = np.array([p for p, _ in points]), np.array([a for _, a in points])
    for low, high in pairwise(BINS):
        inside = (probability > low) & (probability <= high)
        if inside.any():
            yield float(probability[inside].mean()), float(answer[inside].mean()), int(inside.sum())


def _reliability(points: Sequence[tuple[float, bool]]) -> str:
    lines = ["| told, % | were the answer, % | crystals |", "|---:|---:|---:|"]
    lines += [f"| {100 * p:.1f} | {100 * share:.1f} | {n} |" for p, share, n in _bins(points)]
    return "\n".join(lines) + "\n"
