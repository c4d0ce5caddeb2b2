"""Crystals that a person names: files, folders of CIFs, and formulas that a library has crystals of."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from csp.cif_file import is_cif
from csp.crystals import Crystals
from csp.errors import InputError, MissingError
from csp.library.library import Library
from csp.library.on_demand import library_for
from csp.library.rows import checked
from csp.library.sources import open_source
from csp.target import Target

__all__ = ["GivenCrystals", "named_phase", "read_crystals"]

LARGEST = 200  # atoms in a cell of a library's crystal that a formula stands for
OF_LIBRARIES = (".extxyz", ".xyz", ".db", ".parquet")
OF_CRYSTALS = (".cif", ".vasp", ".poscar", *OF_LIBRARIES)


@dataclass(frozen=True, slots=True, eq=False)
class GivenCrystals:
    """Crystals and names for them.

    Attributes:
        left_out: Those that cannot be used, by name, and why.
    """

    names: list[str]
    crystals: Crystals
    left_out: dict[str, str]


def read_crystals(paths: Sequence[Path]) -> GivenCrystals:
    """The crystals of files that ASE or pymatgen reads, and of libraries; of a folder its CIFs.

    Raises:
        MissingError: There is no such file or folder.
        InputError: One sentence, for what holds no crystal that can be used.
    """
    names, crystals, left_out = list[str](), list[Crystals](), dict[str, str]()
    for path in paths:
        if not path.exists():
            raise MissingError(f"There is no file or folder {path} of crystals.")
        for name, crystal in _in(path):
            if isinstance(crystal, InputError):
                left_out[name] = str(crystal)
            else:
                names.append(name)
                crystals.append(crystal)
    if not crystals:
        name, why = next(iter(left_out.items()), (str(paths[0]), "it holds no crystal."))
        raise InputError(f"{name} cannot be used: {why}")
    return GivenCrystals(names, Crystals.cat(crystals), left_out)


def named_phase(name: str, library: Library | None, *, ask: bool = True) -> Crystals:
    """The crystals that a name may stand for: those in a file, or all that is known of a formula.

    Args:
        library: Where they are looked for first; None: the user's, or what can be had.
        ask: May a database be asked for a formula that the library lacks?

    Raises:
        InputError: It is neither a file nor a formula.
        MissingError: No crystal of the formula is known.
    """
    path = Path(name)
    if path.exists() or path.suffix.lower() in OF_CRYSTALS:
        return read_crystals([path]).crystals
    target = Target.parse(name)
    for known in (library, None):
        opened = library_for(target, ask=ask).library if known is None else known
        rows = opened.own_rows(target)
        rows = rows[opened.n_atoms[rows] <= LARGEST]
        if len(rows):
            return opened.crystals(rows)
    raise MissingError(
        f"No crystal of {target.name} is in the library; name a larger `library`, or give a file instead of "
        f"the formula, for example {target.name}.cif."
    )


def _in(path: Path) -> list[tuple[str, Crystals | InputError]]:
    if not path.is_dir() and not is_cif(path) and path.suffix.lower() not in OF_LIBRARIES:
        return [(path.name, _by_others(path))]
    return [(entry.name, entry.crystal) for entries in open_source(path).entries for entry in entries]


def _by_others(path: Path) -> Crystals | InputError:
    """The last crystal of a file that ASE reads, or else pymatgen."""
    from ase.io import read
    from pymatgen.core import Structure

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # their readers raise whatever they meet in a file of another kind
        try:
            atoms = read(path)
        except Exception:
            try:
                structure = Structure.from_file(path)
            except Exception:
                return InputError("it is no crystal structure that ASE or pymatgen can read.")
            if not structure.is_ordered:
                return InputError("it has sites that several elements share, or that are not full.")
            return checked(Crystals.from_structures([structure]))
    last = atoms[-1] if isinstance(atoms, list) else atoms
    if not last.pbc.all():
        return InputError("it is not periodic in three directions.")
    return checked(Crystals.from_atoms([last]))
