"""Crystals from CIF files: what is written there, or one sentence why it cannot be that."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from csp.cell_file import cell_vectors
from csp.cif_file import Block, name_of, number, read_blocks
from csp.crystallography.neighbours import CLOSEST, OVERLAPPING, distance_ratio
from csp.crystallography.symmetry import space_groups
from csp.crystals import Crystals
from csp.errors import CrystalError
from csp.library.cif_sites import HYDROGEN, read_sites, sum_formula
from csp.library.cif_symmetry import Setting, settings
from csp.matching.matcher import Matcher

__all__ = ["read_cif", "read_cifs"]

Array = NDArray[np.float64]

MERGED = 0.05  # Å: images of an atom that are closer are one, written with few decimals
SYMPREC = 0.05  # Å, of the group that is found
DENSITY = 0.1  # by which a density may differ from the one that is given, as a share
AMOUNT = 1e-3  # by which shares of elements may differ, of all atoms
MOST_IMAGES = 400_000  # of all sites
PROJECTIONS = 5  # after each, a site near a special position is nearer


def read_cif(path: Path) -> Crystals:
    """The one crystal of a CIF, in the cell that is written there.

    Raises:
        InputError: The file is not there, or what is wrong with its crystal; CrystalError with the reason
            apart.
    """
    found = read_cifs(path)
    if len(found) > 1:
        names = ", ".join(list(found)[:4]) + (", …" if len(found) > 4 else "")
        raise CrystalError(
            "several crystals", f"it holds {len(found)} crystals ({names}), not one", of=str(path)
        )
    (crystal,) = found.values()
    if isinstance(crystal, CrystalError):
        raise crystal.named(path)
    return crystal


def read_cifs(path: Path) -> dict[str, Crystals | CrystalError]:
    """All crystals of a CIF by the names of their blocks, each in the cell that is written there.

    The name of a file's only block is that of the file.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        blocks = read_blocks(path)
    except CrystalError as error:
        return {name_of(path): error}
    if len(blocks) == 1:
        return {name_of(path): _crystal(blocks[0])}
    names = Counter[str]()
    found = {}
    for block in blocks:
        names[block.name] += 1
        again = f"-{names[block.name]}" if names[block.name] > 1 else ""
        found[f"{block.name}{again}"] = _crystal(block)
    return found


def _crystal(block: Block) -> Crystals | CrystalError:
    try:
        return _read(block)
    except CrystalError as error:
        return error


@dataclass(frozen=True, slots=True)
class _Written:
    """What a block says of its crystal, symmetry aside.

    Attributes:
        cell: [3, 3], Å.
        frac: [n, 3], of the sites.
        numbers: Atomic numbers of the sites.
        formula: Atomic number → amount; {} where it is not known.
        z: Formula units a cell; NaN where it is not known.
        density: g/cm³; NaN where it is not known.
    """

    cell: Array
    frac: Array
    numbers: list[int]
    formula: dict[int, float]
    z: float
    density: float


def _read(block: Block) -> Crystals:
    """The crystal of a block. Raises CrystalError."""
    if not block.has_atoms:
        raise CrystalError("no atoms", "it lists no atoms")
    if number(block.value("cell_modulation_dimension") or "0") > 0:
        raise CrystalError("modulated", "it is a modulated crystal, which has no cell that repeats")
    formula = sum_formula(block.value("chemical_formula_sum") or "")
    frac, numbers = read_sites(block, formula)
    written = _Written(
        cell_vectors(block),
        frac,
        numbers,
        formula,
        number(block.value("cell_formula_units_z") or ""),
        number(block.value("exptl_crystal_density_diffrn") or ""),
    )
    meant = settings(block)
    fitting = [setting for setting in meant if setting.fits(written.cell)]
    if not fitting:
        raise CrystalError("wrong cell", f"its cell does not have the symmetry of {meant[0].name}")
    crystals, refused = list[Crystals](), list[CrystalError]()
    for setting in fitting:
        try:
            crystals.append(_in_setting(written, setting, named=meant[-1].number))
        except CrystalError as error:
            refused.append(error)
    if not crystals and not meant[0].certain:
        raise CrystalError(
            "contradiction",
            f"it names the space group {meant[-1].name} and lists operations of {meant[0].name}, and its "
            "atoms fit neither",
        )
    if not crystals:
        raise refused[0]
    return _the_one(crystals, fitting[0].name)


def _the_one(crystals: list[Crystals], name: str) -> Crystals:
    """Of the crystals in several settings that a file may mean, those with overlapping atoms left out."""
    if len(crystals) > 1:
        crystals = [
            crystal for crystal in crystals if float(distance_ratio(crystal)[0]) >= CLOSEST
        ] or crystals
    if len(crystals) > 1 and not Matcher.DEFAULT.fits(crystals[0], Crystals.cat(crystals[1:])).all():
        raise CrystalError(
            "open setting",
            f"it names the space group {name} but neither lists operations nor says which of {len(crystals)} "
            "settings it means",
        )
    return crystals[0]


