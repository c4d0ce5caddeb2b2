"""The phase diagram of a system as a picture: two elements and sections as energies, three as a triangle,
more as triangles of three each."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from csp.formula import read_formula
from csp.report.energy_volume import STYLE
from csp.report.hull_diagram import FOUND, INK, LINE, in_triangle, printed, shares_of
from csp.systems.diagram import ON_IT, Diagram
from csp.systems.phases import SystemPhase
from csp.systems.system import ChemicalSystem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["diagram_png", "diagram_svg"]

SHOWN = 0.2  # eV/atom above the hull; what is higher has the colour of this, or is not drawn over a section
TRIANGLES = 6  # of four elements or more: those with the most compounds
WIDE, HIGH = 0.11, 0.045  # of a name, as shares of a figure
NEW = "not in the library"

Links = dict[int, str]
"""By the id of a phase, where a click on its mark leads."""


def diagram_svg(system: ChemicalSystem, diagram: Diagram, links: Links) -> str:
    """The picture as SVG; equal diagrams give equal text."""
    import matplotlib as mpl

    with mpl.rc_context({**STYLE, "text.usetex": False, "svg.hashsalt": "explore"}):
        text = io.StringIO()
        _figure(system, diagram, links).savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]  # HTML has no place for an XML declaration


def diagram_png(system: ChemicalSystem, diagram: Diagram, path: Path) -> None:
    """The picture as PNG, into a file."""
    import matplotlib as mpl

    with mpl.rc_context({**STYLE, "text.usetex": False}):
        _figure(system, diagram, {}).savefig(path, format="png", dpi=150)


def _figure(system: ChemicalSystem, diagram: Diagram, links: Links) -> Figure:
    from matplotlib.figure import Figure

    elements = system.elements
    if len(system.ends) == 2:
        figure = Figure(figsize=(7.4, 5.2), layout="constrained")
        _section(figure.add_subplot(), diagram, system.ends, links)
    elif len(elements) == 2:
        figure = Figure(figsize=(7.4, 5.2), layout="constrained")
        _binary(figure.add_subplot(), diagram, elements, links)
    elif len(elements) == 3:
        figure = Figure(figsize=(8.0, 6.4), layout="constrained")
        _ternary(figure.add_subplot(), diagram, elements, links)
    else:
        figure = _triangles(diagram, elements, links)
    label = diagram.phases[0].label if diagram.phases else ""
    figure.suptitle(f"{system.name}\n{label}", fontsize=10, color=INK)
    return figure


# -- two elements, and sections -------------------------------------------------------------------------


def _binary(axes: Axes, diagram: Diagram, elements: Sequence[str], links: Links) -> None:
    def place(phase: SystemPhase) -> tuple[float, float]:
        return shares_of(phase.formula, elements)[1], diagram.formation(phase)

    stable = sorted(diagram.stable, key=place)
    axes.plot(*zip(*map(place, stable), strict=True), "-", color=LINE, lw=1.2, zorder=1)
    drawn = [phase for phase in diagram.phases if diagram.above(phase) <= SHOWN]
    _marks(axes, diagram, drawn, place, links)
    _names(axes, stable, place)
    _energy_axes(axes, f"share of {elements[1]} atoms", "formation energy, eV/atom")


def _section(axes: Axes, diagram: Diagram, ends: Sequence[str], links: Links) -> None:
    """Energies above the mixture of the two ends, of the phases between them; the line is the hull of the
    whole system there, which other phases may be part of."""
    first, second = (_counts(end) for end in ends)
    energies = [
        diagram.lowest[end].energy_ev_per_atom if end in diagram.lowest else diagram.hull_energy(end)
        for end in ends
    ]

    def mixed(x: float) -> float:
        """eV/atom of the ends at a share x of the second's formula units."""
        n = (1 - x) * sum(first.values()), x * sum(second.values())
        return (n[0] * energies[0] + n[1] * energies[1]) / (n[0] + n[1])

    def place(phase: SystemPhase) -> tuple[float, float]:
        x = _share_of_second(phase.formula, first, second)
        assert x is not None
        return x, phase.energy_ev_per_atom - mixed(x)

    xs = np.linspace(0, 1, 101)
    hull = [diagram.hull_energy(_mixture(x, first, second)) - mixed(x) for x in xs.tolist()]
    axes.plot(xs, hull, "-", color=LINE, lw=1.2, zorder=1)
    inside = [p for p in diagram.phases if _share_of_second(p.formula, first, second) is not None]
    _marks(axes, diagram, [p for p in inside if diagram.above(p) <= SHOWN], place, links)
    named = {p.formula: p for p in inside if diagram.lowest[p.formula] is p}
    _names(axes, sorted(named.values(), key=diagram.above)[:10], place)
    what = f"share of {printed(ends[1])} in {printed(ends[0])} and {printed(ends[1])}"
    _energy_axes(axes, what, "energy above the mixture of the ends, eV/atom")


def _names(
    axes: Axes, phases: Sequence[SystemPhase], place: Callable[[SystemPhase], tuple[float, float]]
) -> None:
    """Names below their marks, and further below where those of neighbours would meet."""
    before, depth = -math.inf, 0
    for phase in sorted(phases, key=place):
        x, y = place(phase)
        depth = (depth + 1) % 3 if x - before < WIDE else 0
        before = x
        axes.annotate(printed(phase.formula), (x, y), (0, -13 - 9 * depth), textcoords="offset points",
                      ha="center", fontsize=8, color=INK)  # fmt: skip


