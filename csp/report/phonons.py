"""Phonons of ranked crystals: a figure of bands, words, files."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from csp.crystallography.symmetry import space_group_symbol
from csp.files import replacing_folder
from csp.lattice_dynamics.evidence import ROOM, WARM
from csp.lattice_dynamics.phonons import IMAGINARY, Phonons, Stability
from csp.report.energy_volume import STYLE
from csp.search.result import Result
from csp.search.vibrate import Vibrated

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["order_with_warmth", "phonon_words", "phonons_svg", "write_phonons", "write_vibrated"]

LINE, BELOW, EDGE = "#2f6db3", "#c8641b", "#c9cdd3"
MANY = 45  # bands; more are drawn as pixels, which takes less room than lines
DECIMALS = 6
EXACT = 1e-3  # Å; of a crystal that was relaxed exactly symmetric


def phonons_svg(phonons: Phonons, title: str = "") -> str:
    """Bands along the path of high symmetry and the density of states as SVG; imaginary frequencies stand
    below zero. Equal phonons give equal text."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**STYLE, "path.simplify_threshold": 0.2, "text.parse_math": False}):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained", dpi=160)
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(4, 1))
        _draw_bands(left, phonons)
        frequency, density = phonons.dos
        right.fill_betweenx(frequency, density, color=LINE, alpha=0.25, linewidth=0)
        right.plot(density, frequency, color=LINE, linewidth=0.8)
        right.axhline(0, color=EDGE, linewidth=0.8, zorder=0)
        right.set_xlim(left=0)
        right.set_xticks([])
        right.set_xlabel("states")
        if title:
            left.set_title(title, fontsize=10, color="#3d434d", loc="left")
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _draw_bands(axes: Axes, phonons: Phonons) -> None:
    bands = phonons.bands
    place, frequency = np.array(bands.distance), np.array(bands.frequency)
    many = frequency.shape[1] > MANY
    # a path that is broken goes on at the same place: a gap in the lines
    breaks = np.flatnonzero(np.diff(place) < 1e-9) + 1
    for part in np.split(np.arange(len(place)), breaks):
        axes.plot(place[part], frequency[part], color=LINE, linewidth=0.9, rasterized=many)
        below = np.where(frequency[part] < -IMAGINARY, frequency[part], np.nan)
        axes.plot(place[part], below, color=BELOW, linewidth=1.2, rasterized=many)
    names: dict[float, list[str]] = {}
    for k, name in bands.names:
        names.setdefault(round(float(place[k]), 6), []).append(name)
    for x in names:
        axes.axvline(x, color=EDGE, linewidth=0.7, zorder=0)
    axes.axhline(0, color=EDGE, linewidth=0.8, zorder=0)
    axes.set_xticks(list(names), ["|".join(dict.fromkeys(some)) for some in names.values()], fontsize=9)
    axes.set_xlim(min(names), max(names))  # rounded: a name beyond the end would not be drawn
    axes.set_ylabel("frequency (THz), imaginary below 0")


def phonon_words(phonons: Phonons, model: str) -> str:
    """What they say of a crystal, and how they were computed, in sentences."""
    at = " ".join(f"{x:g}" for x in phonons.exact_q)
    said = {
        Stability.STABLE: "No mode is imaginary: it is stable against small displacements.",
        Stability.UNSTABLE: f"Unstable against small displacements: {phonons.lowest_exact:.1f} THz at "
        f"q = ({at}).",
        Stability.UNSURE: f"Imaginary ({phonons.lowest:.1f} THz) only between the wave vectors that the "
        "supercell holds: a larger one (phonon_length) would tell.",
    }[phonons.stability]
    if phonons.interpolated is not None:
        said = (
            f"By interpolation, as in the figure, the lowest frequency would be {phonons.interpolated:.1f} "
            f"THz; computed exactly near there it is {phonons.lowest:.1f} THz. {said}"
        )
    times = "×".join(map(str, phonons.multiples))
    return (
        f"{said} By {model}, harmonic, {phonons.displacements} displacements in supercells {times} of "
        f"{phonons.supercell_atoms} atoms, without splitting of optical modes at Γ; forces miss the acoustic "
        f"sum rule by {phonons.acoustic:.3f} THz."
    )


