"""One picture of a ranking: the best crystals, and energy against volume of all."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from csp.crystallography.symmetry import reported_symmetrized
from csp.crystals import Crystals
from csp.report.energy_volume import STYLE, draw_energy_volume
from csp.search.prediction import Prediction

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["ranking_png"]

SHOWN = 6  # crystals
RADII = 0.6  # of the covalent ones
ON_FACE = 0.01  # fractional
VIEW = "-80x,-20y,5z"  # from the side, a little from above


def ranking_png(prediction: Prediction, *, symprec: float) -> bytes:
    """PNG of a ranking that is not empty; crystals in their symmetrised conventional cells (symprec, Å)."""
    import matplotlib as mpl
    from ase.visualize.plot import plot_atoms
    from matplotlib.figure import Figure

    with mpl.rc_context({**STYLE, "text.usetex": False}):
        figure = Figure(figsize=(12.0, 5.2), layout="constrained")
        grid = figure.add_gridspec(2, 6)
        for k, result in enumerate(prediction.results[:SHOWN]):
            axes = figure.add_subplot(grid[k // 3, k % 3])
            atoms = _whole_cell(_conventional(prediction.crystals[k], symprec))
            plot_atoms(atoms, axes, rotation=VIEW, radii=RADII, show_unit_cell=2)
            axes.set_axis_off()
            title = f"{result.rank}  {_printed(result.spacegroup)}  +{result.above_lowest:.1f} meV/atom"
            axes.set_title(title, fontsize=10, color="#3d434d")
        draw_energy_volume(figure.add_subplot(grid[:, 3:]), prediction)
        figure.suptitle(prediction.target.formula)
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=80)
    return image.getvalue()


def _whole_cell(crystal: Crystals) -> Atoms:
    """One crystal's atoms in the cell and on all of its faces."""
    (atoms,) = crystal.atoms()
    atoms.wrap(eps=ON_FACE)
    images = atoms.repeat(2)
    inside = (atoms.cell.scaled_positions(images.positions) < 1 + ON_FACE).all(axis=1)
    images = images[inside]
    images.set_cell(atoms.cell)
    return images


def _conventional(crystal: Crystals, symprec: float) -> Crystals:
    symmetric = reported_symmetrized(crystal, symprec)
    return crystal if symmetric is None else symmetric.conventional


def _printed(symbol: str) -> str:
    """Hermann-Mauguin symbol in matplotlib's own mathematics: P6_3/mmc, R-3c."""
    text = re.sub(r"-(\d)", r"\\bar{\1}", symbol or "?")
    return f"${text}$"
