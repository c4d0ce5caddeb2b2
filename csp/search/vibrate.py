"""Phonons of crystals of one's own: as those of a search, and down imaginary modes until there are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from csp.crystals import Crystals
from csp.lattice_dynamics.phonons import Phonons
from csp.protocols import EnergyModel
from csp.relaxation.relax import RelaxationResult
from csp.search.dynamics import MOST_ROUNDS, Dynamics
from csp.search.stages import PHONON_STEPS, WHOLE
from csp.settings import SearchSettings
from csp.store.store import Store

__all__ = ["Vibrated", "vibrate"]


@dataclass(frozen=True, slots=True, eq=False)
class Vibrated:
    """One crystal and its phonons.

    Attributes:
        crystal: As it was relaxed, exactly symmetric; as it was given where that failed.
        per_atom: eV/atom, energy or enthalpy; None where it could not be relaxed.
        phonons: None: `why_none`.
        way: Along which mode it lies below the one before it; "" of a crystal that was given.
    """

    crystal: Crystals
    per_atom: float | None
    phonons: Phonons | None
    why_none: str = ""
    way: str = ""


def vibrate(
    crystals: Crystals,
    model: EnergyModel,
    folder: Path,
    *,
    length: float,
    pressure: float = 0.0,
    symprec: float = 0.1,
    follow: bool = True,
    seed: int = 0,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> list[list[Vibrated]]:
    """Relax crystals and compute their phonons; of one with imaginary modes those of the lowest crystal that
    these lead to as well, and so on.

    Args:
        folder: Holds what is done, so that a call that was interrupted is gone on with.
        length: Å, about that of the supercells.
        pressure: GPa.
        symprec: Å, within which the crystals are made symmetric before they are relaxed.
        follow: Look where imaginary modes lead to.
        told: Called with (done, total) of the crystals.

    Raises:
        InputError: The folder holds a run with other settings.
    """
    settings = SearchSettings.read(
        formula="H", phonons=1, phonon_length=length, pressure=pressure, symprec=symprec, seed=seed
    )
    decisive = {"label": str(model.label), "pressure": pressure, "symprec": symprec, "seed": seed}
    store = Store.begin(folder, decisive, formula="phonons", versions={}, resume=True)
    dynamics = Dynamics(settings, store, model)
    chains = []
    for k in range(len(crystals)):
        told(k, len(crystals))
        chains.append(_down(dynamics, crystals[k], follow))
    told(len(crystals), len(crystals))
    return chains


def _down(dynamics: Dynamics, crystal: Crystals, follow: bool) -> list[Vibrated]:
    """A crystal, what its imaginary modes lead to, what those of that lead to, and so on."""
    chain, way = list[Vibrated](), ""
    steps = [step for step in PHONON_STEPS if step != "followed" and (follow or step != "follow")]
    for _ in range(MOST_ROUNDS):
        for step in steps:
            dynamics.do(0, step, crystal, WHOLE)
        chain.append(_vibrated(dynamics, crystal, way))
        below = dynamics.lower(crystal)
        if below is None:
            break
        lowest = int(dynamics.per_atom(below.result).argmin())
        crystal, way = below.result.crystals[lowest], below.ways[lowest]
    return chain


def _vibrated(dynamics: Dynamics, crystal: Crystals, way: str) -> Vibrated:
    settled: RelaxationResult | None = dynamics.settled(crystal)
    if settled is None:
        return Vibrated(crystal, None, None, dynamics.why_none(crystal), way)
    phonons = dynamics.phonons(crystal)
    why = "" if phonons is not None else dynamics.why_none(crystal)
    return Vibrated(settled.crystals, float(dynamics.per_atom(settled)[0]), phonons, why, way)
