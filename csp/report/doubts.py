"""What a careful reader should doubt of a prediction, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from csp.report.description import Description
from csp.search.history import ENDINGS
from csp.search.prediction import Prediction

__all__ = ["doubts"]

LAYERS_APART = 4.0  # Å between atomic planes: more than in any layered crystal that dispersion holds together
WITH_DISPERSION = ("D3", "D4", "vdw", "rvv10", "mbd", "TS")  # in the name of a functional
MAGNETIC = frozenset(
    [*range(23, 29), *range(58, 71), *range(92, 97)]  # V–Ni, Ce–Yb, U–Cm
)
TOO_CLOSE = 5.0  # meV/atom; the median error of differences by Nequix is 6
LOST = 0.2  # share of relaxations
COMPLETE = 0.9  # probability that the lowest is found, as `until` has it where nothing else is asked for
NAMED = 6  # ranks in a sentence


def doubts(prediction: Prediction, crystals: Sequence[Description]) -> list[str]:
    """Sentences, the weightiest first; `crystals` are those of the results, in their order."""
    if not prediction.results:
        return []
    return [
        sentence[0].upper() + sentence[1:]
        for sentence in (
            _uncertain(prediction),
            _close(prediction),
            _layers(prediction, crystals),
            _magnetic(prediction),
            _radioactive(prediction),
            _unfinished(prediction),
            _lost(prediction),
            _incomplete(prediction),
            _none_of_these(prediction),
        )
        if sentence
    ]


def _uncertain(prediction: Prediction) -> str:
    sigmas = [r.sigma_ev_per_atom for r in prediction.results[:2] if r.sigma_ev_per_atom is not None]
    if len(sigmas) < 2:
        return ""
    apart = abs(prediction.results[1].above_lowest - prediction.results[0].above_lowest)
    sigma = 1000 * max(sigmas)
    if sigma <= apart:
        return ""
    return (
        f"The model's own uncertainty, σ = {sigma:.0f} meV/atom, is larger than the {apart:.1f} meV/atom "
        "between ranks 1 and 2."
    )


def _close(prediction: Prediction) -> str:
    results = prediction.results
    intervals = [r.above_lowest_sigma_ev_per_atom for r in results]
    if any(interval is not None for interval in intervals):
        close = [
            r.rank for r, s in zip(results, intervals, strict=True) if r.above_lowest <= 1000 * (s or 0.0)
        ]
        why = "nearer to the lowest than their energies are sure (±)"
    else:
        close = [r.rank for r in results if r.above_lowest < TOO_CLOSE]
        why = f"within {TOO_CLOSE:.0f} meV/atom of the lowest, which is less than a potential errs"
    if len(close) < 2:
        return ""
    return f"{_ranks(close, 'are', 'is')} {why}: which of them is lowest is not settled."


def _layers(prediction: Prediction, crystals: Sequence[Description]) -> str:
    label = prediction.label
    if label is None or any(word.lower() in label.functional.lower() for word in WITH_DISPERSION):
        return ""
    apart = [r.rank for r, c in zip(prediction.results, crystals, strict=False) if c.gap > LAYERS_APART]
    if not apart:
        return ""
    return (
        f"{label.functional} has no dispersion forces, and {_ranks(apart, 'have', 'has')} gaps of more than "
        f"{LAYERS_APART:.0f} Å between planes of atoms: distances and stackings of such layers mean little."
    )


def _magnetic(prediction: Prediction) -> str:
    found = _symbols(z for z in prediction.target.numbers if z in MAGNETIC)
    if not found:
        return ""
    return (
        f"{found} may be magnetic: energies are those of the order that the potential has learned; no other "
        "was tried."
    )


def _radioactive(prediction: Prediction) -> str:
    from pymatgen.core import Element

    found = _symbols(z for z in prediction.target.numbers if Element.from_Z(z).is_radioactive)
    return f"{found} is radioactive: there are few measured crystals to learn from." if found else ""


def _unfinished(prediction: Prediction) -> str:
    moving = [r.rank for r in prediction.results if r.status != "converged"]
    if not moving:
        return ""
    what = "it" if len(moving) == 1 else "them"
    return f"{_ranks(moving, 'were', 'was')} not relaxed to the end: more steps would lower {what}."


def _lost(prediction: Prediction) -> str:
    stage, count = ("refine", "refined") if "refined" in prediction.funnel else ("relax", "relaxed")
    lost, tried = prediction.failed.get(stage, {}), prediction.funnel.get(count, 0)
    if not tried or sum(lost.values()) < LOST * tried:
        return ""
    why = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in sorted(lost.items()))
    return f"Of {tried} last relaxations {sum(lost.values())} failed ({why}): the potential may not fit here."


def _incomplete(prediction: Prediction) -> str:
    """A deep search estimates how complete it is; of others it is known how often the lowest was found."""
    history = prediction.history
    if history is not None:
        if history.probability >= COMPLETE:
            return ""
        return (
            f"The search is not complete: {ENDINGS[history.ended]}, and by estimate the lowest that was "
            f"found is the lowest with a probability of {history.probability:.2f} only."
        )
    lowest = min(prediction.results, key=lambda result: result.above_lowest)
    if lowest.n_duplicates:
        return ""
    return (
        f"Only one candidate led to {_ranks([lowest.rank])}, the lowest: there may be others that none has "
        "led to. `effort` deep searches on, and estimates how many."
    )


def _none_of_these(prediction: Prediction) -> str:
    if not prediction.has_probability or prediction.probability_of_none < 0.5:
        return ""
    none = 100 * prediction.probability_of_none
    return (
        f"With p = {none:.0f} % the lowest-energy crystal is none of these: more candidates or a larger "
        "library may find it."
    )


def _ranks(ranks: Sequence[int], many: str = "", one: str = "") -> str:
    """Such as "ranks 1 to 4 have" or "rank 3 has"."""
    if len(ranks) == 1:
        return f"rank {ranks[0]} {one}".strip()
    if list(ranks) == list(range(ranks[0], ranks[-1] + 1)) and len(ranks) > 2:
        text = f"ranks {ranks[0]} to {ranks[-1]}"
    elif len(ranks) > NAMED:
        text = f"ranks {', '.join(map(str, ranks[:NAMED]))} and {len(ranks) - NAMED} more"
    else:
        text = f"ranks {', '.join(map(str, ranks[:-1]))} and {ranks[-1]}"
    return f"{text} {many}".strip()


def _symbols(numbers: Iterable[int]) -> str:
    from ase.data import chemical_symbols

    found = [chemical_symbols[z] for z in numbers]
    return " and ".join(found) if len(found) < 3 else f"{', '.join(found[:-1])} and {found[-1]}"
