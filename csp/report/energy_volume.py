"""Energy, or enthalpy, against volume: a mark for each ranked crystal."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from csp.search.prediction import Prediction, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["STYLE", "draw_energy_volume", "energy_volume_svg"]

COLOURS = ("#2f6db3", "#c8641b", "#3b8a4e", "#8b4fa0", "#8a6d1c")  # of the generators, by name
HIGHEST = 500.0  # meV/atom above the lowest; what is higher would press the others together
APART = 14.0  # points between marks whose labels have room
ANNOTATED = 5  # best crystals whose rank is written beside their mark

STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "csp",  # equal figures, equal ids
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8f98",
    "axes.labelcolor": "#3d434d",
    "xtick.color": "#5c636e",
    "ytick.color": "#5c636e",
}


def energy_volume_svg(prediction: Prediction) -> str:
    """The figure as SVG; each mark is a link to the crystal's card."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.8, 3.5), layout="constrained")
        draw_energy_volume(figure.add_subplot(), prediction, linked=True)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]  # HTML has no place for an XML declaration


def draw_energy_volume(axes: Axes, prediction: Prediction, *, linked: bool = False) -> None:
    """The marks and words of that figure, in `STYLE`."""
    results = [r for r in prediction.results if r.above_lowest <= HIGHEST or r.rank == 1]
    left_out = len(prediction.results) - len(results)
    for k, generator in enumerate(sorted({r.generator for r in results})):
        mine = [r for r in results if r.generator == generator]
        marks = axes.scatter(
            [r.volume_per_atom for r in mine],
            [r.above_lowest for r in mine],
            s=42,
            color=COLOURS[k % len(COLOURS)],
            alpha=0.85,
            linewidths=0.8,
            edgecolors="white",
            label=generator.replace("_", " "),
            zorder=3,
        )
        if linked:
            marks.set_urls([f"#crystal-{r.rank}" for r in mine])
    axes.set_xlabel("volume (Å³/atom)")
    axes.set_ylabel(f"{'enthalpy' if prediction.target.pressure else 'energy'} above the lowest (meV/atom)")
    if left_out:
        at: Any = {"transform": axes.transAxes, "ha": "right", "va": "top"}
        axes.text(1, 1, f"{left_out} higher not shown", fontsize=9, color="#5c636e", **at)
    axes.grid(color="#e6e8ec", linewidth=0.8, zorder=0)
    axes.margins(0.08)
    for point, ranks in _labels(axes, results[:ANNOTATED]):
        axes.annotate(ranks, point, xytext=(6, 4), textcoords="offset points", color="#3d434d")
    # above the axes, where its marks are not taken for crystals
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, handletextpad=0.1)


def _labels(axes: Axes, results: Sequence[Result]) -> list[tuple[tuple[float, float], str]]:
    """Ranks and the marks that they stand beside, one label for marks that are nearer than a word is long."""
    width, height = axes.get_figure().get_size_inches() * 72  # type: ignore[union-attr]  # points
    across, up = (high - low for low, high in (axes.get_xlim(), axes.get_ylim()))
    groups: list[list[Result]] = []
    for r in sorted(results, key=lambda r: r.volume_per_atom):
        last = groups[-1][-1] if groups else None
        if (
            last is not None
            and (r.volume_per_atom - last.volume_per_atom) / across * width < APART
            and abs(r.above_lowest - last.above_lowest) / up * height < APART
        ):
            groups[-1].append(r)
        else:
            groups.append([r])
    return [
        (
            (group[-1].volume_per_atom, group[-1].above_lowest),
            ", ".join(str(n) for n in sorted(r.rank for r in group)),
        )
        for group in groups
    ]
