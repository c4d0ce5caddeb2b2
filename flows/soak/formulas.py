"""Formulas of mixed size, and wrong ones that only a run can refuse."""

from __future__ import annotations

import random
from itertools import product

__all__ = ["MOST", "mixed", "wrong"]

ONE, TWO = ("Li", "Na", "K", "Rb", "Cs", "Ag"), ("Mg", "Ca", "Sr", "Ba", "Zn", "Cd", "Mn", "Fe", "Co", "Ni")
THREE, FOUR = ("Al", "Ga", "In", "Sc", "Y", "La", "Cr", "V"), ("Ti", "Zr", "Hf", "Sn", "Ge", "Si")
HALIDES, CHALCOGENS, PNICTOGENS = ("F", "Cl", "Br", "I"), ("O", "S", "Se", "Te"), ("N", "P", "As")
KINDS = (  # of 2 to 7 atoms, by charges
    ("{}{}", ONE, HALIDES),
    ("{}{}", TWO, CHALCOGENS),
    ("{}{}", THREE, PNICTOGENS),
    ("{}2{}", ONE, CHALCOGENS),
    ("{}{}2", TWO, HALIDES),
    ("{}2{}3", THREE, CHALCOGENS),
    ("{}{}2", FOUR, CHALCOGENS),
    ("{}{}{}2", ONE, THREE, CHALCOGENS),
    ("{}{}{}3", ONE, TWO, HALIDES),
    ("{}{}{}3", TWO, FOUR, CHALCOGENS),
    ("{}{}2{}4", TWO, THREE, CHALCOGENS),
)


def _all(seed: int) -> list[str]:
    """All kinds by turns, each in an order of chance."""
    draw = random.Random(seed)
    columns = []
    for pattern, *elements in KINDS:
        column = [pattern.format(*some) for some in product(*elements)]
        draw.shuffle(column)
        columns.append(column)
    longest = max(map(len, columns))
    return [column[k] for k in range(longest) for column in columns if k < len(column)]


MOST = len(_all(0))


def mixed(n: int, seed: int) -> list[str]:
    """The first n of `MOST` formulas, no composition twice."""
    return _all(seed)[:n]


def wrong(n: int) -> list[str]:
    """By turns with an element that there is not, and with more atoms than a cell may have."""
    return [f"NaQq{k + 2}" if k % 2 == 0 else f"Na{400 + k}Cl{401 + k}" for k in range(n)]
