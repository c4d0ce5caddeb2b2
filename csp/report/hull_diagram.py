"""The convex hull of two or three elements as a picture, with what the search found in it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from csp.formula import electronegativity_key
from csp.ranking.hull import ON_IT
from csp.report.energy_volume import STYLE
from csp.search.prediction import Prediction
from csp.target import Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from csp.ranking.hull import Hull, Phase

__all__ = ["FOUND", "INK", "LINE", "hull_svg", "in_triangle", "printed", "shares_of"]

STABLE = 1e-6  # eV/atom
SHOWN = 0.2  # eV/atom above the hull; what is higher has the colour of this
INK, LINE, FOUND = "#3d434d", "#1f5fa8", "#c2410c"
WIDE, HIGH = 0.1, 0.035  # of a name
HEIGHT = 3**0.5 / 2  # of a triangle of sides 1


def hull_svg(prediction: Prediction) -> str | None:
    """SVG of formation energy over composition for two elements, of the phases in a triangle for three; None
    for others and where there is no hull."""
    if prediction.hull is None or len(prediction.hull.elements) not in (2, 3):
        return None
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # without date and with fixed names, the same prediction gives the same file
    with mpl.rc_context({**STYLE, "text.usetex": False, "svg.hashsalt": "hull", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7.0, 5.4), layout="constrained")
        axes = figure.add_subplot()
        elements = sorted(prediction.hull.elements, key=electronegativity_key)
        (_binary if len(elements) == 2 else _ternary)(axes, prediction, prediction.hull, elements)
        axes.set_title(f"{'-'.join(elements)}, {prediction.label}", fontsize=10, color=INK)
        # below a triangle, whose lines leave no room
        below: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, 0)} if len(elements) == 3 else {}
        axes.legend(fontsize=8, frameon=False, **below)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return text.getvalue()


def _binary(axes: Axes, prediction: Prediction, hull: Hull, elements: Sequence[str]) -> None:
    points = sorted((shares_of(p.formula, elements)[1], p.formation_ev_per_atom, p) for p in hull.phases)
    on_it = [point for point in points if point[2].above_hull_ev_per_atom < STABLE]
    above = [point for point in points if point[2].above_hull_ev_per_atom >= STABLE]
    axes.plot(*_columns(on_it), "o-", color=LINE, label="on the hull of what the library holds")
    axes.plot(*_columns(above), "o", color=LINE, mfc="white", label="above it")
    for x, y, phase in on_it:
        axes.annotate(printed(phase.formula), (x, y), (0, -12), textcoords="offset points", ha="center",
                      fontsize=8, color=INK)  # fmt: skip
    shares = shares_of(prediction.target.formula, elements)
    by_themselves = sum(s * hull.elements[e] for s, e in zip(shares, elements, strict=True))
    found = [r.enthalpy_ev_per_atom - by_themselves for r in prediction.results]
    axes.plot([shares[1]] * len(found), found, "_", ms=12, mew=1.5, color=FOUND,
              label=f"{printed(prediction.target.formula)}, found")  # fmt: skip
    axes.axhline(0, color=INK, lw=0.5)
    axes.set_xlabel(f"share of {elements[1]} atoms")
    what = "enthalpy" if prediction.target.pressure else "energy"
    axes.set_ylabel(f"formation {what}, eV/atom")
    axes.margins(y=0.12)


def _ternary(axes: Axes, prediction: Prediction, hull: Hull, elements: Sequence[str]) -> None:
    by_formula = {phase.formula: phase for phase in hull.phases}
    for one, other in _edges(hull):
        ends = [in_triangle(shares_of(formula, elements)) for formula in (one, other)]
        axes.plot(*zip(*ends, strict=True), "-", lw=0.8, color=LINE, zorder=1)
    on_it = [p for p in by_formula.values() if p.above_hull_ev_per_atom < STABLE]
    above = [p for p in by_formula.values() if p.above_hull_ev_per_atom >= STABLE]
    axes.plot(
        *_places(on_it, elements), "o", color=LINE, zorder=2, label="on the hull of what the library holds"
    )
    if above:
        much = [min(1000 * p.above_hull_ev_per_atom, 1000 * SHOWN) for p in above]
        dots = axes.scatter(*_places(above, elements), c=much, cmap="viridis_r", s=22, zorder=2, marker="s",
                            vmin=0, vmax=1000 * SHOWN, label="above it")  # fmt: skip
        axes.figure.colorbar(dots, ax=axes, shrink=0.6, label="meV/atom above the hull", extend="max")
    for phase in _labelled(on_it, elements):
        axes.annotate(printed(phase.formula), in_triangle(shares_of(phase.formula, elements)), (0, 6),
                      textcoords="offset points", ha="center", fontsize=8, color=INK)  # fmt: skip
    there = in_triangle(shares_of(prediction.target.formula, elements))
    known = [r.e_above_hull_ev_per_atom for r in prediction.results]
    best = min((above for above in known if above is not None), default=None)
    words = (
        "" if best is None else f": {abs(1000 * best):.0f} meV/atom {'above it' if best > 0 else 'below it'}"
    )
    words = ": on it" if best is not None and abs(best) < ON_IT else words
    axes.plot(*there, "*", ms=13, mfc="none", mec=FOUND, mew=1.4, zorder=3,
              label=f"{printed(prediction.target.formula)}, the lowest found{words}")  # fmt: skip
    axes.set_aspect("equal")
    axes.set_axis_off()


def _labelled(phases: Sequence[Phase], elements: Sequence[str]) -> list[Phase]:
    """Those whose names are not written over one another: elements and what the target could decompose into
    first."""
    chosen: list[tuple[Phase, tuple[float, float]]] = []
    for phase in sorted(phases, key=lambda p: (p.formula not in elements, p.share == 0, len(p.formula))):
        x, y = in_triangle(shares_of(phase.formula, elements))
        if all(abs(x - a) > WIDE or abs(y - b) > HIGH for _, (a, b) in chosen):
            chosen.append((phase, (x, y)))
    return [phase for phase, _ in chosen]


def _edges(hull: Hull) -> set[tuple[str, str]]:
    """Which phases are together on a face of the hull, as pymatgen's PhaseDiagram has them."""
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition

    entries = []
    for phase in hull.phases:
        composition = Composition(phase.formula)
        entries.append(
            PDEntry(composition, phase.energy_ev_per_atom * composition.num_atoms, name=phase.formula)
        )
    diagram: Any = PhaseDiagram(entries)
    names = [entry.name for entry in diagram.qhull_entries]
    return {
        (names[i], names[j]) for facet in diagram.facets for i, j in combinations(sorted(map(int, facet)), 2)
    }


def shares_of(formula: str, elements: Sequence[str]) -> tuple[float, ...]:
    """Of the atoms, in the order of the elements."""
    from pymatgen.core import Composition

    composition = Composition(formula)
    return tuple(float(composition.get_atomic_fraction(element)) for element in elements)


def in_triangle(shares: Sequence[float]) -> tuple[float, float]:
    """Corners: the first element left, the second right, the third above."""
    return shares[1] + shares[2] / 2, shares[2] * HEIGHT


def _places(phases: Sequence[Phase], elements: Sequence[str]) -> tuple[list[float], list[float]]:
    places = [in_triangle(shares_of(phase.formula, elements)) for phase in phases]
    return [x for x, _ in places], [y for _, y in places]


def _columns(points: Sequence[tuple[float, float, Phase]]) -> tuple[list[float], list[float]]:
    return [x for x, _, _ in points], [y for _, y, _ in points]


def printed(formula: str) -> str:
    """With its amounts below the line."""
    from ase.data import chemical_symbols

    target = Target.parse(formula)
    parts = (
        f"{chemical_symbols[z]}$_{{{n}}}$" if n > 1 else chemical_symbols[z]
        for z, n in zip(target.numbers, target.counts, strict=True)
    )
    return "".join(parts)
