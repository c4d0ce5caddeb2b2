"""A picture of a deep search: the lowest energy, and what share of the low crystals is found, as it went."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

from csp.report.energy_volume import STYLE
from csp.search.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_rounds", "rounds_svg"]

ENERGY, SHARE = "#2f6db3", "#c8641b"


def rounds_svg(history: History, timings: Mapping[str, float] | None = None) -> str:
    """Two panels over the candidates as SVG; equal histories give equal text.

    Args:
        history: Of the search.
        timings: Seconds at which rounds were closed, as `run.json` has them ("round 3": 61.2); they stand
            along the upper edge. None: no times.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.2, 4.6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        draw_rounds(above, below, history, timings or {})
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def draw_rounds(above: Axes, below: Axes, history: History, timings: Mapping[str, float]) -> None:
    """The lines and words of that figure, in `STYLE`."""
    rounds = history.rounds
    proposed = [one.proposed for one in rounds]
    known = [(one.proposed, one.lowest_ev_per_atom) for one in rounds if one.lowest_ev_per_atom is not None]
    if known:
        lowest = known[-1][1]
        above.step(
            [x for x, _ in known],
            [1000 * (e - lowest) for _, e in known],
            where="post",
            marker="o",
            markersize=3.5,
            color=ENERGY,
        )
    above.set_ylabel("lowest so far\n(meV/atom above the last)")
    above.set_ylim(bottom=0 if known and known[0][1] > known[-1][1] else None)
    shares = [one.completeness.share for one in rounds]
    low, high = zip(*(one.completeness.interval for one in rounds), strict=True)
    below.fill_between(proposed, low, high, color=SHARE, alpha=0.2, linewidth=0, label="95 %")
    below.plot(proposed, shares, marker="o", markersize=3.5, color=SHARE)
    below.set_ylim(0, 1.02)
    below.set_ylabel("share of low crystals\nfound, by estimate")
    below.set_xlabel("candidates")
    for axes in (above, below):
        axes.grid(color="#e6e8ec", linewidth=0.8)
    times = {
        one.proposed: timings[f"round {one.number}"] for one in rounds if f"round {one.number}" in timings
    }
    if len(times) > 1:
        upper = above.secondary_xaxis("top")
        shown = sorted(times)[:: max(1, len(times) // 6)]
        upper.set_xticks(shown, [f"{times[x] / 60:.1f}" for x in shown])
        upper.set_xlabel("minutes")
