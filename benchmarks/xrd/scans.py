"""Real scans of mixtures: is the right polymorph of each phase first among the known crystals?"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from csp.crystals import Crystals
from csp.diffraction.fit import Measured
from csp.diffraction.identify import Comparison, compare, fit_known
from csp.diffraction.probability import PatternProbability, evidence
from csp.diffraction.read import read_pattern
from csp.errors import InputError
from csp.library.library import Library
from csp.matching.matcher import Matcher
from csp.report.pattern import fit_details
from csp.target import Target

__all__ = ["measure_scans"]

MAX_ATOMS = 120
FITTED = 6
PHASE = re.compile(r"([A-Z][A-Za-z0-9]*)_(\d+p\d+)")
RIGHT = {
    "TiO2": "mp-390",
    "ZnO": "mp-2133",
    "V2O5": "mp-25279",
    "ZrO2": "mp-2858",
    "NiO": "mp-19009",
    "In2O3": "mp-22598",
    "Li2CO3": "mp-3054",
}
"""The everyday polymorphs: anatase, zincite, shcherbinaite, baddeleyite, bunsenite, bixbyite's structure and
zabuyelite.
Files do not say whether TiO2 is anatase or rutile."""


def measure_scans(
    folder: Path, libraries: Sequence[Path], say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """One entry for each phase of each scan, with the other phase unknown ("unknown") and with its formula
    told ("told").

    Scans are named as those of the data set of Dara are: V2O5_0p4005-NiO_0p6016--8min.xrdml, with the shares
    of weight.

    Raises:
        InputError: There is none, or the libraries lack its crystals.
    """
    opened = [Library.open(path) for path in libraries]
    scans = sorted(path for path in folder.iterdir() if len(PHASE.findall(path.name)) > 1)
    if not scans:
        raise InputError(f"There are no scans named like A_0p40-B_0p60.xrdml in {folder}.")
    found = []
    for path in scans:
        measured = Measured.of(read_pattern(path))
        phases = {name: float(share.replace("p", ".")) for name, share in PHASE.findall(path.name)}
        crystals = {name: _known(opened, name) for name in phases}
        for name, share in phases.items():
            names, some = crystals[name]
            others = [crystals[other][1] for other in phases if other != name]
            for way, beside in (("unknown", None), ("told", fit_known(measured, others))):
                compared = compare(measured, some, beside, most=FITTED)
                found.append(
                    {"scan": path.name, "phase": name, "way": way, "weight": share / sum(phases.values())}
                    | _placed(name, names, some, compared)
                )
                say(_told(found[-1]))
    return found


def _known(libraries: Sequence[Library], formula: str) -> tuple[list[str], Crystals]:
    """Names and crystals of a formula, of all libraries."""
    target = Target.parse(formula)
    names, crystals = list[str](), list[Crystals]()
    for library in libraries:
        rows = library.own_rows(target)
        rows = rows[library.n_atoms[rows] <= MAX_ATOMS]
        names += library.material_id[rows].astype(str).tolist()
        crystals.append(library.crystals(rows))
    if RIGHT.get(formula) not in names:
        raise InputError(f"The libraries have no crystal {RIGHT.get(formula)} of {formula}.")
    return names, Crystals.cat(crystals)


def _placed(
    formula: str, names: list[str], crystals: Crystals, compared: Sequence[Comparison]
) -> dict[str, Any]:
    """Where the right crystal is."""
    right = names.index(RIGHT[formula])
    same = Matcher.DEFAULT.fits(crystals[right], crystals).numpy()
    x = evidence(compared)
    probability = PatternProbability.load()
    order = np.argsort(-(x @ np.array(probability.weights)), kind="stable")
    p = probability(x)
    rank = 1 + int(np.flatnonzero(same[order])[0])
    next_best = min((compared[k].misfit for k in range(len(names)) if not same[k]), default=1.0)
    best = int(order[0])
    fitted = compared[best].fitted
    return {
        "crystals": len(names),
        "first": names[best],
        "rank": rank,
        "rank_of_the_very_one": 1 + order.tolist().index(right),
        "probability": float(p[same].sum()),
        "misfit": compared[best].misfit,
        "next_misfit": next_best,
        "r_wp": compared[best].r_wp,
        "weight_found": fit_details(fitted, crystals[best])["weight_share"] if fitted else 0.0,
    }


def _told(entry: dict[str, Any]) -> str:
    return (
        f"{entry['scan']:44} {entry['phase']:7} other phase {entry['way']:8} {entry['first']} first of "
        f"{entry['crystals']}, right one {entry['rank']}., misfit {entry['misfit']:.2f}, "
        f"next {entry['next_misfit']:.2f}, weight {entry['weight']:.2f} found {entry['weight_found']:.2f}"
    )
