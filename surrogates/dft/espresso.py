"""Single points by Quantum ESPRESSO through ASE's calculator, configured as the site has configured ASE."""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from csp.crystals import Crystals
from csp.errors import MissingError
from csp.protocols import DONE, Label
from surrogates.dft.external import NOT_CONVERGED, External, run, write_result
from surrogates.dft.kpoints import mesh

__all__ = ["Espresso", "EspressoSettings", "read_output"]

SECTION = "espresso"  # of ASE's configuration file


@dataclass(frozen=True, slots=True)
class EspressoSettings:
    """Settings of pw.x.

    Attributes:
        cutoff: Ry, of waves: the highest that SSSP asks for.
        density_cutoff: Ry, of the density: the highest that SSSP asks for.
        kspacing: Å⁻¹, with the 2π.
        width: Ry, of the cold smearing (Marzari et al., PRL 82, 3296, 1999), whose energy is that of zero
            width to the third order.
        time_limit: s for each try.
        max_atoms: Largest cell to choose for a label.
    """

    cutoff: float = 90.0
    density_cutoff: float = 720.0
    kspacing: float = 0.25
    width: float = 0.01
    time_limit: float = 3600.0
    max_atoms: int = 16


class Espresso(External):
    """Plane-wave single points by pw.x (Giannozzi et al., J. Phys.: Condens. Matter 29, 465901, 2017).

    The functional is the one that the pseudopotentials were made for, PBE for SSSP's. Without spin.

    Raises:
        MissingError: ASE's configuration has no section of it, or what that names is not there.
    """

    name = "espresso"
    datasets = "pseudopotential"

    def __init__(self, settings: EspressoSettings | None = None) -> None:
        from ase.calculators.espresso import EspressoTemplate
        from ase.config import cfg

        self.settings, self._template = settings or EspressoSettings(), EspressoTemplate()
        if SECTION not in cfg.parser:
            raise MissingError(
                "Quantum ESPRESSO is not configured; ASE's configuration file needs a section "
                f"[{SECTION}] with command and pseudo_dir."
            )
        self._profile = self._template.load_profile(cfg)
        program, folder = self._profile.get_command("x")[0], Path(self._profile.pseudo_dir)
        if shutil.which(program) is None:
            raise MissingError(f"Quantum ESPRESSO does not start: there is no program {program}.")
        self._pseudopotentials = pseudopotentials(folder)
        if not self._pseudopotentials:
            raise MissingError(f"There are no pseudopotentials (Si.….UPF) in {folder}.")
        from ase.data import atomic_numbers

        self.elements = frozenset(atomic_numbers[symbol] for symbol in self._pseudopotentials)
        named = " ".join(sorted(self._pseudopotentials.values()))
        s, of = self.settings, hashlib.blake2b(named.encode(), digest_size=4).hexdigest()
        text = f"Quantum ESPRESSO PW({s.cutoff:g} Ry) k {s.kspacing:g}/Å cold {s.width:g} Ry with {of}"
        self.label = Label("PBE", "none", text)
        self.max_atoms = s.max_atoms

    def given(self, crystal: Crystals) -> dict[str, Any]:
        """See `External`."""
        settings = asdict(self.settings)
        for name in ("time_limit", "max_atoms", "kspacing"):
            del settings[name]  # the result does not depend on these, or not but through the mesh
        return {
            "numbers": crystal.numbers.tolist(),
            "cell": crystal.cell[0].tolist(),
            "frac": crystal.frac.tolist(),
            "pseudopotentials": {
                symbol: self._pseudopotentials[symbol] for symbol in sorted(_symbols(crystal))
            },
            "kpts": mesh(crystal, self.settings.kspacing),
            **settings,
        }

    def attempt(self, crystal: Crystals, folder: Path, *, safer: bool) -> str:
        """See `External`."""
        s = self.settings
        parameters = {
            "input_data": {
                "control": {"calculation": "scf", "tprnfor": True, "disk_io": "none"},
                "system": {
                    "ecutwfc": s.cutoff,
                    "ecutrho": s.density_cutoff,
                    "occupations": "smearing",
                    "smearing": "cold",
                    "degauss": s.width,
                },
                "electrons": {"mixing_beta": 0.1 if safer else 0.4, "electron_maxstep": 200},
            },
            "pseudopotentials": {symbol: self._pseudopotentials[symbol] for symbol in _symbols(crystal)},
            "kpts": mesh(crystal, s.kspacing),
        }
        (atoms,) = crystal.atoms()
        self._template.write_input(self._profile, folder, atoms, parameters, ["energy", "forces"])
        command = self._profile.get_command(self._template.inputname)
        why = run(command, folder, s.time_limit, stdout=self._template.outputname)
        return read_output(folder / self._template.outputname, why)


def read_output(path: Path, why: str) -> str:
    """The result of pw.x's output, after a run with this outcome; the outcome."""
    from ase.io import read

    text = path.read_text(errors="replace")
    if "convergence NOT achieved" in text:
        return NOT_CONVERGED
    if why != DONE:
        return why
    if "!    total energy" not in text:
        return "failed: there is no total energy"
    results = read(path, format="espresso-out").calc.results
    version = re.search(r"Program PWSCF\s*v\.(\S+)", text)
    named = version.group(1) if version else ""
    write_result(path.parent, float(results["energy"]), results["forces"].tolist(), named)
    return DONE


def pseudopotentials(folder: Path) -> dict[str, str]:
    """Symbol → file, such as Si.pbe-n-rrkjus_psl.1.0.0.UPF or o_pbe_v1.2.uspp.F.UPF; of several for an
    element the first by name."""
    from ase.data import atomic_numbers

    found: dict[str, str] = {}
    for path in sorted(folder.glob("*")):
        symbol = re.split(r"[._-]", path.name)[0].capitalize()
        if path.suffix.lower() == ".upf" and symbol in atomic_numbers:
            found.setdefault(symbol, path.name)
    return found


def _symbols(crystal: Crystals) -> list[str]:
    from ase.data import chemical_symbols

    return [chemical_symbols[z] for z in crystal.numbers.unique().tolist()]