def order_with_warmth(results: Sequence[Result]) -> str:
    """The orders of those whose free energies are known, in a sentence; "" where there are not two."""
    known = [result for result in results if result.rank_300k is not None]
    if len(known) < 2:
        return ""
    by = {
        "0 K": sorted(known, key=lambda r: r.enthalpy_ev_per_atom),
        f"{ROOM:g} K": sorted(known, key=lambda r: r.rank_300k or 0),
        f"{WARM:g} K": sorted(known, key=lambda r: r.rank_1000k or 0),
    }
    orders = {at: ", ".join(str(result.rank) for result in some) for at, some in by.items()}
    first = orders["0 K"]
    if all(order == first for order in orders.values()):
        return f"Harmonic vibrations leave the order {first} as it is up to {WARM:g} K."
    told = "; ".join(f"{order} at {at}" for at, order in orders.items())
    return f"With harmonic vibrations the order, lowest free energy first, is {told}."


def write_phonons(folder: Path, rows: Sequence[Mapping[str, Any]], phonons: Sequence[Phonons | None]) -> None:
    """Write `phonons.json`, a figure of each crystal (`001.svg` of the first row …) and its forces as phonopy
    reads them (`001_phonopy.yaml`) into a folder, all or nothing; what was there is replaced.

    Args:
        rows: What is known of each crystal beside its phonons, with a `name`.
        phonons: None of a crystal where they are not known.
    """
    entries = []
    with replacing_folder(folder) as fresh:
        for k, (row, one) in enumerate(zip(rows, phonons, strict=True), start=1):
            if one is None:
                continue
            (fresh / f"{k:03d}.svg").write_text(phonons_svg(one, str(row["name"])), encoding="utf-8")
            (fresh / f"{k:03d}_phonopy.yaml").write_text(one.phonopy_yaml, encoding="utf-8")
            entries.append({**row, "figure": f"{k:03d}.svg", **_rounded(one.as_dict())})
        text = json.dumps({"results": entries}, ensure_ascii=False, allow_nan=False)
        (fresh / "phonons.json").write_text(text + "\n", encoding="utf-8")


def write_vibrated(
    folder: Path, names: Sequence[str], chains: Sequence[Sequence[Vibrated]], model: str
) -> list[dict[str, Any]]:
    """The files of `write_phonons`, and a CIF of each crystal, of chains of crystals: one that was given, and
    what imaginary modes led to, one after the other. Returns their rows.

    Args:
        names: Of those that were given.
        model: Name of the potential.
    """
    from pymatgen.io.cif import CifWriter

    rows, phonons, crystals = [], list[Phonons | None](), []
    for name, chain in zip(names, chains, strict=True):
        for one in chain:
            rows.append({"name": name if not one.way else f"{name}, below", **_row(one, chain[0], model)})
            phonons.append(one.phonons)
            crystals.append(one.crystal)
    write_phonons(folder / "phonons", rows, phonons)
    with replacing_folder(folder / "structures") as fresh:
        for k, crystal in enumerate(crystals, start=1):
            with warnings.catch_warnings():  # pymatgen uses what spglib deprecates
                warnings.simplefilter("ignore", DeprecationWarning)
                text = str(CifWriter(crystal.structures()[0], symprec=EXACT))
            (fresh / f"{k:03d}.cif").write_text(text, encoding="utf-8")
    return rows


def _row(one: Vibrated, given: Vibrated, model: str) -> dict[str, Any]:
    found = one.phonons
    above = None if one.per_atom is None or given.per_atom is None else one.per_atom - given.per_atom
    return {
        "model": model,
        "spacegroup": "" if found is None else space_group_symbol(found.space_group),
        "way": one.way,
        "energy_ev_per_atom": one.per_atom,
        "above_given_ev_per_atom": above,
        "dynamic_stability": "" if found is None else str(found.stability),
        "lowest_frequency_thz": None if found is None else found.lowest,
        "free_energy_300k_ev_per_atom": None if found is None else found.free_energy_at(ROOM),
        "free_energy_1000k_ev_per_atom": None if found is None else found.free_energy_at(WARM),
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return round(value, DECIMALS) if isinstance(value, float) else value
