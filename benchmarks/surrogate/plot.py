"""One picture of a surrogate benchmark: errors, orders, and where the best crystal comes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.surrogate.contestants import RELAXED_ONLY, VOLUME_ONLY
from benchmarks.surrogate.summary import BEST, Measured
from benchmarks.surrogate.table import PUBLISHED_MAE
from csp.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot"]

OURS = ("#2a6f97", "#e07a5f", "#81b29a", "#7b5ea7")
REFERENCES = {VOLUME_ONLY: "#adb5bd", RELAXED_ONLY: "#6c757d"}


def plot(measured: Sequence[Measured], path: Path) -> None:
    """Left: how many test crystals have less than some error. Middle: τ of every composition. Right: how
    often the teacher's best crystal is among a model's first k. Replaces the file whole."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    errors, taus, recall = figure.subplots(1, 3)
    colours = _colours(measured)
    _errors(errors, measured, colours)
    _taus(taus, measured, colours)
    _recall(recall, measured, colours)
    for axes in (errors, taus, recall):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=160, format="png")


def _colours(measured: Sequence[Measured]) -> dict[str, str]:
    ours = [one.name for one in measured if one.name not in REFERENCES]
    return {**REFERENCES, **{name: OURS[k % len(OURS)] for k, name in enumerate(ours)}}


def _errors(axes: Axes, measured: Sequence[Measured], colours: dict[str, str]) -> None:
    for one in measured:
        if one.errors is None:
            continue
        values = np.sort(1000 * one.errors.absolute)
        share = np.arange(1, len(values) + 1) / len(values)
        axes.plot(values, share, color=colours[one.name], label=f"{one.name}, mean {values.mean():.1f}")
        axes.axvline(float(values.mean()), color=colours[one.name], linewidth=0.7, linestyle="--")
    best = min(PUBLISHED_MAE, key=PUBLISHED_MAE.__getitem__)
    worst = max(PUBLISHED_MAE, key=PUBLISHED_MAE.__getitem__)
    axes.axvspan(
        PUBLISHED_MAE[best],
        PUBLISHED_MAE[worst],
        color="#f1c453",
        alpha=0.35,
        label=f"means, {best} to {worst}",
    )
    axes.set(xscale="log", xlim=(1.0, None), ylim=(0.0, 1.0))
    axes.set_xlabel("|error| of the formation energy, meV/atom", fontsize=8)
    axes.set_ylabel("share of the test crystals", fontsize=8)
    axes.legend(fontsize=7, frameon=False, loc="upper left")


def _taus(axes: Axes, measured: Sequence[Measured], colours: dict[str, str]) -> None:
    labels = []
    for x, one in enumerate(measured):
        whole = [order.tau for order in one.known]
        low = [order.tau_low for order in one.known if order.tau_low is not None]
        for shift, values, alpha in ((-0.2, whole, 0.9), (0.2, low, 0.45)):
            if values:
                _box(axes, x + shift, values, colours[one.name], alpha)
        labels.append(one.name)
    axes.axhline(0.0, color="black", linewidth=0.6)
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylabel("Kendall τ in a composition (pale: lowest 0.3 eV/atom)", fontsize=8)


def _box(axes: Axes, x: float, values: list[float], colour: str, alpha: float) -> None:
    """Quartiles, the range from 5 to 95 %, and the mean."""
    low, first, third, high = np.percentile(values, [5, 25, 75, 95])
    axes.bar(x, third - first, 0.32, bottom=first, color=colour, alpha=alpha)
    axes.plot([x, x], [low, high], color=colour, alpha=alpha, linewidth=1.0)
    axes.plot([x - 0.16, x + 0.16], [np.mean(values)] * 2, color="black", linewidth=1.2)


def _recall(axes: Axes, measured: Sequence[Measured], colours: dict[str, str]) -> None:
    for one in measured:
        ranks = np.array([order.best_at for order in one.known])
        if len(ranks) == 0:
            continue
        k = np.arange(1, 201)
        share = (ranks[None, :] <= k[:, None]).mean(1)
        axes.plot(k, share, color=colours[one.name], label=one.name)
    axes.axvline(BEST, color="black", linewidth=0.6, linestyle=":")
    axes.set(xscale="log", xlim=(1, 200), ylim=(0.0, 1.02))
    axes.set_xlabel("first k of 200 by the model", fontsize=8)
    axes.set_ylabel("compositions whose best is there", fontsize=8)
    axes.legend(fontsize=7, frameon=False, loc="lower right")
