"""One picture of a recovery benchmark: how many were found, and where the others were lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.ground_truth import PUBLISHED_METHODS
from benchmarks.recovery.outcome import Outcome
from benchmarks.recovery.scoring import HIT, RANKS, TOLERANCES, wilson
from benchmarks.recovery.summary import published_totals
from csp.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot"]

PRESENT, ABSENT, NOTHING = "#2a6f97", "#e3e7ea", "#ffffff"
SHADES = {"default": "#2a6f97", "loose": "#a9d6e5"}
MARKED = "#6c757d"
STAGES = ("proposed", "chosen", "relaxed", f"first {HIT}")


def plot(outcomes: Sequence[Outcome], path: Path) -> None:
    """Left: the stages that still hold each truth, beside the published marks. Right: found among the
    first k with Wilson intervals, lines for the published totals. Replaces the file whole."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height = max(3.6, 1.2 + 0.22 * len(outcomes))
    figure = Figure(figsize=(10.5, height), layout="constrained")
    FigureCanvasAgg(figure)
    grid, bars = figure.subplots(1, 2, width_ratios=[1.25, 1.0])
    _stages(grid, outcomes)
    _found(bars, outcomes)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=160, format="png")


def _stages(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    methods = PUBLISHED_METHODS if any(outcome.published for outcome in outcomes) else {}
    columns = [*methods.values(), *STAGES]
    gap = 0.6  # between what is published and ours
    places = [x + (gap if x >= len(methods) else 0.0) for x in range(len(columns))]
    for y, outcome in enumerate(outcomes):
        states = [outcome.published.get(method) for method in methods] + list(_kept(outcome))
        for k, state in enumerate(states):
            colour = NOTHING if state is None else (ABSENT, MARKED if k < len(methods) else PRESENT)[state]
            axes.barh(y, 0.9, 0.84, left=places[k] - 0.45, color=colour)
        if outcome.rank is not None:
            colour = "white" if outcome.found else "black"
            axes.text(places[-1], y, str(outcome.rank), ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(places, columns, rotation=40, ha="left", rotation_mode="anchor", fontsize=8)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(outcomes)), [outcome.name for outcome in outcomes], fontsize=8)
    axes.set_ylim(len(outcomes) - 0.4, -0.6)
    axes.set_xlim(-0.6, places[-1] + 0.6)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    whose = "published (grey) and ours (blue): is" if methods else "is"
    axes.set_xlabel(f"{whose} the truth there? Number: its rank", fontsize=8)


def _kept(outcome: Outcome) -> tuple[int, ...]:
    """Is the truth among what each stage left?"""
    if outcome.score is None:
        return (0,) * len(STAGES)
    found = outcome.score.default
    present = (any(found.proposed.values()), found.relaxed_from, found.relaxed_to, outcome.found)
    return tuple(int(bool(p)) for p in present)


def _found(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    from matplotlib.ticker import MaxNLocator

    n, width = len(outcomes), 0.38
    for shift, tolerance in zip((-width / 2, width / 2), TOLERANCES, strict=True):
        counts = [sum(outcome.within(k, tolerance) for outcome in outcomes) for k in RANKS]
        bounds = [wilson(count, n) for count in counts]
        errors = [
            [max(0.0, c - n * low) for c, (low, _) in zip(counts, bounds, strict=True)],
            [max(0.0, n * high - c) for c, (_, high) in zip(counts, bounds, strict=True)],
        ]
        places = [x + shift for x in range(len(RANKS))]
        axes.bar(places, counts, width, color=SHADES[tolerance], label=f"{tolerance} tolerances")
        axes.errorbar(places, counts, errors, fmt="none", ecolor="black", elinewidth=0.8, capsize=2)
        for x, count in zip(places, counts, strict=True):
            axes.text(x - width / 4, count, str(count), ha="center", va="bottom", fontsize=8)
    named: dict[int, list[str]] = {}
    for method, total in published_totals(outcomes).items():
        named.setdefault(total, []).append(PUBLISHED_METHODS[method])
    for total, names in named.items():
        axes.axhline(total, color=MARKED, linewidth=0.7, linestyle=":")
        axes.text(
            len(RANKS) - 0.45,
            total,
            f" {total} " + f"\n {total} ".join(names),
            va="center",
            fontsize=7,
            color=MARKED,
        )
    axes.set_xticks(range(len(RANKS)), [f"first {k}" if k > 1 else "first" for k in RANKS], fontsize=8)
    axes.set_ylim(0, max(n, 1) * 1.02)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(f"found, of {n}", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
