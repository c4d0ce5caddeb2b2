"""The files of one ranked crystal: CIF, POSCAR and extended XYZ, with its rank, energy and origin."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from importlib import metadata

from csp.crystals import Crystals
from csp.report.description import Description
from csp.report.record import RunRecord
from csp.search.prediction import Prediction, Result

__all__ = ["CIF", "EXTXYZ", "POSCAR", "crystal_files", "extxyz"]

CIF, POSCAR, EXTXYZ = ".cif", "_POSCAR.vasp", ".extxyz"  # names that VESTA, pymatgen and ASE know
CIF_SYMPREC = 1e-3  # Å; to read the operations off a cell that is exactly symmetric
DECIMALS = 6  # of energies


def crystal_files(
    place: int, crystal: Description, prediction: Prediction, record: RunRecord, symprec: float
) -> Mapping[str, str]:
    """The text of each file by the end of its name.

    The CIF holds the symmetrised conventional cell, the POSCAR the symmetrised primitive one, the extended
    XYZ the crystal as it was relaxed.

    Args:
        place: Of the crystal in the prediction, from 0.
        crystal: Described, with the same symprec, Å.
    """
    result, relaxed = prediction.results[place], prediction.crystals[place]
    return {
        CIF: _cif(result, crystal, prediction, record),
        POSCAR: _poscar(result, relaxed, prediction, symprec),
        EXTXYZ: extxyz(prediction, [place]),
    }


def extxyz(prediction: Prediction, places: list[int]) -> str:
    """Some of the crystals as relaxed, in rank order; `energy` is eV per cell, as the format has it."""
    from ase.io import write

    frames = prediction.crystals[places].atoms()
    for atoms, result in zip(frames, [prediction.results[k] for k in places], strict=True):
        energy = round(result.energy_ev_per_atom * result.n_atoms, DECIMALS)
        atoms.info = {"rank": result.rank, "id": result.id, "energy": energy}
    text = io.StringIO()
    if frames:
        write(text, frames, format="extxyz")
    return text.getvalue()


def _cif(result: Result, crystal: Description, prediction: Prediction, record: RunRecord) -> str:
    from pymatgen.io.cif import CifWriter

    structure = crystal.structure
    with warnings.catch_warnings():  # pymatgen uses what spglib deprecates
        warnings.simplefilter("ignore", DeprecationWarning)
        if crystal.moved is None:  # its symmetry could not be determined
            text = str(CifWriter(structure))
        else:
            text = str(CifWriter(structure, symprec=CIF_SYMPREC, refine_struct=False))
    formula = prediction.target.formula
    body = re.sub(
        r"^data_\S*$", f"data_{formula}_rank_{result.rank}", text[text.index("data_") :], count=1, flags=re.M
    )
    return "".join(f"# {line}\n" for line in _origin(result, crystal, prediction, record)) + body


def _origin(result: Result, crystal: Description, prediction: Prediction, record: RunRecord) -> list[str]:
    pressure, n = prediction.target.pressure, len(prediction.results)
    lines = [
        f"{prediction.target.formula}, rank {result.rank} of {n}, ordered by {prediction.ordered_by}",
        f"A predicted crystal structure, not a measured one: csp-engine {metadata.version('csp-engine')}, "
        f"seed {record.settings.get('seed')}",
        f"Energy {result.energy_ev_per_atom:.{DECIMALS}f} eV/atom ({prediction.label}), "
        f"{result.above_lowest:.1f} meV/atom above the lowest that was found",
    ]
    if pressure:
        lines.append(f"Enthalpy {result.enthalpy_ev_per_atom:.{DECIMALS}f} eV/atom at {pressure:g} GPa")
    if result.probability is not None:
        lines.append(f"Probability to be the lowest-energy crystal known: {result.probability:.3f}")
    lines.append(
        f"Proposed by {result.generator}{f' from {result.template_id}' if result.template_id else ''}"
    )
    if crystal.moved is not None:
        lines.append(f"Atoms were moved by {crystal.moved:.4f} A (root mean square) to be exactly symmetric")
    lines += [f"Please cite {citation}" for citation in record.citations]
    return [_ascii(line) for line in lines]


def _ascii(text: str) -> str:
    """CIFs are ASCII; one line."""
    plain = text.replace("–", "-").replace("ö", "oe").replace("ü", "ue").replace("ä", "ae")
    return " ".join(plain.encode("ascii", "replace").decode().split())


def _poscar(result: Result, relaxed: Crystals, prediction: Prediction, symprec: float) -> str:
    from pymatgen.io.vasp import Poscar

    from csp.crystallography.symmetry import reported_symmetrized

    symmetric = reported_symmetrized(relaxed, symprec)
    cell = relaxed if symmetric is None else symmetric.primitive
    structure = cell.structures()[0].get_sorted_structure()
    comment = (
        f"{prediction.target.formula} rank {result.rank} {result.spacegroup} "
        f"{result.energy_ev_per_atom:.{DECIMALS}f} eV/atom {prediction.label}"
    )
    return str(Poscar(structure, comment=comment))