# -- in one setting -----------------------------------------------------------------------------------


def _in_setting(written: _Written, setting: Setting, *, named: int) -> Crystals:
    """The crystal if these are its operations, checked against all else that is written.

    Raises:
        CrystalError: It cannot be that.
    """
    frac, numbers = _all_atoms(written, setting)
    _check_content(numbers, written)
    crystal = Crystals.from_arrays([written.cell], [frac], [numbers])
    if float(distance_ratio(crystal)[0]) < OVERLAPPING:
        raise CrystalError(
            "overlapping atoms", "two of its atoms are closer than half the sum of their radii"
        )
    (found,) = space_groups(crystal, SYMPREC)
    if not found:
        raise CrystalError("overlapping atoms", "its symmetry cannot be analysed; atoms may overlap")
    if not setting.certain and setting.number != named != found:
        raise CrystalError("contradiction", f"its atoms have the space group {found}, not {named} as it says")
    (structure,) = crystal.structures()
    if abs(structure.density / written.density - 1) > DENSITY:
        raise CrystalError(
            "wrong density",
            f"its atoms give a density of {structure.density:.2f} g/cm³, and it says {written.density:g}",
        )
    return crystal


def _all_atoms(written: _Written, setting: Setting) -> tuple[Array, list[int]]:
    """Fractional coordinates [N, 3] and atomic numbers of all atoms in the cell."""
    if len(written.numbers) * len(setting.rotations) > MOST_IMAGES:
        raise CrystalError("too large", f"it has {len(written.numbers)} sites in {setting.name}")
    orbits: dict[int, list[Array]] = {}
    for site, element in zip(written.frac, written.numbers, strict=True):
        orbit, there = _orbit(site, setting, written.cell), orbits.setdefault(element, [])
        if not any(_near(orbit[0] - other, written.cell).any() for other in there):  # else it is listed twice
            there.append(orbit)
    return (
        np.concatenate([orbit for orbits_of in orbits.values() for orbit in orbits_of]),
        [element for element, orbits_of in orbits.items() for orbit in orbits_of for _ in orbit],
    )


def _orbit(site: Array, setting: Setting, cell: Array) -> Array:
    """[n, 3]: the distinct images of a site, after it was moved to the special position that it is near."""
    for _ in range(PROJECTIONS):
        moves = setting.rotations @ site + setting.translations - site
        moves -= np.rint(moves)
        site = site + moves[_near(moves, cell)].mean(axis=0)
    images = (setting.rotations @ site + setting.translations) % 1.0
    near = _near(images[:, None] - images, cell)
    distinct = images[~np.tril(near, -1).any(axis=1)]
    if len(distinct) * near[0].sum() != len(images):
        raise CrystalError("overlapping atoms", f"images of a site are about {MERGED} Å from each other")
    return distinct


def _near(differences: Array, cell: Array) -> NDArray[np.bool_]:
    """Fractional differences [..., 3] of which the distance is below MERGED."""
    return np.asarray(np.linalg.norm((differences - np.rint(differences)) @ cell, axis=-1) < MERGED)


def _check_content(numbers: list[int], written: _Written) -> None:
    """Raises CrystalError where the atoms are not those of the formula."""
    if not written.formula:
        return
    own, said = Counter(numbers), written.formula
    units = sum(said.values())
    off = {
        z for z in own.keys() | said.keys() if abs(own[z] / len(numbers) - said.get(z, 0) / units) > AMOUNT
    }
    if off and HYDROGEN in said and HYDROGEN not in own:
        raise CrystalError("hydrogens left out", "the hydrogens of its formula have no places in it")
    if off:
        raise CrystalError(
            "other composition", f"its atoms are {_formula(own)}, its formula is {_formula(said)}"
        )
    if len(own) == 1:  # whose formula is a molecule's, or an atom's
        return
    cell_has = len(numbers) / units
    if math.isfinite(written.z) and abs(cell_has - written.z) * units > 0.5:
        whole = all(amount == round(amount) for amount in said.values())
        divisor = math.gcd(*map(round, said.values())) if whole else 1
        if cell_has != 1 or not written.z or divisor % written.z:  # else it is pymatgen's, that of the cell
            raise CrystalError(
                "other Z", f"its cell holds {cell_has:g} of its formula units, and it says {written.z:g}"
            )


def _formula(amounts: Mapping[int, float]) -> str:
    return "".join(
        f"{chemical_symbols[z]}{amount:g}" if amount != 1 else chemical_symbols[z]
        for z, amount in sorted(amounts.items())
    )
