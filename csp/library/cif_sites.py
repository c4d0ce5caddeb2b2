"""The sites of a CIF: which element, where, and whether they are all there."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection
from functools import cache

import numpy as np
from numpy.typing import NDArray

from csp.cif_file import DEFAULT, Block, number
from csp.errors import CrystalError, InputError
from csp.formula import read_formula

__all__ = ["HYDROGEN", "read_sites", "sum_formula"]

HYDROGEN = 1
OCCUPIED = 0.005  # by which an occupancy may differ from 1


def sum_formula(text: str) -> dict[int, float]:
    """Atomic number → amount of a sum formula such as "C6 H12 O6"; {} for what is none."""
    amounts = Counter[int]()
    parts = re.sub(r"\d*[+-]$", "", text).split()
    for part in parts:
        found = re.fullmatch(r"([A-Z][a-z]?)(\d+(?:\.\d*)?|\.\d+)?", part)
        if not found or found[1] not in _numbers():
            return _of_other_formula(text)
        amounts[_numbers()[found[1]]] += float(found[2] or 1)  # type: ignore[assignment]
    return {z: amount for z, amount in amounts.items() if 0 < amount < math.inf}


def _of_other_formula(text: str) -> dict[int, float]:
    try:
        return {_numbers()[symbol]: float(n) for symbol, n in read_formula(text).counts.items()}
    except InputError:
        return {}


def read_sites(block: Block, formula: Collection[int]) -> tuple[NDArray[np.float64], list[int]]:
    """Fractional coordinates [n, 3] and atomic numbers of the sites.

    Args:
        formula: The elements that the crystal is said to have; none: nothing is said.

    Raises:
        CrystalError: A site has no coordinates, is of no element or of several, or is not fully occupied.
    """
    columns = [block.column(f"atom_site_fract_{axis}") for axis in "xyz"]
    n = len(columns[0])
    if not n or any(len(column) != n for column in columns):
        raise CrystalError("no coordinates", "it gives no fractional coordinates of its atoms")
    labels, kinds, occupancies, flags, attached = (
        column if len(column) == n else [""] * n
        for column in (
            block.column("atom_site_label"),
            block.column("atom_site_type_symbol"),
            block.column("atom_site_occupancy"),
            block.column("atom_site_calc_flag"),
            block.column("atom_site_attached_hydrogens"),
        )
    )
    frac, numbers = [], []
    for k in range(n):
        occupancy = _value(occupancies[k], "1")
        if flags[k] == "dum" or occupancy == 0:
            continue
        numbers.append(_element(labels[k], kinds[k].removeprefix(DEFAULT), formula))
        if not abs(occupancy - 1) <= OCCUPIED:
            raise CrystalError(
                "partial occupancies", "it has partial occupancies; only ordered crystals can be used"
            )
        if _value(attached[k], "0") > 0:
            raise CrystalError(
                "hydrogens left out", f"hydrogens are attached to its site {labels[k]} without places"
            )
        frac.append(
            [_value(column[k], "0") if column[k] else math.nan for column in columns]
        )  # ICSD has dots
        if not np.isfinite(frac[-1]).all() or max(map(abs, frac[-1])) > 1000:
            raise CrystalError("no coordinates", f"its site {labels[k] or k + 1} has no coordinates")
    if not numbers:
        raise CrystalError("no atoms", "it lists no atoms")
    return np.array(frac), numbers


def _value(text: str, default: str) -> float:
    return number(default if text in ("", DEFAULT) else text)


def _element(label: str, kind: str, formula: Collection[int]) -> int:
    """The atomic number that a type symbol (Fe3+) means or, where there is none, a label (Fe1A).

    CIFs in capitals, or with labels such as OW1, are understood where the formula leaves no doubt.
    """
    text, known = kind or label, _numbers()
    letters = re.match(r"[A-Za-z]*", text)[0]  # type: ignore[index]
    if not kind and letters == "T" and HYDROGEN not in formula:
        raise CrystalError("no element", f"its site {label} is a site in a tetrahedron, of no known element")
    if letters in known and (not kind or re.fullmatch(r"\d*[+-]?\d*", text[len(letters) :])):
        return known[letters]
    likely = _likely(letters, formula, is_label=not kind)
    if len(likely) == 1:
        return likely.pop()
    if _is_group(re.sub(r"\d*[+-]\d*$", "", text) if kind else letters):
        raise CrystalError(
            "groups of atoms", f"its site {label or text} is {text}, of which the atoms have no places"
        )
    raise CrystalError("no element", f"its site {label or text} is of no known element")


def _likely(letters: str, formula: Collection[int], *, is_label: bool) -> set[int]:
    """What letters that are no symbol may stand for: NA for Na, and of labels CaM2 for Ca and OW1 for O."""
    known = _numbers()
    if is_label and letters[1:2].islower() and letters[:2] in known:
        return {known[letters[:2]]}
    if not formula:  # CO may be cobalt or two atoms
        both = len(letters) != 2 or all(letter in known for letter in letters.upper())
        return set() if both else {known.get(letters.capitalize(), 0)} - {0}
    beginnings = (letters[:2], letters[:1]) if is_label else (letters,) if len(letters) == 2 else ()
    return {known.get(beginning.capitalize(), 0) for beginning in beginnings} & set(formula)


def _is_group(text: str) -> bool:
    try:
        return len(read_formula(text).counts) > 1
    except InputError:
        return False


@cache
def _numbers() -> dict[str, int]:
    """Atomic numbers by symbol, isotopes of hydrogen with it."""
    from ase.data import chemical_symbols

    return {symbol: z for z, symbol in enumerate(chemical_symbols) if z} | {"D": HYDROGEN, "T": HYDROGEN}
