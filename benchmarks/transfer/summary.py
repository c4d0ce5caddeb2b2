"""What labels bought in each case of a transfer benchmark, and the flat numbers, table and curves of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rank_metrics import Floats, interval, ordered
from csp.files import replacing

__all__ = ["Case", "plot", "summarise", "table"]

COLOURS = {
    "default": "black",
    "last_layer": "#8d99ae",
    "shift": "#adb5bd",
    "affine": "#e07a5f",
    "bayesian": "#2a6f97",
    "affine_model": "#81b29a",
    "full": "#7b5ea7",
    "frozen": "#f1c453",
    "published": "#b56576",
    "scratch": "#6c757d",
}
ORDER = tuple(COLOURS)
WIDTH_95 = 1.96  # σ; one is that of the 68 % interval


@dataclass(frozen=True, slots=True)
class Case:
    """One strategy after n labels of one composition, measured on its test crystals.

    Attributes:
        way: How the labels were picked: random or chosen.
        mae: Mean absolute error, eV/atom.
        untuned: Mean absolute error of the source with the best constant that there is: no transfer, at its
            best.
        tau: Kendall's τ_b.
        within: Share of the labels within 68 % and 95 % intervals; None without σ.
    """

    composition: str
    seed: int
    way: str
    strategy: str
    labels: int
    mae: float
    untuned: float
    tau: float
    within: tuple[float, float] | None

    @classmethod
    def measured(
        cls,
        composition: str,
        seed: int,
        way: str,
        strategy: str,
        labels: int,
        energy: Floats,
        truth: Floats,
        before: Floats,
        sigma: Floats | None,
    ) -> Case:
        """energy, truth, before, sigma [M], eV/atom: predicted, label, of the source, one σ."""
        rest = truth - before
        untuned = float(np.abs(rest - np.median(rest)).mean())  # no constant leaves less
        error = np.abs(energy - truth)
        if strategy == "none":  # before any label its constant means nothing
            error = np.abs(rest - np.median(rest))
        within = None
        if sigma is not None:
            within = float((error < sigma).mean()), float((error < WIDTH_95 * sigma).mean())
        return cls(
            composition,
            seed,
            way,
            strategy,
            labels,
            float(error.mean()),
            untuned,
            ordered(energy, truth).tau,
            within,
        )

    @property
    def ratio(self) -> float:
        return self.mae / self.untuned


def summarise(cases: Sequence[Case], seed: int) -> dict[str, Any]:
    """error_ratio, tau and mae_mev .{strategy}.{labels}: means over compositions and seeds of labels drawn at
    random, with the ends of their 95 % intervals over compositions; the same with `.chosen` for chosen ones;
    coverage of the default's intervals over all its cases, and how often it was worse than a shift."""
    summary: dict[str, Any] = {}
    for way, suffix in (("random", ""), ("chosen", ".chosen")):
        for strategy, n in sorted({(case.strategy, case.labels) for case in cases if case.way == way}):
            some = [c for c in cases if (c.way, c.strategy, c.labels) == (way, strategy, n)]
            group = np.array([case.composition for case in some])
            for key, values in (
                ("error_ratio", np.array([case.ratio for case in some])),
                ("tau", np.array([case.tau for case in some])),
            ):
                low, high = interval(values, group, seed=seed)
                name = f"{key}.{strategy}.{n}{suffix}"
                summary |= {
                    name: round(float(values.mean()), 4),
                    f"{name}.low": round(low, 4),
                    f"{name}.high": round(high, 4),
                }
            summary[f"mae_mev.{strategy}.{n}{suffix}"] = round(
                1000 * float(np.mean([c.mae for c in some])), 2
            )
            covered = [case.within for case in some if case.within is not None]
            if covered:
                for k, percent in enumerate((68, 95)):
                    mean = float(np.mean([within[k] for within in covered]))
                    summary[f"coverage_{percent}.{strategy}.{n}{suffix}"] = round(mean, 4)
    default = [case for case in cases if case.strategy == "default" and case.way == "random" and case.within]
    for k, percent in enumerate((68, 95)):
        shares = [case.within[k] for case in default if case.within]
        summary[f"coverage_{percent}"] = round(float(np.mean(shares)), 4) if shares else None
    summary |= _worse(cases, seed)
    return summary


def _worse(cases: Sequence[Case], seed: int) -> dict[str, Any]:
    """default_worse.{labels}: is the default worse than no transfer but the constant that the same labels
    give (shift), the difference of their errors in pairs above zero with 97.5 %? And in how many cases it is
    at all."""
    found: dict[str, Any] = {}
    shifted = {(c.composition, c.seed, c.way, c.labels): c.mae for c in cases if c.strategy == "shift"}
    default = [case for case in cases if case.strategy == "default" and case.way == "random"]
    for n in sorted({case.labels for case in default}):
        some = [case for case in default if case.labels == n]
        difference = np.array([case.mae - shifted[case.composition, case.seed, case.way, n] for case in some])
        low, _ = interval(difference, np.array([case.composition for case in some]), seed=seed)
        found[f"default_worse.{n}"] = bool(low > 0.0)
        found[f"default_worse_cases.{n}"] = int((difference > 0.0).sum())
    return found


def table(summary: dict[str, Any]) -> str:
    """Markdown: error ratio and τ by strategy and number of labels."""
    labels = sorted({int(key.split(".")[2]) for key in summary if key.startswith("tau.")})
    rows = [f"| error ratio / τ | {' | '.join(map(str, labels))} |", "|---" * (len(labels) + 1) + "|"]
    for suffix in ("", ".chosen"):
        for strategy in ("none", *ORDER):
            cells = [_cell(summary, f"{strategy}.{n}{suffix}") for n in labels]
            if any(cells):
                rows.append(f"| {strategy}{suffix.replace('.', ', ')} | {' | '.join(cells)} |")
    covered = f"68 %: {summary['coverage_68']}, 95 %: {summary['coverage_95']}"
    rows += ["", f"Coverage of the default's intervals: {covered}."]
    return "\n".join(rows) + "\n"


def _cell(summary: dict[str, Any], key: str) -> str:
    if f"tau.{key}" not in summary:
        return ""
    return f"{summary[f'error_ratio.{key}']:.2f} / {summary[f'tau.{key}']:.2f}"


def plot(summary: dict[str, Any], path: Path) -> None:
    """Error ratio and τ against the number of labels; chosen labels dashed. Replaces the file whole."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for axes, key, name in ((left, "error_ratio", "error / no transfer"), (right, "tau", "Kendall τ")):
        for strategy, colour in COLOURS.items():
            for suffix, line in (("", "o-"), (".chosen", "o--")):
                labels = [int(one.split(".")[2]) for one in summary if one.startswith(f"{key}.{strategy}.")]
                names = ((n, f"{key}.{strategy}.{n}{suffix}") for n in sorted(set(labels)))
                points = [(n, summary[name]) for n, name in names if name in summary]
                if points:
                    label = strategy if not suffix else None
                    axes.plot(*zip(*points, strict=True), line, color=colour, markersize=3, label=label)
        none = summary.get(f"{key}.none.0")
        if none is not None:
            axes.axhline(none, color="black", linewidth=0.6, linestyle=":")
        axes.set_xscale("log")
        axes.set_xlabel("labels (dashed: chosen)", fontsize=8)
        axes.set_ylabel(name, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    left.legend(fontsize=7, frameon=False)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=160, format="png")
