"""A formula under pressure: the figure of enthalpies, a page, and files."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from csp.files import write_text
from csp.ranking.enthalpies import Enthalpies
from csp.report.energy_volume import STYLE
from csp.report.page import render_pressures
from csp.report.terminal import plain_table
from csp.search.under_pressure import UnderPressure

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["enthalpies_picture", "folder_of", "pressure_table", "write_pressures"]

COLOURS = ("#2f6db3", "#c8641b", "#3b8a4e", "#8b4fa0", "#8a6d1c", "#3d434d", "#b03a57", "#2a8c8c")
SHOWN = 8  # curves, of the crystals that come nearest to the lowest
HIGHEST = 0.3  # eV/atom above the reference that the figure shows
DECIMALS = 6


def shown(enthalpies: Enthalpies) -> list[int]:
    """The places of the crystals that come nearest to the lowest at any pressure, nearest first."""
    nearest = np.nanmin(enthalpies.enthalpy - np.nanmin(enthalpies.enthalpy, axis=0), axis=1)
    return np.argsort(nearest, kind="stable")[:SHOWN].tolist()


def folder_of(out: Path, pressure: float) -> Path:
    """The folder of the prediction at one of several pressures."""
    return out / f"{pressure:g}GPa"


def enthalpies_picture(found: UnderPressure, form: Literal["svg", "png"] = "svg") -> bytes:
    """Enthalpies above that of the crystal that is lowest at the lowest pressure."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    enthalpies = found.enthalpies
    places = shown(enthalpies)
    reference = max(int(enthalpies.lowest[0]), 0)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        axes = figure.add_subplot()
        for colour, place in zip(COLOURS, places, strict=False):
            above = 1000 * (enthalpies.curves[place] - enthalpies.curves[reference])
            nodes = 1000 * (enthalpies.enthalpy[place] - enthalpies.enthalpy[reference])
            axes.plot(enthalpies.grid, above, color=colour, label=found.phases[place].name)
            axes.plot(enthalpies.pressures, nodes, "o", markersize=4, color=colour)
        for transition in enthalpies.transitions():
            axes.axvline(transition.pressure, color="#c9cdd3", linestyle="--", linewidth=1)
            axes.annotate(
                f"{transition.pressure:.1f} GPa",
                (transition.pressure, 1),
                (3, -10),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                fontsize=8,
                color="#5c636e",
            )
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -1000 * HIGHEST), min(high, 1000 * HIGHEST))
        axes.set_xlabel("pressure (GPa)")
        axes.set_ylabel(f"H above {found.phases[reference].name} (meV/atom)")
        axes.legend(frameon=False, fontsize=8)
        image = io.BytesIO()
        if form == "png":
            figure.savefig(image, format="png", dpi=110)
        else:
            undated = {"Date": None, "Creator": None}
            figure.savefig(image, format="svg", transparent=True, metadata=undated)
    return image.getvalue()


def pressure_table(found: UnderPressure) -> Table:
    """Enthalpies above the lowest at each pressure, for a terminal."""
    enthalpies = found.enthalpies
    table = plain_table(
        "crystal",
        title=f"{found.formula} under pressure · {found.label}",
        caption="ΔH meV/atom above the lowest of each pressure",
        title_justify="left",
        caption_justify="left",
    )
    for pressure in enthalpies.pressures:
        table.add_column(f"{pressure:g} GPa", justify="right", no_wrap=True)
    above = 1000 * (enthalpies.enthalpy - np.nanmin(enthalpies.enthalpy, axis=0))
    for place in shown(enthalpies):
        cells = ["" if not math.isfinite(x) else f"{x:.1f}" for x in above[place]]
        table.add_row(found.phases[place].name, *cells)
    return table


def write_pressures(found: UnderPressure, folder: Path) -> None:
    """Write `pressures.svg`, `pressures.html` and, last, `pressures.json`."""
    svg = enthalpies_picture(found).decode()
    svg = svg[svg.index("<svg") :]
    reports = [f"{folder_of(folder, gpa).name}/report.html" for gpa in found.pressures]
    write_text(folder / "pressures.svg", svg)
    write_text(folder / "pressures.html", render_pressures(_told(found), svg, reports))
    write_text(
        folder / "pressures.json",
        json.dumps(_told(found), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
    )


def _told(found: UnderPressure) -> dict[str, Any]:
    enthalpies = found.enthalpies
    transitions = enthalpies.transitions()
    lowest = np.nanmin(enthalpies.enthalpy, axis=0)
    phases = [
        {
            "name": phase.name,
            "spacegroup": phase.spacegroup,
            "spacegroup_number": phase.spacegroup_number,
            "known_as": list(phase.known_as),
            "found_at_gpa": list(phase.found_at),
            "enthalpy_ev_per_atom": _numbers(enthalpies.enthalpy[k]),
            "above_lowest_ev_per_atom": _numbers(enthalpies.enthalpy[k] - lowest),
            "volume_per_atom": _numbers(enthalpies.volume[k]),
        }
        for k, phase in enumerate(found.phases)
    ]
    return {
        "formula": found.formula,
        "label": str(found.label),
        "answer": " ".join(found.answer()),
        "models": list(found.models),
        "pressures_gpa": enthalpies.pressures.tolist(),
        "transitions": [
            {
                "pressure_gpa": round(one.pressure, 2),
                "below": found.phases[one.below].name,
                "above": found.phases[one.above].name,
                "volume_change": round(one.volume_change, 4),
                "words": found.words(one),
            }
            for one in transitions
        ],
        "phases": [phases[k] for k in np.argsort([min(_finite(p)) for p in phases], kind="stable")],
        "model_disagreement_ev_per_atom": _numbers(found.disagreement),
        "model_sigma_ev_per_atom": _numbers(found.sigma),
        "warnings": found.warnings,
    }


def _finite(phase: dict[str, Any]) -> list[float]:
    return [value for value in phase["above_lowest_ev_per_atom"] if value is not None]


def _numbers(values: Any) -> list[float | None]:
    return [round(float(x), DECIMALS) if math.isfinite(x) else None for x in values]
