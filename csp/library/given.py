"""Crystals that a person names: files, folders of CIFs, and formulas that a library has crystals of."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from csp.crystals import Crystals
from csp.errors import InputError, MissingError
from csp.library.cif import read_cif
from csp.library.library import Library
from csp.target import Target

__all__ = ["named_phase", "read_crystals"]

LARGEST = 200  # atoms in a cell of a library's crystal that a formula stands for


def read_crystals(paths: Sequence[Path]) -> tuple[list[str], Crystals]:
    """The crystals of files, and names for them: CIF, or anything that ASE reads (POSCAR, extended XYZ …);
    of a folder its CIFs.

    Raises:
        MissingError: There is no such file or folder.
        InputError: One sentence, for what holds no ordered crystal.
    """
    names, crystals = list[str](), list[Crystals]()
    for path in paths:
        if not path.exists():
            raise MissingError(f"There is no file or folder {path} of crystals.")
        files = sorted(path.glob("*.cif")) if path.is_dir() else [path]
        if not files:
            raise InputError(f"There are no CIF files in {path}.")
        for file in files:
            found = read_cif(file) if file.suffix.lower() == ".cif" else _by_ase(file)
            single = len(found) == 1
            names += [file.stem if single else f"{file.stem}-{k + 1}" for k in range(len(found))]
            crystals.append(found)
    return names, Crystals.cat(crystals)


def named_phase(name: str, library: Library) -> Crystals:
    """The crystals that a name may stand for: those in a file of that name, or all that a library has of a
    formula.

    Raises:
        InputError: It is neither a file nor a formula.
        MissingError: The library has none.
    """
    path = Path(name)
    if path.exists() or path.suffix.lower() in (".cif", ".vasp", ".poscar", ".xyz", ".extxyz"):
        return read_crystals([path])[1]
    target = Target.parse(name)
    rows = library.of_composition(target)
    rows = rows[library.n_atoms[rows] <= LARGEST]
    if not len(rows):
        raise MissingError(
            f"{library.name} has no crystal of {target.formula}; name a larger `library`, or give a file "
            f"instead of the formula, for example {target.formula}.cif."
        )
    return library.crystals(rows)


def _by_ase(path: Path) -> Crystals:
    from ase.io import read

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            frames = read(path, index=":")
        except Exception as error:  # its readers raise whatever they meet in a file of another kind
            raise InputError(f"{path} is no crystal structure that can be read.") from error
    if not frames or not all(
        atoms.pbc.all() and len(atoms) and abs(atoms.cell.volume) > 1 for atoms in frames
    ):
        raise InputError(f"{path} holds what is not periodic in three directions.")
    return Crystals.from_atoms(frames)
