"""What the targets of a recovery benchmark add up to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.ground_truth import PUBLISHED_METHODS, PUBLISHED_TOTALS
from benchmarks.leakage import Leak
from benchmarks.recovery.outcome import Outcome
from benchmarks.recovery.scoring import HIT, RANKS, TOLERANCES, Found, Miss

__all__ = ["generators_of", "published_totals", "summarise"]

WHOLE_TABLE = 35  # targets whose published totals are quoted


def summarise(
    outcomes: Sequence[Outcome], beside: Mapping[str, Sequence[Outcome]] | None = None
) -> dict[str, Any]:
    """Flat counts over the targets. `found_at_k_by_energy` is of the order by energy alone,
    `found_at_k.GENERATOR` ranks what that generator alone led to; `*.any` are of all generators together;
    `chance.*` is the rate at which random crystals match; `beside.RUN.*` is what another run found of the
    same targets, by its name."""
    generators = generators_of(outcomes)
    summary: dict[str, Any] = {"n": len(outcomes)}
    for tolerance in TOLERANCES:
        suffix = "" if tolerance == "default" else f"_{tolerance}"
        found = [_found(outcome, tolerance) for outcome in outcomes]
        for k in RANKS:
            summary[f"found_at_{k}{suffix}"] = sum(f is not None and f.within(k) for f in found)
        for k in RANKS:
            by_energy = [f.rank_energy for f in found if f and f.rank_energy is not None]
            summary[f"found_at_{k}{suffix}_by_energy"] = sum(rank <= k for rank in by_energy)
        for k in RANKS:
            for name in generators:
                ranks = [f.rank_of.get(name) for f in found if f]
                summary[f"found_at_{k}{suffix}.{name}"] = sum(r is not None and r <= k for r in ranks)
        for name in generators:
            summary[f"proposed{suffix}.{name}"] = sum(bool(f and f.proposed.get(name)) for f in found)
        summary[f"proposed{suffix}.any"] = sum(bool(f and any(f.proposed.values())) for f in found)
        summary[f"screened{suffix}.any"] = sum(bool(f and f.relaxed_from) for f in found)
        summary[f"relaxed{suffix}.any"] = sum(bool(f and f.relaxed_to) for f in found)
        summary |= _chance(outcomes, tolerance)
    summary |= {f"misses.{reason}": sum(o.miss == reason for o in outcomes) for reason in Miss}
    summary |= _leaks(outcomes)
    for name, others in (beside or {}).items():
        summary |= {f"beside.{name}.{key}": value for key, value in _of_same(outcomes, others).items()}
    summary |= {f"published.{method}": total for method, total in published_totals(outcomes).items()}
    seconds = Counter[str]()
    for outcome in outcomes:
        seconds.update(outcome.seconds)
    summary["seconds"] = round(sum(seconds.values()), 1)
    return summary | {f"seconds.{stage}": round(value, 1) for stage, value in seconds.items()}


def published_totals(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Of the targets with a mark; over the whole published table the totals that are quoted for it."""
    marked = [outcome.published for outcome in outcomes if outcome.published]
    if len(marked) == WHOLE_TABLE:
        return PUBLISHED_TOTALS
    return {method: sum(marks[method] for marks in marked) for method in PUBLISHED_METHODS} if marked else {}


def generators_of(outcomes: Sequence[Outcome]) -> list[str]:
    return list(dict.fromkeys(name for o in outcomes if o.score for name in o.score.default.proposed))


def _found(outcome: Outcome, tolerance: str) -> Found | None:
    return None if outcome.score is None else getattr(outcome.score, tolerance)


def _chance(outcomes: Sequence[Outcome], tolerance: str) -> dict[str, float]:
    chances = [outcome.chance for outcome in outcomes if outcome.chance]
    n = sum(chance.n for chance in chances)
    matched = [getattr(chance, tolerance) for chance in chances]
    return {
        f"chance.{tolerance}": sum(matched) / n if n else 0.0,
        f"chance.{tolerance}.targets": sum(m > 0 for m in matched),
    }


def _of_same(outcomes: Sequence[Outcome], others: Sequence[Outcome]) -> dict[str, int]:
    """What another run found of the targets of this one."""
    names = {outcome.name for outcome in outcomes}
    both = [outcome for outcome in others if outcome.name in names]
    found = {f"found_at_{k}": sum(o.within(k) for o in both) for k in RANKS}
    return {"n": len(both)} | found | _clean(both)


def _clean(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """The targets that no model of the run has seen for certain."""
    clean = [o for o in outcomes if o.leak and set(o.leak.values()) == {Leak.CLEAN}]
    return {"n_clean": len(clean), f"found_at_{HIT}_clean": sum(o.found for o in clean)}


def _leaks(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Per model, and together."""
    models = dict.fromkeys(model for outcome in outcomes for model in outcome.leak)
    counts = {
        f"leak.{model}.{kind}": sum(outcome.leak.get(model) == kind for outcome in outcomes)
        for model in models
        for kind in Leak
    }
    return counts | _clean(outcomes)
