"""A powder pattern and the crystals that were compared with it: fields of tables, a figure, files."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from csp.crystallography.symmetry import symmetrized
from csp.crystals import Crystals
from csp.diffraction.fit import Fitted
from csp.diffraction.pattern import Floats
from csp.diffraction.sample import Identified
from csp.files import replacing_folder
from csp.matching.niggli import cell_parameters
from csp.report.energy_volume import STYLE
from csp.report.spreadsheet import csv_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["fit_details", "pattern_svg", "write_patterns"]

SYMPREC = 0.05  # Å
TICKS = 400  # reflections that are marked at most, the strongest
MEASURED, CALCULATED, DIFFERENCE = "#8a8f98", "#c8641b", "#2f6db3"
OTHERS = ("#3b8a4e", "#8b4fa0", "#8a6d1c")  # known other phases


def fit_details(fitted: Fitted, crystal: Crystals) -> dict[str, Any]:
    """What the fit of one crystal found: cell, shifts, widths, alignment, shares of weight.

    Args:
        crystal: The fit's last phase, as it was before the fit.
    """
    k = len(fitted.phases) - 1
    phase, own = fitted.phases[k], fitted.of_phase(k)
    s = phase.n_strains
    strain = np.tensordot(own[:s], phase.reflections.strains, 1)
    moved = crystal.with_geometry(crystal.cell @ torch.from_numpy(np.eye(3) + strain), crystal.frac)
    weights = [
        scale * one.reflections.volume * one.reflections.mass
        for scale, one in zip(fitted.scales, fitted.phases, strict=True)
    ]
    r = float(np.exp(own[s + 3]))
    return {
        "cell_before": _parameters(crystal),
        "cell_fitted": _parameters(moved),
        "volume_change_percent": 100 * (float(np.linalg.det(np.eye(3) + strain)) - 1),
        "zero_shift_degrees": float(fitted.parameters[0]),
        "lorentzian_share": float(fitted.parameters[1]),
        "width_w_degrees": float(np.exp(own[s])),
        "width_u_degrees": float(own[s + 1]),
        "thermal_b_ang2": float(own[s + 2]),
        "march_r": 1.0 if phase.axis is None else r,
        "march_axis": "" if phase.axis is None else phase.reflections.axis_names[phase.axis],
        "weight_share": weights[k] / sum(weights) if sum(weights) > 0 else 0.0,
    }


def pattern_svg(found: Identified, k: int, title: str = "") -> str:
    """Measured and calculated intensities of crystal k, marks of its reflections, and the difference, as SVG.

    The text is empty for a crystal that was not fitted.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    fitted = found.found[k].fitted
    if fitted is None:
        return ""
    with mpl.rc_context({**STYLE, "path.simplify_threshold": 0.4, "text.parse_math": False}):
        figure = Figure(figsize=(7.6, 4.2), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        _draw(upper, found, fitted)
        left = found.measured.pattern.intensity - fitted.total
        lower.plot(found.measured.grid, left, color=DIFFERENCE, linewidth=0.8)
        lower.axhline(0, color="#c9cdd3", linewidth=0.8, zorder=0)
        lower.set_ylabel("difference")
        lower.set_xlabel(f"2θ (°), {found.measured.pattern.radiation.name}")
        if title:
            upper.set_title(title, fontsize=10, color="#3d434d", loc="left")
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def write_patterns(
    folder: Path, found: Identified, crystals: Crystals, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Write `pattern.json`, `pattern.csv` and a figure of each fitted crystal (`001.svg` of the first row …)
    into a folder, all or nothing; what was there is replaced.

    Args:
        rows: What is known of each crystal beside the fit, in the order of the crystals.
    """
    entries = []
    with replacing_folder(folder) as fresh:
        for k, row in enumerate(rows):
            entry = {**row, "misfit": found.found[k].misfit, "overlap": found.found[k].overlap}
            fitted = found.found[k].fitted
            if fitted is not None:
                entry |= fit_details(fitted, crystals[k]) | {"figure": f"{k + 1:03d}.svg"}
                title = f"{row['name']}: R_wp {100 * found.found[k].r_wp:.1f} %"
                (fresh / entry["figure"]).write_text(pattern_svg(found, k, title), encoding="utf-8")
            entries.append({name: _rounded(value) for name, value in entry.items()})
        (fresh / "pattern.json").write_text(_json(found, entries), encoding="utf-8")
        (fresh / "pattern.csv").write_text(_csv(entries), encoding="utf-8")


def _draw(axes: Axes, found: Identified, fitted: Fitted) -> None:
    grid, y = found.measured.grid, found.measured.pattern.intensity
    axes.plot(grid, y, color=MEASURED, linewidth=1.8, alpha=0.7, label="measured")
    for k, name in enumerate(found.impurities[: len(fitted.phases) - 1]):
        colour = OTHERS[k % len(OTHERS)]
        axes.plot(grid, fitted.background + fitted.calculated[k], color=colour, linewidth=0.8, label=name)
    axes.plot(grid, fitted.total, color=CALCULATED, linewidth=0.9, label="calculated")
    axes.plot(grid, fitted.background, color="#5c636e", linewidth=0.7, linestyle=":", label="background")
    place = _ticks(fitted)
    base, top = float(y.min()), float(y.max())
    axes.vlines(
        place, base - 0.07 * (top - base), base - 0.02 * (top - base), color=CALCULATED, linewidth=0.6
    )
    axes.set_ylabel("intensity")
    axes.set_xlim(grid[0], grid[-1])
    axes.legend(frameon=False, loc="upper right", fontsize=8)


def _ticks(fitted: Fitted) -> Floats:
    """Places of the strongest reflections on the first line of the radiation."""
    k = len(fitted.phases) - 1
    phase = fitted.phases[k]
    lines = phase.lines(fitted.of_phase(k))
    n = len(phase.reflections)
    place, height = lines.place[:n] + fitted.parameters[0], lines.intensity[:n]
    return place[np.argsort(-height)[:TICKS]]


def _parameters(crystal: Crystals) -> list[float]:
    """a, b, c, Å, and α, β, γ, degrees, of the conventional cell, or of its own where there is none."""
    symmetric = symmetrized(crystal, SYMPREC)
    lengths, angles = cell_parameters(crystal.cell if symmetric is None else symmetric.conventional.cell)
    return [*lengths[0].tolist(), *angles[0].tolist()]


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, 6) if isinstance(value, float) else value


def _json(found: Identified, entries: list[dict[str, Any]]) -> str:
    pattern = found.measured.pattern
    content = {
        "pattern": pattern.name,
        "radiation": pattern.radiation.name,
        "lines": [list(line) for line in pattern.radiation.lines],
        "two_theta_degrees": [round(float(pattern.two_theta[k]), 4) for k in (0, -1)],
        "impurities": list(found.impurities),
        "probability_of_none": round(found.none, 6),
        "results": entries,
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _csv(entries: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    return csv_text(names, ({name: _flat(value) for name, value in entry.items()} for entry in entries))


def _flat(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list) else value
