"""Could an element carry the charge of the one whose place it takes?"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["like_charges"]

OFFSET = 8  # of the charges −8 … 8 in tables
MAX_BALANCES = 64  # of a composition that are looked at; five elements seldom have more


def like_charges(
    target: NDArray[np.int64], entries: NDArray[np.int64], counts: tuple[int, ...]
) -> NDArray[np.bool_]:
    """bool [n, P]: are there common oxidation states that balance both the target, placed as target [P, k],
    and the entry [n, k], place by place the same?

    All False for a target that no common states balance, and for an element: nothing is told apart then.
    """
    result = np.zeros((len(entries), len(target)), bool)
    states = _states()
    charge = np.zeros(len(states), np.int64)
    for balance in _balances(tuple(sorted(zip(target[0].tolist(), counts, strict=True)))):
        for z, q in balance:
            charge[z] = q
        patterns, which = np.unique(charge[target], axis=0, return_inverse=True)
        carried = np.logical_and.reduce(states[entries[:, None], patterns + OFFSET], axis=2)
        result |= np.take(carried, which.reshape(-1), axis=1)
    return result


def _balances(composition: tuple[tuple[int, int], ...]) -> list[list[tuple[int, int]]]:
    """(element, charge) of the combinations of common oxidation states that sum to zero."""
    if len(composition) < 2:
        return []
    states = _states()
    choices = [[(z, q) for q in (np.flatnonzero(states[z]) - OFFSET).tolist()] for z, _ in composition]
    amounts = [n for _, n in composition]
    balanced = (
        list(way)
        for way in itertools.islice(itertools.product(*choices), 100_000)
        if sum(n * q for n, (_, q) in zip(amounts, way, strict=True)) == 0
    )
    return list(itertools.islice(balanced, MAX_BALANCES))


@cache
def _states() -> NDArray[np.bool_]:
    """bool [119, 17]: the common oxidation states of each element, as pymatgen lists them."""
    from pymatgen.core import Element

    found = np.zeros((119, 2 * OFFSET + 1), bool)
    for z in range(1, 119):
        found[z, [OFFSET + int(q) for q in Element.from_Z(z).common_oxidation_states]] = True
    return found
