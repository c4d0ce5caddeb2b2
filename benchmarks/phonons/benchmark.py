"""Silicon, rock salt, periclase and cubic perovskite: frequencies, stability, and where imaginary modes lead.

The crystals are relaxed by each potential, their phonons computed as `csp phonons` does, and their
transverse optical mode at Γ put beside that of DFT. Silicon and the two salts should be stable and stay;
cubic SrTiO3 should go down to a crystal with tilted octahedra that is not unstable.

Sources of the DFT frequencies are in `REFERENCE`. (Potentials have probably seen all of these crystals, and
nequix-oam-1-pft phonons of some.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from csp.crystals import Crystals
from csp.files import write_json
from csp.lattice_dynamics.phonons import Phonons, Stability
from csp.protocols import EnergyModel
from csp.report.phonons import write_vibrated
from csp.search.vibrate import Vibrated, vibrate

__all__ = ["CRYSTALS", "REFERENCE", "crystal", "measure", "tilt"]

CRYSTALS = ("Si", "NaCl", "MgO", "SrTiO3")
REFERENCE = {"Si": 15.11, "NaCl": 4.616, "MgO": 11.34}
"""THz: the transverse optical mode at Γ, without splitting of the longitudinal one. From the forces of VASP
with PBE that come with phonopy as examples (example/Si, example/NaCl, example/MgO;
BSD-3-Clause)."""
LENGTH = 10.0  # Å
TILTED = 2.0  # degrees


def crystal(name: str) -> Crystals:
    """One of `CRYSTALS`, near its measured cell."""
    from ase import Atoms
    from ase.build import bulk

    if name == "SrTiO3":
        places = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
        return Crystals.from_atoms([Atoms(name, scaled_positions=places, cell=[3.905] * 3, pbc=True)])
    kind, a = {"Si": ("diamond", 5.431), "NaCl": ("rocksalt", 5.640), "MgO": ("rocksalt", 4.212)}[name]
    return Crystals.from_atoms([bulk(name, kind, a=a)])


def measure(
    models: Sequence[EnergyModel], out: Path, *, names: Sequence[str], seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Phonons of each crystal by each model; forces that an earlier call computed are read.

    Writes a folder of figures of each model, and `summary.json`.
    """
    summary: dict[str, Any] = {"seed": seed, "length": LENGTH}
    for model in models:
        chains = []
        for name in names:
            (chain,) = vibrate(crystal(name), model, out / model.name / name, length=LENGTH, seed=seed)
            chains.append(chain)
            found = _figures(name, chain)
            summary |= {f"{model.name}.{name}.{key}": value for key, value in found.items()}
            say(f"{model.name:20} {name:8} " + ", ".join(f"{k} {v}" for k, v in found.items()))
            write_json(out / "summary.json", summary | machine(model.device))
        write_vibrated(out / model.name, names, chains, model.name)
    return summary


def _figures(name: str, chain: Sequence[Vibrated]) -> dict[str, Any]:
    first, last = chain[0], chain[-1]
    assert first.phonons is not None
    assert last.phonons is not None
    found: dict[str, Any] = {
        "lowest_thz": round(first.phonons.lowest_exact, 3),
        "acoustic_thz": round(first.phonons.acoustic, 4),
        "stable": first.phonons.stability is Stability.STABLE,
    }
    if name in REFERENCE:
        optical = _optical(first.phonons)
        found |= {"optical_thz": round(optical, 2), "optical_dft_thz": REFERENCE[name]}
    if len(chain) > 1:
        assert first.per_atom is not None
        assert last.per_atom is not None
        found |= {
            "ends_in": last.phonons.space_group,
            "end": str(last.phonons.stability),
            "lower_by_mev": round(1000 * (first.per_atom - last.per_atom), 2),
            "tilt_degrees": round(tilt(last.crystal), 1),
        }
    return found


def _optical(phonons: Phonons) -> float:
    """THz: the fourth frequency at Γ."""
    gamma = next(k for k, name in phonons.bands.names if name == "Γ")
    return phonons.bands.frequency[gamma][3]


def tilt(perovskite: Crystals) -> float:
    """Degrees: 180° less the mean angle of Ti–O–Ti, half of it: how far octahedra are turned."""
    (structure,) = perovskite.structures()
    halves = []
    for k, site in enumerate(structure):
        if site.specie.symbol == "O":
            near = [n for n in structure.get_neighbors(site, 2.6) if n.specie.symbol == "Ti"]
            a, b = sorted(near, key=lambda n: n.nn_distance)[:2]
            one, other = a.coords - structure[k].coords, b.coords - structure[k].coords
            cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
            halves.append((180 - np.degrees(np.arccos(np.clip(cosine, -1, 1)))) / 2)
    return float(np.mean(halves))
