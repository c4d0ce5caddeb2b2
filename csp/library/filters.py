"""What an OPTIMADE server is asked for, in its filter language."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import gcd

from csp.errors import InputError

__all__ = ["of_ratio", "of_system", "question"]

MAX_SYSTEM = 6  # elements; of more the sub-systems are too many for one question


def question(
    *, elements: Sequence[str] = (), ratio: Sequence[int] = (), max_atoms: int | None = None, own: str = ""
) -> str:
    """The filter that asks for what fits all of it; "" asks for everything.

    Args:
        elements: Symbols of the elements that may occur.
        ratio: Amounts of the elements, in any order.
        max_atoms: In the cell.
        own: A filter in OPTIMADE's own words.
    """
    parts = [
        of_system(elements) if elements else "",
        of_ratio(ratio) if ratio else "",
        f"nsites<={max_atoms}" if max_atoms else "",
        own,
    ]
    return " AND ".join(f"({part})" for part in parts if part)


def of_ratio(amounts: Sequence[int]) -> str:
    """The filter for one ratio: "ABC3" in any order is chemical_formula_anonymous="A3BC"."""
    divisor = gcd(*amounts)
    ordered = sorted((n // divisor for n in amounts), reverse=True)
    if len(ordered) > 26:
        raise InputError("A ratio has at most 26 amounts.")
    text = "".join(f"{chr(65 + k)}{n if n > 1 else ''}" for k, n in enumerate(ordered))
    return f'chemical_formula_anonymous="{text}"'


def of_system(symbols: Sequence[str]) -> str:
    """The filter for a chemical system with all its sub-systems.

    HAS ONLY would say it shorter, but servers need not know it.
    """
    symbols = sorted(set(symbols))
    if len(symbols) > MAX_SYSTEM:
        return f"elements HAS ONLY {_quoted(symbols)}"
    parts = [
        f"elements HAS ALL {_quoted(some)} AND nelements={n}"
        for n in range(len(symbols), 0, -1)
        for some in combinations(symbols, n)
    ]
    return "(" + ") OR (".join(parts) + ")"


def _quoted(symbols: Sequence[str]) -> str:
    return ",".join(f'"{symbol}"' for symbol in symbols)
