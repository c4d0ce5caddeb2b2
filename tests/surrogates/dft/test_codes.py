"""VASP and Quantum ESPRESSO: the inputs that are written, real outputs that come with ASE, and failures.

Neither program runs here: what is not covered is that the real ones accept these inputs.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from configparser import ConfigParser
from math import ceil, pi
from pathlib import Path

import ase.test.fio.test_espresso as espresso_outputs
import ase.test.testdata as testdata
import numpy as np
import pytest
from ase.build import bulk
from ase.config import cfg
from ase.io import read

from csp.crystals import Crystals
from csp.errors import MissingError
from csp.protocols import DONE
from surrogates.dft.espresso import Espresso, EspressoSettings, pseudopotentials, read_output
from surrogates.dft.external import External, run
from surrogates.dft.vasp import Vasp, VaspSettings, read_vasprun

OUTPUTS = Path(str(testdata.__path__[0])) / "vasp"
ROCKSALT = Crystals.from_atoms([bulk("MgO", "rocksalt", a=4.25)])


@pytest.fixture
def vasp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Vasp:
    monkeypatch.setattr("pymatgen.core.SETTINGS", {"PMG_VASP_PSP_DIR": str(tmp_path)})
    return Vasp(VaspSettings(), command="true")


# -- VASP ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::Warning")  # pymatgen's, of the set and of POTCARs that are not here
def test_vasp_gets_matpes_inputs(vasp: Vasp, tmp_path: Path) -> None:
    vasp.inputs(ROCKSALT, safer=False).write_input(str(tmp_path), potcar_spec=True)
    incar = dict(line.split(" = ") for line in (tmp_path / "INCAR").read_text().splitlines())
    assert (incar["ENCUT"], incar["KSPACING"], incar["ISPIN"]) == ("680.0", "0.22", "2")
    assert (incar["GGA"], incar["NSW"], incar["LCHARG"]) == ("Pe", "0", "False")
    atoms = read(tmp_path / "POSCAR")
    assert sorted(atoms.numbers.tolist()) == [8, 12]
    assert atoms.get_volume() == pytest.approx(float(ROCKSALT.volumes), rel=1e-6)
    assert (tmp_path / "POTCAR.spec").read_text().split() == ["Mg_pv", "O"]
    safer = vasp.inputs(ROCKSALT, safer=True).incar
    assert (safer["ALGO"], safer["NELM"]) == ("All", 300)
    assert {8, 12, 26} <= vasp.elements


@pytest.mark.parametrize(
    ("name", "energy"), [("vasprun_dfpt.xml", -6.74587304), ("vasprun_pstress.xml", -20.24720095)]
)
@pytest.mark.filterwarnings("ignore::Warning")  # pymatgen's, of POTCARs that are not here
def test_vasp_output_is_read(name: str, energy: float, tmp_path: Path) -> None:
    """The energies are those of `e_0_energy` in the files, without the work of the pressure."""
    from pymatgen.io.vasp.outputs import Vasprun

    shutil.copy(OUTPUTS / name, tmp_path / "vasprun.xml")
    assert read_vasprun(tmp_path) == DONE
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["energy"] == pytest.approx(energy, abs=1e-6)
    other = Vasprun(str(OUTPUTS / name), parse_dos=False, parse_eigen=False, parse_potcar_file=False)
    np.testing.assert_allclose(found["forces"], other.ionic_steps[-1]["forces"], atol=1e-6)
    assert found["version"] == other.vasp_version


def test_vasp_output_that_is_broken_or_not_converged_is_told(tmp_path: Path) -> None:
    text = (OUTPUTS / "vasprun_pstress.xml").read_text()
    (tmp_path / "vasprun.xml").write_text(text[: len(text) // 4])
    assert read_vasprun(tmp_path).startswith("failed: ")
    steps = re.search(r'name="NELM"> *(\d+)', text)
    assert steps is not None
    taken = text.count("<scstep>")
    (tmp_path / "vasprun.xml").write_text(text.replace(steps.group(0), f'name="NELM"> {taken}'))
    assert read_vasprun(tmp_path) == "not converged"
    assert not (tmp_path / "result.json").exists()


def test_what_vasp_lacks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ASE_VASP_COMMAND", "VASP_COMMAND"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(MissingError, match="set ASE_VASP_COMMAND"):
        Vasp()
    monkeypatch.setenv("ASE_VASP_COMMAND", "mpirun-that-is-not-there vasp_std")
    with pytest.raises(MissingError, match="no program mpirun-that-is-not-there"):
        Vasp()
    monkeypatch.setattr("pymatgen.core.SETTINGS", {})
    with pytest.raises(MissingError, match="PMG_VASP_PSP_DIR"):
        Vasp(command="true")


# -- Quantum ESPRESSO ---------------------------------------------------------------------------------


@pytest.fixture
def espresso(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Espresso:
    """With a program that prints a real output of pw.x, whatever it is asked."""
    folder = tmp_path / "pseudo"
    folder.mkdir()
    for name in ("Mg.pbe-spnl-kjpaw_psl.1.0.0.UPF", "O.pbe-n-kjpaw_psl.0.1.UPF", "README"):
        (folder / name).touch()
    (tmp_path / "real.pwo").write_text(espresso_outputs.pw_output_cell)
    program = tmp_path / "pw.x"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/real.pwo\n")
    program.chmod(0o755)
    parser = ConfigParser()
    parser["espresso"] = {"command": str(program), "pseudo_dir": str(folder)}
    monkeypatch.setattr(cfg, "parser", parser)
    return Espresso(EspressoSettings())


def test_espresso_gets_its_input_and_gives_its_energy(espresso: Espresso, tmp_path: Path) -> None:
    assert isinstance(espresso, External)
    labels = espresso.compute(ROCKSALT, tmp_path / "labels")
    (folder,) = (tmp_path / "labels").iterdir()
    text = (folder / "espresso.pwi").read_text()
    for line in ("ecutwfc", "90.0", "smearing", "'cold'", "Mg.pbe-spnl-kjpaw_psl.1.0.0.UPF"):
        assert line in text
    mesh = [int(n) for n in text.split("K_POINTS automatic")[1].split()[:3]]
    lengths = 2 * pi * np.linalg.norm(np.linalg.inv(ROCKSALT.cell[0].numpy()), axis=0)
    assert all(n >= ceil(length / 0.25) for n, length in zip(mesh, lengths, strict=True))
    expected = read(tmp_path / "real.pwo", format="espresso-out").get_potential_energy()
    assert labels.outcome == [DONE]
    assert float(labels.energy) == pytest.approx(expected)


def test_espresso_failures_are_outcomes(espresso: Espresso, tmp_path: Path) -> None:
    iron = Crystals.from_atoms([bulk("Fe", "bcc", a=2.87)])
    assert espresso.compute(iron, tmp_path / "a").outcome == ["no pseudopotential for atomic number 26"]
    (tmp_path / "real.pwo").write_text("     convergence NOT achieved after 200 iterations: stopping\n")
    assert espresso.compute(ROCKSALT, tmp_path / "b").outcome == ["not converged"]
    (folder,) = (tmp_path / "b").iterdir()
    assert "mixing_beta      = 0.1" in (folder / "espresso.pwi").read_text()  # of the second try
    (tmp_path / "pw.x").write_text("#!/bin/sh\necho no licence >&2\nexit 1\n")
    assert espresso.compute(ROCKSALT, tmp_path / "c").outcome == ["failed: no licence"]


def test_what_espresso_lacks_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cfg, "parser", {})
    with pytest.raises(MissingError, match=r"section \[espresso\]"):
        Espresso()


def test_pseudopotentials_are_known_by_their_names(tmp_path: Path) -> None:
    for name in ("si_pbe_v1.uspp.F.UPF", "O.pbe.UPF", "O.pz.UPF", "Zr-notes.txt", "notes.UPF"):
        (tmp_path / name).touch()
    assert pseudopotentials(tmp_path) == {"Si": "si_pbe_v1.uspp.F.UPF", "O": "O.pbe.UPF"}


def test_output_without_an_energy_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "a.pwo").write_text("Program PWSCF v.7.2 starts")
    assert read_output(tmp_path / "a.pwo", DONE) == "failed: there is no total energy"


def test_a_program_is_killed_with_its_children(tmp_path: Path) -> None:
    why = run(["sh", "-c", "sleep 30 & echo $! > child; wait"], tmp_path, 1.0)
    assert why == "not done in 1 s"
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 20.0
    while _lives(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _lives(child)


def _lives(process: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
