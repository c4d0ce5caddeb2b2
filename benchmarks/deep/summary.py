"""What the deep searches add up to, and whether what they told of themselves was so."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from benchmarks.deep.outcome import DeepOutcome
from benchmarks.recovery.scoring import RANKS, wilson
from csp.search.history import ENDINGS

__all__ = ["reliability", "summarise", "table"]

BINS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)


def summarise(outcomes: Sequence[DeepOutcome]) -> dict[str, Any]:
    """Flat counts; `*_before` are of the searches before their rounds."""
    summary: dict[str, Any] = {"n": len(outcomes)}
    for suffix in ("", "_before"):
        ranks = [getattr(one, f"rank{suffix}") for one in outcomes]
        summary[f"found{suffix}"] = sum(rank is not None for rank in ranks)
        for k in RANKS:
            summary[f"found_at_{k}{suffix}"] = sum(rank is not None and rank <= k for rank in ranks)
    judged = [one for one in outcomes if one.right is not None]
    summary["with_energy"] = len(judged)
    summary["lowest_or_below_truth"] = sum(bool(one.right) for one in judged)
    summary["lowered"] = sum((one.gained or 0.0) > 0.001 for one in outcomes)
    summary |= {f"ended.{why}": sum(one.ended == why for one in outcomes) for why in ENDINGS}
    if judged:
        told, right = [one.share for one in judged], [float(bool(one.right)) for one in judged]
        summary["told_mean"] = round(sum(told) / len(told), 4)
        summary["right_mean"] = round(sum(right) / len(right), 4)
        squares = ((p - r) ** 2 for p, r in zip(told, right, strict=True))
        summary["brier"] = round(sum(squares) / len(told), 4)
    summary["candidates"] = sum(one.candidates for one in outcomes)
    summary["rounds"] = sum(one.rounds for one in outcomes)
    for part in ("all", "cpu"):
        summary[f"seconds.{part}"] = round(sum(one.seconds.get(part, 0.0) for one in outcomes), 1)
    return summary


def reliability(outcomes: Sequence[DeepOutcome]) -> list[tuple[float, float, int, int]]:
    """(from, to, searches whose told probability lies there, for how many of them the lowest was the lowest
    as far as is known)."""
    judged = [one for one in outcomes if one.right is not None]
    rows = []
    for low, high in pairwise(BINS):
        own = [one for one in judged if low <= one.share < high or (high == 1.0 == one.share)]
        rows.append((low, high, len(own), sum(bool(one.right) for one in own)))
    return rows


def table(outcomes: Sequence[DeepOutcome], settings: dict[str, Any]) -> str:
    """The targets, what they add up to, and the reliability, as Markdown."""
    header = [
        "truth", "formula", "atoms", "rank", "before", "ΔE meV/atom", "lowered", "rounds", "candidates",
        "low", "told [95 %]", "ended", "s", "CPU s",
    ]  # fmt: skip
    lines = [_row(header), "|---" * len(header) + "|", *(_row(_cells(one)) for one in outcomes)]
    summary = summarise(outcomes)
    n = summary["n"]
    counts = [("found", "found"), *((f"among the first {k}", f"found_at_{k}") for k in RANKS)]
    lines += ["", _row(["", "with rounds", "before them"]), "|---|---:|---:|"]
    for words, key in counts:
        low, high = wilson(summary[key], n)
        share = f"{summary[key]}/{n} [{100 * low:.0f}–{100 * high:.0f} %]"
        lines.append(_row([words, share, str(summary[f"{key}_before"])]))
    lines += ["", _row(["told probability", "searches", "the lowest was the lowest"]), "|---|---:|---:|"]
    for low, high, own, right in reliability(outcomes):
        lines.append(_row([f"{low:.2f} to {high:.2f}", str(own), str(right)]))
    asked = ", ".join(f"{name} {value}" for name, value in settings.items())
    return "\n".join(
        [
            *lines,
            "",
            f"Settings: {asked}. The target's composition is left out of the library.",
            "",
            "Rank: of the truth in the whole ranking by energy, StructureMatcher's default tolerances. ΔE: "
            "the lowest crystal found minus the relaxed truth under the same model; negative where the model "
            "prefers another. Before: after the search that a deep one begins with.",
            "",
        ]
    )


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(one: DeepOutcome) -> list[str]:
    low, high = one.share_95
    return [
        one.name,
        one.formula,
        str(one.n_atoms),
        "–" if one.rank is None else str(one.rank),
        "–" if one.rank_before is None else str(one.rank_before),
        "" if one.above_truth is None else f"{1000 * one.above_truth:+.1f}",
        "" if one.gained is None else f"{1000 * one.gained:.1f}",
        str(one.rounds),
        f"{one.candidates:,}",
        str(one.low),
        f"{one.share:.2f} [{low:.2f}–{high:.2f}]",
        one.ended,
        f"{one.seconds.get('all', 0.0):.0f}",
        f"{one.seconds.get('cpu', 0.0):.0f}",
    ]
