"""The one page of a prediction: self-contained HTML, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

import html
import io
import re
from collections import Counter
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from csp.report.record import RunRecord
from csp.search.prediction import Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FUNNEL", "STYLE", "draw_energy_volume", "energy_volume_svg", "render_page"]

FUNNEL = {
    "proposed": "proposed by the generators",
    "built": "built in the exact composition",
    "plausible": "plausible in distances and volume",
    "unique": "distinct",
    "screened": "screened by energy",
    "labelled": "labelled to learn from",
    "pre_relaxed": "drawn ones, relaxed briefly",
    "relaxed": "relaxed",
    "refined": "relaxed on by the last model",
    "converged": "converged",
    "ranked": "ranked, duplicates merged",
}
COLOURS = ("#2f6db3", "#c8641b", "#3b8a4e", "#8b4fa0", "#8a6d1c")  # of the generators, by name
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


def render_page(prediction: Prediction, record: RunRecord) -> str:
    """The page as HTML. Equal predictions and records give equal text: it holds no date and no timing."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"formula": _formula, "space_group": _space_group}
    template = environment.from_string(
        (resources.files("csp") / "data" / "report.html.jinja").read_text(encoding="utf-8")
    )
    return template.render(
        prediction=prediction,
        target=prediction.target,
        record=record,
        settings={name: _plain(value) for name, value in record.settings.items()},
        pressed=prediction.target.pressure != 0,
        has_known=any(r.novelty for r in prediction.results),
        has_sigma=any(r.sigma_ev_per_atom is not None for r in prediction.results),
        funnel=_funnel(prediction.funnel),
        unranked=sorted(Counter((u.status, u.generator) for u in prediction.unranked).items()),
        figure=energy_volume_svg(prediction) if prediction.results else "",
    )


def energy_volume_svg(prediction: Prediction) -> str:
    """Energy (or enthalpy) above the lowest against volume per atom, a mark per ranked crystal, as SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.2, 4.0), layout="constrained")
        draw_energy_volume(figure.add_subplot(), prediction)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]  # HTML has no place for an XML declaration


def draw_energy_volume(axes: Axes, prediction: Prediction) -> None:
    """The marks and words of that figure, in `STYLE`."""
    results = prediction.results
    for k, generator in enumerate(sorted({r.generator for r in results})):
        mine = [r for r in results if r.generator == generator]
        axes.scatter(
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
    for r in results[:ANNOTATED]:
        point = (r.volume_per_atom, r.above_lowest)
        axes.annotate(str(r.rank), point, xytext=(6, 4), textcoords="offset points", color="#3d434d")
    axes.set_xlabel("volume (Å³/atom)")
    axes.set_ylabel(f"{'enthalpy' if prediction.target.pressure else 'energy'} above the lowest (meV/atom)")
    axes.grid(color="#e6e8ec", linewidth=0.8, zorder=0)
    axes.margins(0.08)
    axes.legend(frameon=False, loc="best")


def _funnel(funnel: Mapping[str, int]) -> list[tuple[str, int, float]]:
    """(stage in words, count, length of its bar in per cent)."""
    largest = max(funnel.values(), default=0) or 1
    return [(FUNNEL.get(name, name), count, 100 * count / largest) for name, count in funnel.items()]


def _formula(formula: str) -> str:
    """SrTiO3 with its amounts as subscripts."""
    return re.sub(r"(\d+)", r"<sub>\1</sub>", html.escape(formula))


def _space_group(symbol: str) -> str:
    """Hermann-Mauguin symbol as printed: P6_3/mmc with a subscript, R-3c with a bar over the 3."""
    subscripts = re.sub(r"_(\d)", r"<sub>\1</sub>", html.escape(symbol or "unknown"))
    return re.sub(r"-(\d)", r'<span class="bar-over">\1</span>', subscripts)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)
