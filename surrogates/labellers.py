"""Reference energies of single crystals: GPAW as an external program, or a potential in its stead.

GPAW runs under the Python that it is installed for, each calculation in a folder of its own, and is talked
to through files: input.json in, result.json out. A calculation that exceeds its time is killed with all its
processes; one that does not converge is tried once more with safer mixing.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from csp.crystals import Crystals
from csp.errors import InputError, MissingError
from csp.protocols import DONE, EnergyModel, Label, Labeller, Labels
from surrogates.zoo import load_model

__all__ = ["LABELLERS", "Gpaw", "GpawSettings", "Potential", "load_labeller"]

LABELLERS = ("gpaw", "chgnet")  # those known by name; any potential can be named

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

    cutoff      eV
    kspacing    Å⁻¹, with the 2π; a Γ-centred mesh at least this fine
    width       eV, of the Fermi-Dirac smearing; energies are extrapolated to zero width
    time_limit  s for each try
    max_atoms   largest cell to choose for a label
    processes   of MPI
    """

    cutoff: float = 520.0
    kspacing: float = 0.25
    width: float = 0.05
    functional: str = "PBE"
    max_iterations: int = 150
    time_limit: float = 1800.0
    max_atoms: int = 16
    processes: int = 1


class Gpaw:
    """PBE single points by GPAW (Enkovaara et al., J. Phys.: Condens. Matter 22, 253202, 2010).

    Raises MissingError where the program `gpaw` is not installed or does not start.
    """

    name = "gpaw"

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
        """Version and elements with a PAW dataset, as GPAW's own Python tells them."""
        told = subprocess.run(
            [self._program, "python", "-c", PROBE], capture_output=True, text=True, check=False
        )
        if told.returncode:
            raise MissingError(f"GPAW does not start: {_last_line(told.stderr)}.")
        about: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
        return about

    def compute(self, crystals: Crystals, folder: Path) -> Labels:
        """See `csp.protocols.Labeller`; a calculation has its folder by the crystal's id."""
        found = [self._one(crystals[b], folder / name) for b, name in enumerate(crystals.ids())]
        return Labels(torch.tensor([e for e, _ in found], dtype=torch.float64), [why for _, why in found])

    def _one(self, crystal: Crystals, folder: Path) -> tuple[float, str]:
        """Energy, eV per cell (NaN if there is none), and the outcome."""
        missing = set(crystal.numbers.tolist()) - self.elements
        if missing:
            return float("nan"), f"no PAW dataset for atomic number {min(missing)}"
        folder.mkdir(parents=True, exist_ok=True)
        given = json.dumps(self._input(crystal), indent=1)
        result, before = folder / "result.json", folder / "input.json"
        if not (result.exists() and before.exists() and before.read_text() == given):
            result.unlink(missing_ok=True)
            before.write_text(given)
            why = self._run(folder, "0")
            if why == "not converged":
                why = self._run(folder, "1")
            if why != DONE:
                return float("nan"), why
            os.replace(folder / "result.json.part", result)
        return float(json.loads(result.read_text())["energy"]), DONE

    def _input(self, crystal: Crystals) -> dict[str, Any]:
        from ase.data import chemical_symbols

        settings = asdict(self.settings)
        for name in ("time_limit", "processes", "max_atoms"):
            del settings[name]  # the result does not depend on these
        symbols = [chemical_symbols[z] for z in crystal.numbers.tolist()]
        moments = [MAGNETIC_MOMENTS.get(symbol, OTHERS_MOMENT) for symbol in symbols]
        return {
            "numbers": crystal.numbers.tolist(),
            "cell": crystal.cell[0].tolist(),
            "frac": crystal.frac.tolist(),
            "magmoms": moments if MAGNETIC_MOMENTS.keys() & set(symbols) else None,
            **settings,
        }

    def _run(self, folder: Path, mixing: str) -> str:
        """One try; the outcome."""
        command = [self._program, "-P", str(self.settings.processes), "python", str(SCRIPT), mixing]
        with (folder / "stderr.txt").open("w") as errors:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
            try:
                code = process.wait(self.settings.time_limit)
            except BaseException as interruption:
                os.killpg(process.pid, signal.SIGKILL)  # MPI's processes too
                process.wait()
                if isinstance(interruption, subprocess.TimeoutExpired):
                    return f"not done in {self.settings.time_limit:g} s"
                raise
        if code == 0:
            return DONE
        text = (folder / "stderr.txt").read_text(errors="replace")
        return "not converged" if "KohnShamConvergenceError" in text else f"failed: {_last_line(text)}"


class Potential:
    """A potential in the stead of a DFT code: its energies are labels, and are said to be its own."""

    def __init__(self, model: EnergyModel) -> None:
        self.name, self.label, self.elements = model.name, model.label, model.elements
        self.max_atoms = 10**6
        self._model = model

    def compute(self, crystals: Crystals, folder: Path) -> Labels:
        """See `csp.protocols.Labeller`; nothing is written."""
        energy = self._model.evaluate(crystals.to(self._model.device)).energy.cpu()
        return Labels(energy, [DONE if e == e else "no energy" for e in energy.tolist()])


def load_labeller(name: str, device: torch.device | str = "cpu") -> Labeller:
    """`gpaw`, or a potential by name or path.

    Raises MissingError for a code that is not installed, InputError for a name that means nothing.
    """
    if name == Gpaw.name:
        return Gpaw()
    try:
        return Potential(load_model(name, device))
    except InputError as error:
        text = f"There is no labeller {name!r}; choose gpaw, chgnet, or another potential by name or folder."
        raise InputError(text) from error


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it says nothing"
