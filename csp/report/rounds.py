"""A picture of a deep search: the lowest energy, and what share of the low crystals is found, as it went."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

from csp.report.energy_volume import STYLE
from csp.search.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_rounds", "rounds_bars", "rounds_svg"]

ENERGY, SHARE = "#2f6db3", "#c8641b"
BARS, MOST_BARS = "▁▂▃▄▅▆▇█", 60


def rounds_bars(history: History) -> str:
    """The same for a terminal: two lines with a bar for each round, or for each of 60 evenly chosen ones."""
    rounds, n = history.rounds, min(len(history.rounds), MOST_BARS)
    shown = [rounds[round(k * (len(rounds) - 1) / max(1, n - 1))] for k in range(n)]
    known = [one.lowest_ev_per_atom for one in shown if one.lowest_ev_per_atom is not None]
    lines = []
    if known:
        above = [1000 * (energy - known[-1]) for energy in known]
        bars = "".join(_bar(one / above[0] if above[0] > 0 else 0.0) for one in above)
        told = f"{above[0]:.1f} to 0 meV/atom above the last" if above[0] >= 0.05 else "not lowered"
        lines.append(f"lowest so far    {' ' * (n - len(known))}{bars}  {told}")
    shares = [one.completeness.share for one in shown]
    bars = "".join(_bar(share) for share in shares)
    lines.append(
        f"found, estimated {bars}  {100 * shares[0]:.0f} to {100 * shares[-1]:.0f} % of the low ones"
    )
    return "\n".join(lines)


def _bar(share: float) -> str:
    return BARS[round(share * (len(BARS) - 1))]


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
