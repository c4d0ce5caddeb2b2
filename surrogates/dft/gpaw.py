"""PBE single points by GPAW, run under the Python that it is installed for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from csp.crystals import Crystals
from csp.errors import MissingError
from csp.protocols import DONE, Label
from surrogates.dft.external import NOT_CONVERGED, RESULT, External, last_line, run
from surrogates.dft.kpoints import mesh

__all__ = ["Gpaw", "GpawSettings"]

SCRIPT = Path(__file__).with_name("gpaw_run.py")
# what Materials Project starts its spin-polarised calculations from, μB; without these elements, no spin
MAGNETIC_MOMENTS = {
    "V": 5.0, "Cr": 5.0, "Mn": 5.0, "Fe": 5.0, "Co": 5.0, "Ni": 5.0, "Mo": 5.0, "W": 5.0,
    "Ce": 5.0, "Eu": 10.0, "Gd": 7.0,
}  # fmt: skip
OTHERS_MOMENT = 0.6  # μB, of the other atoms beside a magnetic one
PROBE = """
import json, ase.data, gpaw, glob, os
names = {os.path.basename(f).split(".")[0] for p in gpaw.setup_paths for f in glob.glob(p + "/*.PBE*")}
numbers = [ase.data.atomic_numbers[name] for name in names if name in ase.data.atomic_numbers]
print(json.dumps({"version": gpaw.__version__, "elements": sorted(numbers)}))
"""


@dataclass(frozen=True, slots=True)
class GpawSettings:
    """Settings of a plane-wave PBE calculation.

    Attributes:
        cutoff: eV.
        kspacing: Å⁻¹, with the 2π; a Γ-centred mesh at least this fine.
        width: eV, of the Fermi-Dirac smearing; energies are extrapolated to zero width.
        time_limit: s for each try.
        max_atoms: Largest cell to choose for a label.
        processes: Of MPI.
    """

    cutoff: float = 520.0
    kspacing: float = 0.25
    width: float = 0.05
    functional: str = "PBE"
    max_iterations: int = 150
    time_limit: float = 1800.0
    max_atoms: int = 16
    processes: int = 1


class Gpaw(External):
    """PBE single points by GPAW (Enkovaara et al., J. Phys.: Condens. Matter 22, 253202, 2010).

    Raises:
        MissingError: The program `gpaw` is not installed or does not start.
    """

    name = "gpaw"
    datasets = "PAW dataset"

    def __init__(self, settings: GpawSettings | None = None, program: str = "gpaw") -> None:
        self.settings = settings or GpawSettings()
        found = shutil.which(program)
        if found is None:
            raise MissingError("GPAW is not installed; on Debian, `apt install gpaw gpaw-data` does it.")
        self._program = found
        s = self.settings
        text = f"GPAW {self._about['version']} PW({s.cutoff:g} eV) k {s.kspacing:g}/Å FD {s.width:g} eV"
        self.label = Label(s.functional, "none", text)
        self.elements = frozenset(self._about["elements"])
        self.max_atoms = s.max_atoms

    @cached_property
    def _about(self) -> dict[str, Any]:
        """Version and elements with a PAW dataset, from GPAW's own Python."""
        probed = subprocess.run(
            [self._program, "python", "-c", PROBE], capture_output=True, text=True, check=False
        )
        if probed.returncode:
            raise MissingError(f"GPAW does not start: {last_line(probed.stderr)}.")
        about: dict[str, Any] = json.loads(probed.stdout.splitlines()[-1])
        return about

    def given(self, crystal: Crystals) -> dict[str, Any]:
        """See `External`."""
        from ase.data import chemical_symbols

        settings = asdict(self.settings)
        for name in ("time_limit", "processes", "max_atoms", "kspacing"):
            del settings[name]  # the result does not depend on these, or not but through the mesh
        symbols = [chemical_symbols[z] for z in crystal.numbers.tolist()]
        moments = [MAGNETIC_MOMENTS.get(symbol, OTHERS_MOMENT) for symbol in symbols]
        return {
            "numbers": crystal.numbers.tolist(),
            "cell": crystal.cell[0].tolist(),
            "frac": crystal.frac.tolist(),
            "magmoms": moments if MAGNETIC_MOMENTS.keys() & set(symbols) else None,
            "kpts": mesh(crystal, self.settings.kspacing),
            **settings,
        }

    def attempt(self, crystal: Crystals, folder: Path, *, safer: bool) -> str:
        """See `External`."""
        mixing = "1" if safer else "0"
        command = [self._program, "-P", str(self.settings.processes), "python", str(SCRIPT), mixing]
        why = run(command, folder, self.settings.time_limit)
        if why == DONE:
            os.replace(
                folder / f"{RESULT}.part", folder / RESULT
            )  # written by gpaw_run.py, without this project
        elif "KohnShamConvergenceError" in (folder / "stderr.txt").read_text(errors="replace"):
            return NOT_CONVERGED
        return why
