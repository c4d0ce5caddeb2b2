"""Values of one's own to learn from: a CSV table of formulas or structure files, values and, if known, σ."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from csp.crystals import Crystals
from csp.errors import CspError, InputError
from csp.files import read_text
from csp.formula import read_formula
from csp.library.given import read_crystals
from csp.matching.fingerprints import SAME_STRUCTURE, unique
from csp.training.splits import composition_name
from surrogates.properties.model import shares
from surrogates.transformer.network import MAX_Z

__all__ = ["FEWEST", "OwnData", "read_own_data"]

FEWEST = 10  # rows
SHOWN = 20  # columns and characters of their names, in a message
STRUCTURE, FORMULA, VALUE, SIGMA, UNIT = "structure", "formula", "value", "sigma", "unit"


@dataclass(frozen=True, slots=True, eq=False)
class OwnData:
    """N values, each of another crystal or composition.

    Attributes:
        crystals: None: the table has formulas alone.
        composition: float32 [N, L, 2], see `CompositionEncoder`.
        names: [N], reduced compositions.
        elements: [N], atomic numbers of each.
        value: float64 [N].
        sigma: float64 [N], of the values, or None.
        lines: [N], of the table, the first of which is 1.
        notes: What was left out, sentences.
    """

    crystals: Crystals | None
    composition: Tensor
    names: list[str]
    elements: list[frozenset[int]]
    value: Tensor
    sigma: Tensor | None
    lines: list[int]
    unit: str
    notes: list[str]

    def __len__(self) -> int:
        return len(self.value)

    @property
    def groups(self) -> NDArray[np.int64]:
        """int64 [N]: equal for equal compositions, which are left out together."""
        return np.unique(self.names, return_inverse=True)[1].astype(np.int64)

    def check_elements(self, known: frozenset[int], model: str) -> None:
        """Raise InputError for a row with elements that a model does not know."""
        from ase.data import chemical_symbols

        for line, there in zip(self.lines, self.elements, strict=True):
            if unknown := sorted(there - known):
                names = ", ".join(chemical_symbols[z] for z in unknown)
                raise InputError(f"Line {line} has {names}, which {model} was not trained on.")


def read_own_data(path: Path, *, unit: str | None = None) -> OwnData:
    """The table, whose columns are `formula` or `structure` (a file, from the table's folder), `value`, and
    if there are such `sigma` and `unit`.

    Args:
        unit: Of the values, where no column names it.

    Raises:
        InputError: One sentence that names the line: a column, a unit or a value is missing or wrong, units
            are mixed, one crystal has two values, all values are equal, or there are fewer than 10.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path), newline=""), restkey="more"))
    except csv.Error as error:
        raise InputError(f"The CSV file {path} cannot be read: {error}.") from error
    columns = list(rows[0]) if rows else []
    if VALUE not in columns or not {FORMULA, STRUCTURE} & set(columns):
        there = ", ".join(repr(str(column)[:SHOWN]) for column in columns[:SHOWN]) or "none"
        raise InputError(f"{path.name} needs the columns formula or structure, and value; it has {there}.")
    lines = list(range(2, len(rows) + 2))
    value = [_number(row, VALUE, line) for row, line in zip(rows, lines, strict=True)]
    sigma = [_sigma(row, line) for row, line in zip(rows, lines, strict=True)] if SIGMA in columns else None
    named = _unit(rows, lines, unit) if UNIT in columns else unit
    if not named:
        raise InputError(
            f"{path.name} does not say the unit of its values; add a column unit or name the `unit`."
        )
    crystals, names, amounts = None, [], []
    if STRUCTURE in columns:
        crystals = Crystals.cat(
            [_crystal(path.parent, row, line) for row, line in zip(rows, lines, strict=True)]
        )
        counted = [numbers.tolist() for _, _, numbers in crystals.arrays()]
    else:
        counted = [_formula(row, line) for row, line in zip(rows, lines, strict=True)]
    for numbers in counted:
        z, n = np.unique(numbers, return_counts=True)
        names.append(composition_name(z, n // np.gcd.reduce(n)))
        amounts.append(torch.bincount(torch.tensor(numbers), minlength=MAX_Z + 1))
    kept, notes = _different(crystals, names, value, lines)
    if len(kept) < FEWEST:
        raise InputError(
            f"{path.name} has {len(kept)} different rows; {FEWEST} are needed at least to learn from."
        )
    if len({value[k] for k in kept}) == 1:
        raise InputError(f"All values in {path.name} are {value[kept[0]]:g}: there is nothing to learn.")
    return OwnData(
        None if crystals is None else crystals[kept],
        shares([amounts[k] for k in kept]),
        [names[k] for k in kept],
        [frozenset(counted[k]) for k in kept],
        torch.tensor([value[k] for k in kept], dtype=torch.float64),
        None if sigma is None else torch.tensor([sigma[k] for k in kept], dtype=torch.float64),
        [lines[k] for k in kept],
        named,
        notes,
    )


def _number(row: dict[str, str | None], column: str, line: int) -> float:
    text = (row[column] or "").strip()
    try:
        number = float(text)
    except ValueError:
        raise InputError(f"Line {line} has the {column} {text!r}, which is no number.") from None
    if not math.isfinite(number):
        raise InputError(f"Line {line} has the {column} {text}, which is not finite; remove the line.")
    return number


def _sigma(row: dict[str, str | None], line: int) -> float:
    sigma = _number(row, SIGMA, line)
    if sigma <= 0.0:
        raise InputError(f"Line {line} has the sigma {sigma:g}; it must be larger than 0.")
    return sigma


def _unit(rows: Sequence[dict[str, str | None]], lines: Sequence[int], given: str | None) -> str:
    first = (rows[0][UNIT] or "").strip() or given
    for row, line in zip(rows, lines, strict=True):
        unit = (row[UNIT] or "").strip() or given
        if not unit:
            raise InputError(f"Line {line} has no unit.")
        if unit != first:
            raise InputError(
                f"Line {line} has the unit {unit}, the first line {first}: give all values in one."
            )
    assert first is not None
    if given and first != given:
        raise InputError(f"The table has the unit {first}, but {given} was named.")
    return first


def _crystal(folder: Path, row: dict[str, str | None], line: int) -> Crystals:
    name = (row[STRUCTURE] or "").strip()
    if not name:
        raise InputError(f"Line {line} names no structure file.")
    try:
        found = read_crystals([folder / name])
    except CspError as error:
        raise InputError(f"Line {line}: {error}") from error
    if len(found.crystals) != 1:
        raise InputError(f"Line {line}: {name} holds {len(found.crystals)} crystals; one is needed.")
    return found.crystals


def _formula(row: dict[str, str | None], line: int) -> list[int]:
    from ase.data import atomic_numbers

    try:
        formula = read_formula((row[FORMULA] or "").strip())
    except InputError as error:
        raise InputError(f"Line {line}: {error}") from error
    return [atomic_numbers[symbol] for symbol, n in formula.counts.items() for _ in range(n)]


def _different(
    crystals: Crystals | None, names: Sequence[str], value: Sequence[float], lines: Sequence[int]
) -> tuple[list[int], list[str]]:
    """The first row of each crystal, or composition, and a note on those left out."""
    same = composition = np.unique(names, return_inverse=True)[1]
    if crystals is not None:  # fingerprints compare crystals of one composition
        same = np.arange(len(names))
        for one in np.unique(composition):
            rows = np.flatnonzero(composition == one)
            same[rows] = rows[unique(crystals[rows.tolist()], tolerance=SAME_STRUCTURE).cpu().numpy()]
    first = dict[int, int]()
    for k, one in enumerate(same.tolist()):
        before = first.setdefault(one, k)
        if before != k and value[before] != value[k]:
            what = "composition" if crystals is None else "crystal"
            raise InputError(
                f"Lines {lines[before]} and {lines[k]} are the same {what} with two values, "
                f"{value[before]:g} and {value[k]:g}: keep one."
            )
    twice = len(names) - len(first)
    repeat = "1 line repeats" if twice == 1 else f"{twice} lines repeat"
    notes = [f"{repeat} another with the same value: left out."] if twice else []
    return list(first.values()), notes