def _energy_axes(axes: Axes, x: str, y: str) -> None:
    axes.axhline(0, color=INK, lw=0.5)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.margins(x=0.06, y=0.16)
    axes.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)


def _share_of_second(formula: str, first: dict[str, int], second: dict[str, int]) -> float | None:
    """Of formula units; None: it does not lie between the two."""
    counts = _counts(formula)
    elements = sorted({*counts, *first, *second})
    ends = np.array([[end.get(e, 0) for e in elements] for end in (first, second)], float).T
    wanted = np.array([counts.get(e, 0) for e in elements], float)
    units, *_ = np.linalg.lstsq(ends, wanted, rcond=None)
    if np.abs(ends @ units - wanted).max() > 1e-6 or units.min() < -1e-9:
        return None
    return float(units[1] / units.sum())


def _mixture(x: float, first: dict[str, int], second: dict[str, int]) -> str:
    """As pymatgen reads it."""
    amounts = {e: (1 - x) * first.get(e, 0) + x * second.get(e, 0) for e in {**first, **second}}
    return "".join(f"{e}{n:.10f}" for e, n in amounts.items() if n > 1e-9)


def _counts(formula: str) -> dict[str, int]:
    return dict(read_formula(formula).counts)


# -- three elements, and more ------------------------------------------------------------------------------


def _ternary(axes: Axes, diagram: Diagram, elements: Sequence[str], links: Links) -> None:
    def place(phase: SystemPhase) -> tuple[float, float]:
        return in_triangle(shares_of(phase.formula, elements))

    inside = [phase for phase in diagram.lowest.values() if set(_counts(phase.formula)) <= set(elements)]
    here = Diagram(tuple(elements), inside)  # a face of a hull is the hull of its own phases
    for one, other in _edges(here):
        axes.plot(*zip(one, other, strict=True), "-", lw=0.8, color=LINE, zorder=1)
    stable = here.stable
    _marks(axes, here, [*stable, *(p for p in inside if here.above(p) > ON_IT)], place, links, coloured=True)
    taken: list[tuple[float, float]] = []
    for phase in sorted(
        stable, key=lambda p: (p.formula not in elements, p.novelty == "known", len(p.formula))
    ):
        x, y = place(phase)
        if all(abs(x - a) > WIDE or abs(y - b) > HIGH for a, b in taken):
            taken.append((x, y))
            axes.annotate(printed(phase.formula), (x, y), (0, 6), textcoords="offset points", ha="center",
                          fontsize=8, color=INK)  # fmt: skip
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(-0.08, 1.02))


def _triangles(diagram: Diagram, elements: Sequence[str], links: Links) -> Figure:
    from matplotlib.figure import Figure

    def compounds(some: Sequence[str]) -> int:
        return sum(len(_counts(f)) > 1 and set(_counts(f)) <= set(some) for f in diagram.lowest)

    faces = sorted(combinations(elements, 3), key=lambda some: -compounds(some))[:TRIANGLES]
    columns = min(3, len(faces)) if len(faces) != 4 else 2
    rows = -(-len(faces) // columns)
    figure = Figure(figsize=(4.6 * columns, 4.2 * rows), layout="constrained")
    for k, face in enumerate(faces, start=1):
        _ternary(axes := figure.add_subplot(rows, columns, k), diagram, face, links)
        axes.set_title("-".join(face), fontsize=9, color=INK)
    return figure


def _edges(diagram: Diagram) -> set[tuple[tuple[float, float], tuple[float, float]]]:
    """Which phases are together on a face of the hull: the ends of the lines between them."""
    pd: Any = diagram.pymatgen
    places = [in_triangle(shares_of(entry.name, diagram.elements)) for entry in pd.qhull_entries]
    pairs = {pair for facet in pd.facets for pair in combinations(sorted(map(int, facet)), 2)}
    return {(places[i], places[j]) for i, j in pairs}


# -- marks ----------------------------------------------------------------------------------------------


def _marks(
    axes: Axes,
    diagram: Diagram,
    phases: Sequence[SystemPhase],
    place: Any,
    links: Links,
    *,
    coloured: bool = False,
) -> None:
    """Stable phases filled, others open or in the colour of their distance; new ones orange. Each a link."""
    on_it = {id(phase) for phase in diagram.stable}
    kinds = (
        ("stable, known", True, True, LINE),
        ("stable, " + NEW, True, False, FOUND),
        ("above the hull, known", False, True, LINE),
        ("above the hull, " + NEW, False, False, FOUND),
    )
    shades = None
    for label, stable, known, colour in kinds:
        own = [p for p in phases if (id(p) in on_it) == stable and (p.novelty == "known") == known]
        if not own:
            continue
        xs, ys = zip(*map(place, own), strict=True)
        much = [min(1000 * diagram.above(p), 1000 * SHOWN) for p in own]
        style: dict[str, Any] = {"color": colour} if stable else {"facecolors": "white", "edgecolors": colour}
        if coloured and not stable:
            style = {"c": much, "cmap": "viridis_r", "vmin": 0, "vmax": 1000 * SHOWN, "edgecolors": colour}
        marks = axes.scatter(xs, ys, s=40 if stable else 24, label=label, zorder=3 if stable else 2,
                             marker="o" if stable else "s", linewidths=1.0, **style)  # fmt: skip
        marks.set_urls([links.get(id(p)) for p in own])
        shades = marks if coloured and not stable else shades
    if shades is not None:
        bar = axes.figure.colorbar(shades, ax=axes, shrink=0.5, extend="max")
        bar.set_label("meV/atom above the hull", fontsize=8)
        bar.ax.tick_params(labelsize=8)
