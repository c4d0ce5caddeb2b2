"""Phases of made-up energies: where the atoms are does not matter to a hull."""

from __future__ import annotations

import numpy as np
from pymatgen.core import Composition

from csp.crystals import Crystals
from csp.systems.phases import SystemPhase

__all__ = ["phase"]


def phase(
    formula: str, energy: float, *, novelty: str = "known", label: str = "m", name: str = ""
) -> SystemPhase:
    """A crystal of one formula unit, simple cubic cells in a row."""
    numbers = [e.Z for e, n in Composition(formula).items() for _ in range(int(n))]
    frac = np.array([[k / len(numbers), 0.0, 0.0] for k in range(len(numbers))])
    crystal = Crystals.from_arrays([np.diag([3.0 * len(numbers), 3.0, 3.0])], [frac], [numbers])
    return SystemPhase(
        formula=formula,
        energy_ev_per_atom=energy,
        label=label,
        space_group="P4/mmm",
        space_group_number=123,
        entry=name or f"x-{formula}" if novelty == "known" else "",
        novelty=novelty,
        search="",
        rank=0,
        sigma_ev_per_atom=None,
        crystal=crystal,
        row={},
    )
