"""Does the order by probability find more than the order by energy, and is the probability right?

From the searches of a finished recovery benchmark over compositions that no generator's training has seen
(`csp benchmark heldout` writes such a folder). They are halved so that no prototype of an answer is in
both halves; each half is judged with weights fitted on the other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.files import write_json, write_text
from benchmarks.recovery import SETTINGS_FILE, Recovery, RecoverySettings
from benchmarks.truths import Truth
from csp.answer import Answer
from csp.crystals import Crystals
from csp.engine import build
from csp.errors import InputError, MissingError
from csp.heldout import hashed
from csp.last_order import FEATURES, LastOrder, best_first
from csp.library import Library
from csp.matcher import Matcher
from csp.protocols import EnergyModel
from csp.symmetry import space_groups
from csp.target import Target

__all__ = ["Searched", "halves", "judge", "measure", "read"]

KS = (1, 3, 5, 10)
BINS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
SYMPREC = 0.05


@dataclass(frozen=True, slots=True)
class Searched:
    """One search: what speaks for each ranked crystal, lowest first [R, F], and which are the answer [R].

    prototype  the answer's, as far as halves are told by it: amounts, space group and atoms in its cell
    """

    formula: str
    prototype: str
    features: Tensor
    answers: Tensor


def measure(
    run: Path, targets: Path, library: Path | None, out: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Judge the orders by the energies of each model, and fit them to all searches; writes `summary.json`,
    `last_order.json`, `searches.json` and `reliability.md`.

    run: out folder of a recovery benchmark over the CIFs of `targets`.
    """
    summary: dict[str, Any] = {}
    entries = len(Library.open(library))
    fitted, ranks, tables = dict[str, Any](), dict[str, Any](), list[str]()
    for model, searches in read(run, targets, library, say).items():
        found, points = judge(searches)
        summary |= {f"{name}.{model.name}": value for name, value in found.items()}
        order = LastOrder.fit([(s.features, s.answers) for s in searches])
        weights = dict(zip(FEATURES, (round(w, 4) for w in order.weights), strict=True))
        fitted[str(model.label)] = {
            "weights": weights,
            "none": round(order.none, 4),
            "searches": len(searches),
            "entries": entries,
        }
        ranks[model.name] = {s.formula: _first(s.answers) for s in searches}
        tables += [f"## By the energies of {model.name}", "", _reliability(points)]
    write_json(out / "last_order.json", fitted)
    write_json(out / "searches.json", ranks)
    write_text(out / "reliability.md", "\n".join(tables))
    write_json(out / "summary.json", summary)
    return summary


def read(
    run: Path, targets: Path, library: Path | None, say: Callable[[str], None]
) -> dict[EnergyModel, list[Searched]]:
    """The finished searches of a recovery benchmark, as the model that finished ranks them, and as the
    surrogate before it, if there was one, ranked what it had relaxed."""
    path = run / SETTINGS_FILE
    if not path.is_file():
        raise MissingError(f"{run} holds no recovery benchmark.")
    asked = json.loads(path.read_text(encoding="utf-8"))
    settings = RecoverySettings.read(
        targets=targets,
        library=library,
        budget=asked["budget"]["name"],
        **{name: asked[name] for name in ("generators", "surrogate", "relaxer", "seed")},
    )
    benchmark = Recovery.begin(settings, run, resume=True)
    done = [outcome.name for outcome in benchmark.outcomes() if outcome.score is not None]
    if not done:
        raise InputError(f"No search in {run} is finished.")
    found: dict[EnergyModel, list[Searched]] = {model: [] for model in reversed(benchmark.models)}
    for k, truth in enumerate((t for t in benchmark.truths.truths if t.name in done), start=1):
        asked_for = settings.search(truth.formula, settings.generators)
        search, _ = build(asked_for, run / "runs" / truth.name, resume=True)
        unrattled = asked_for.model_copy(update={"rattled": 0})  # only the last model rattled
        for n, searches in enumerate(found.values()):
            one = replace(search, models=search.models[:1], settings=unrattled) if n else search
            searches.append(_searched(truth, *Answer(one).evidence()))
        places = ", ".join(f"{model.name} {_first(s[-1].answers) or '-'}" for model, s in found.items())
        say(f"{k:4d}/{len(done)}  {truth.formula:20} by energy of {places}")
    return found


def _searched(truth: Truth, crystals: Crystals, features: Tensor) -> Searched:
    amounts = "-".join(map(str, Target.parse(truth.formula).anonymous))
    prototype = f"{amounts} {space_groups(truth.crystal, SYMPREC)[0]} {int(truth.crystal.n_atoms[0])}"
    return Searched(truth.formula, prototype, features, Matcher.DEFAULT.fits(truth.crystal, crystals))


def halves(searches: Sequence[Searched]) -> tuple[list[Searched], list[Searched]]:
    """No prototype is in both."""
    first = [s for s in searches if hashed(s.prototype) % 2]
    return first, [s for s in searches if not hashed(s.prototype) % 2]


def judge(searches: Sequence[Searched]) -> tuple[dict[str, Any], list[tuple[float, bool]]]:
    """Flat figures, and (probability, was it the answer?) of every ranked crystal, each half judged by
    the other's fit.

    found_at_K.{probability,energy}, of n; log_loss.probability, and log_loss.frequency of one who only
    knows how often an answer has each rank by energy.
    """
    first, second = halves(searches)
    if not first or not second:
        raise InputError(f"{len(searches)} searches are too few to be halved.")
    ranks: dict[str, list[int | None]] = {"energy": [], "probability": []}
    loss: dict[str, float] = {"probability": 0.0, "frequency": 0.0}
    points: list[tuple[float, bool]] = []
    for fitted_on, judged in ((first, second), (second, first)):
        order = LastOrder.fit([(s.features, s.answers) for s in fitted_on])
        frequency = _frequency(fitted_on)
        for s in judged:
            probability = order.probabilities(s.features)
            ranks["energy"].append(_first(s.answers))
            ranks["probability"].append(_first(s.answers[best_first(probability)]))
            loss["probability"] -= order.log_likelihood(s.features, s.answers) / len(searches)
            loss["frequency"] -= float(np.log(frequency(_first(s.answers)))) / len(searches)
            points += zip(probability.tolist(), s.answers.tolist(), strict=True)
    summary: dict[str, Any] = {"n": len(searches), "n_ranked": sum(r is not None for r in ranks["energy"])}
    for by, found in ranks.items():
        summary |= {f"found_at_{k}.{by}": sum((r or KS[-1] + 1) <= k for r in found) for k in KS}
    return summary | {f"log_loss.{name}": round(value, 4) for name, value in loss.items()}, points


def _first(answers: Tensor) -> int | None:
    """The rank of the first, counted from 1."""
    places = answers.nonzero().flatten().tolist()
    return places[0] + 1 if places else None


def _frequency(searches: Sequence[Searched]) -> Callable[[int | None], float]:
    """How often the answer has a rank by energy, with one more of each than was seen."""
    longest = max(len(s.answers) for s in searches) + 2
    counts = np.ones(longest)
    for s in searches:
        counts[_first(s.answers) or 0] += 1
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
