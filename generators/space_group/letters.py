"""Which Wyckoff letters can come next, so that a formula is always completed exactly and no dead end is met.

Orbits are listed element by element with letters that do not descend; a position without freedom is taken
at most once, by one element. What may follow depends on the element, the atoms of it still to place, the
smallest letter allowed and the fixed positions already taken.
`generators.random_symmetric.wyckoff_combinations` sums over the same assignments; here they are walked
through one letter at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from csp.crystallography.wyckoff import LETTERS, wyckoff_table

__all__ = ["State", "Walks", "allowed", "begin", "possible", "step"]

LARGEST = 1 << 10  # atoms of one element in a primitive cell
MASK = (1 << (LARGEST + 1)) - 1


@dataclass(frozen=True, slots=True)
class State:
    """A Wyckoff assignment on its way, of one space group.

    Attributes:
        left: Atoms still to place: of the current element, then of those after it; () when complete.
        lowest: Index of the smallest letter that may come next.
        used: Bits of the letters without freedom that are taken.
    """

    group: int
    left: tuple[int, ...]
    lowest: int = 0
    used: int = 0


@dataclass(frozen=True, slots=True)
class _Letters:
    """A space group's positions: size in atoms of the primitive cell; class of equal size, −1 where free;
    sums, as bits, that the free letters from each one on can make."""

    size: tuple[int, ...]
    kind: tuple[int, ...]
    kind_size: tuple[int, ...]
    sums: tuple[int, ...]


@cache
def _letters(group: int) -> _Letters:
    table = wyckoff_table()
    own = slice(int(table.first[group]), int(table.first[group + 1]))
    size, free = table.n_atoms[own].tolist(), table.free[own].any(1).tolist()
    kind_size = tuple(sorted({n for n, f in zip(size, free, strict=True) if not f}))
    kind = tuple(-1 if f else kind_size.index(n) for n, f in zip(size, free, strict=True))
    sums = [1]
    for n, f in zip(reversed(size), reversed(free), strict=True):
        reached = sums[-1]
        shift = n
        while f and shift <= LARGEST:  # once, twice, four times … this letter
            reached |= (reached << shift) & MASK
            shift *= 2
        sums.append(reached)
    return _Letters(tuple(size), kind, kind_size, tuple(reversed(sums)))


@cache
def _unused(group: int, lowest: int, used: int) -> tuple[int, ...]:
    """How many fixed letters of each size are left from `lowest` on."""
    own = _letters(group)
    counts = [0] * len(own.kind_size)
    for k in range(lowest, len(own.size)):
        if own.kind[k] >= 0 and not used >> k & 1:
            counts[own.kind[k]] += 1
    return tuple(counts)


@cache
def _completes(
    group: int, left: tuple[int, ...], lowest: int, unused: tuple[int, ...], total: tuple[int, ...]
) -> bool:
    """Can all of `left` be placed with `unused` fixed letters for the first element, of `total` for all?"""
    if not left:
        return True
    own = _letters(group)
    sums = own.sums[lowest]
    for taken in itertools.product(*(range(n + 1) for n in unused)):
        rest = left[0] - sum(n * size for n, size in zip(taken, own.kind_size, strict=True))
        if rest >= 0 and sums >> rest & 1:
            after = tuple(n - k for n, k in zip(total, taken, strict=True))
            if _completes(group, left[1:], 0, after, after):
                return True
    return False


def possible(group: int, amounts: Iterable[int]) -> bool:
    """Can any assignment of the group hold these numbers of atoms (primitive cell) of each element?"""
    unused = _unused(group, 0, 0)
    return _completes(group, tuple(amounts), 0, unused, unused)


def begin(group: int, amounts: Iterable[int]) -> State:
    """No orbits yet, for these numbers of atoms (primitive cell) of each element, at most 1,024 each."""
    return State(group, tuple(amounts))


def step(state: State, letter: int) -> State:
    """The assignment with one more orbit of the current element."""
    own = _letters(state.group)
    fixed = own.kind[letter] >= 0
    used = state.used | (1 << letter if fixed else 0)
    rest = state.left[0] - own.size[letter]
    if rest == 0:
        return State(state.group, state.left[1:], 0, used)
    return State(state.group, (rest, *state.left[1:]), letter + fixed, used)


@cache
def allowed(state: State) -> int:
    """Bits of the letters that can come next in some complete assignment."""
    own = _letters(state.group)
    bits = 0
    for letter in range(state.lowest, len(own.size)) if state.left else ():
        if own.size[letter] > state.left[0] or (own.kind[letter] >= 0 and state.used >> letter & 1):
            continue
        after = step(state, letter)
        unused, total = _unused(state.group, after.lowest, after.used), _unused(state.group, 0, after.used)
        if _completes(after.group, after.left, after.lowest, unused, total):
            bits |= 1 << letter
    return bits


class Walks:
    """States by number, with what a model asks of them as arrays that grow; for one list of elements.

    Attributes:
        mask: bool [S, 27], letters that may come next.
        element: int [S], place of the current element.
        left: int [S], atoms of it still to place, 0 in a complete assignment.
    """

    def __init__(self, n_elements: int) -> None:
        self._n_elements = n_elements
        self._number: dict[State, int] = {}
        self._states: list[State] = []
        self._bits: list[int] = []

    def number(self, state: State) -> int:
        """The number of a state, a new one if it was not met before."""
        if state not in self._number:
            self._number[state] = len(self._states)
            self._states.append(state)
            self._bits.append(allowed(state))
        return self._number[state]

    def after(self, numbers: NDArray[np.int64], letters: NDArray[np.int64]) -> NDArray[np.int64]:
        """The states [N] after one more orbit each."""
        pairs = zip(numbers.tolist(), letters.tolist(), strict=True)
        return np.array([self.number(step(self._states[n], k)) for n, k in pairs], dtype=np.int64)

    def mask(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """bool [N, 27]"""
        return unpacked(np.array([self._bits[n] for n in numbers.tolist()], dtype=np.int64))

    def element(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """int [N]: place of the element whose turn it is; of the last one in a complete assignment."""
        last = self._n_elements - 1
        return np.array([min(self._n_elements - len(self._states[n].left), last) for n in numbers.tolist()])

    def left(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """int [N]: atoms of that element still to place, 0 in a complete assignment."""
        return np.array([self._states[n].left[0] if self._states[n].left else 0 for n in numbers.tolist()])


def unpacked(bits: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool [N, 27] of bits [N]."""
    return (bits[:, None] >> np.arange(len(LETTERS)) & 1).astype(bool)
