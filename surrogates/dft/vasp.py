"""Single points by VASP with the inputs of pymatgen's MatPESStaticSet or MPStaticSet."""

from __future__ import annotations

import os
import shlex
import shutil
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csp.crystals import Crystals
from csp.errors import MissingError
from csp.protocols import DONE, Label
from surrogates.dft.external import NOT_CONVERGED, External, run, write_result

if TYPE_CHECKING:
    from pymatgen.io.vasp.sets import VaspInputSet

__all__ = ["Vasp", "VaspSettings", "read_vasprun"]

COMMANDS = ("ASE_VASP_COMMAND", "VASP_COMMAND")  # as for ASE's calculator
FUNCTIONALS = {"MatPESStaticSet": "PBE", "MPStaticSet": "PBE+U"}
FEWER_FILES = {"LAECHG": False, "LCHARG": False, "LWAVE": False}
SAFER = {"ALGO": "All", "NELM": 300}  # all bands at once, without mixing


@dataclass(frozen=True, slots=True)
class VaspSettings:
    """Settings of a calculation.

    Attributes:
        inputs: pymatgen's set: MatPESStaticSet (PBE) or MPStaticSet (PBE+U, the Materials Project's).
        time_limit: s for each try.
        max_atoms: Largest cell to choose for a label.
    """

    inputs: str = "MatPESStaticSet"
    time_limit: float = 3600.0
    max_atoms: int = 24


class Vasp(External):
    """PAW single points by VASP (Kresse, Furthmüller, Phys. Rev. B 54, 11169, 1996).

    Raises:
        MissingError: No command is configured or starts, or no POTCARs are.
    """

    name = "vasp"
    datasets = "POTCAR"

    def __init__(self, settings: VaspSettings | None = None, command: str | None = None) -> None:
        self.settings = settings or VaspSettings()
        configured = command or next((os.environ[name] for name in COMMANDS if name in os.environ), None)
        if configured is None:
            raise MissingError(f"VASP has no command here; set {COMMANDS[0]}, as for ASE.")
        self._command = shlex.split(configured)
        if shutil.which(self._command[0]) is None:
            raise MissingError(f"VASP does not start: there is no program {self._command[0]}.")
        from pymatgen.core import SETTINGS
        from pymatgen.io.vasp import sets

        if not SETTINGS.get("PMG_VASP_PSP_DIR"):
            raise MissingError("VASP has no POTCARs here; set PMG_VASP_PSP_DIR, as for pymatgen.")
        from ase.data import atomic_numbers

        self._set = getattr(sets, self.settings.inputs)
        self.elements = frozenset(atomic_numbers[symbol] for symbol in self._set.CONFIG["POTCAR"])
        self.label = Label(FUNCTIONALS[self.settings.inputs], "none", f"VASP {self.settings.inputs}")
        self.max_atoms = self.settings.max_atoms

    def given(self, crystal: Crystals) -> dict[str, Any]:
        """See `External`."""
        return {
            "numbers": crystal.numbers.tolist(),
            "cell": crystal.cell[0].tolist(),
            "frac": crystal.frac.tolist(),
            "inputs": asdict(self.settings)["inputs"],
        }

    def inputs(self, crystal: Crystals, *, safer: bool) -> VaspInputSet:
        """INCAR, KPOINTS, POSCAR and POTCAR; the atoms are sorted by element, as VASP wants them."""
        changes = FEWER_FILES | (SAFER if safer else {})
        (structure,) = crystal.structures()
        return self._set(structure, user_incar_settings=changes, sort_structure=True)

    def attempt(self, crystal: Crystals, folder: Path, *, safer: bool) -> str:
        """See `External`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pymatgen, about sets that are as they should be
            self.inputs(crystal, safer=safer).write_input(str(folder))
        why = run(self._command, folder, self.settings.time_limit, stdout="vasp.txt")
        return why if why != DONE else read_vasprun(folder)


def read_vasprun(folder: Path) -> str:
    """The result of vasprun.xml, its energy extrapolated to zero smearing; the outcome.

    Whether it has converged is read by pymatgen, which of its energies are right by ASE.
    """
    from ase.io import read
    from pymatgen.io.vasp.outputs import Vasprun

    path = folder / "vasprun.xml"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pymatgen, about POTCARs that it does not find
            found = Vasprun(str(path), parse_dos=False, parse_eigen=False, parse_potcar_file=False)
    except (OSError, SyntaxError) as error:  # the XML parsers' errors are those of syntax
        return f"failed: {error}"
    if not found.converged_electronic:
        return NOT_CONVERGED
    atoms = read(path)
    forces = atoms.get_forces(apply_constraint=False).tolist()
    write_result(folder, float(atoms.get_potential_energy()), forces, found.vasp_version)
    return DONE
