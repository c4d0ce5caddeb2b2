"""Which Wyckoff positions hold which atoms: exact compositions by dynamic programming.

A Wyckoff assignment is a space group, a number of formula units and, for every orbit of atoms, an element and
a Wyckoff position. Positions without freedom are taken at most once, others as often as wished. Assignments
are drawn from the distribution that gives each a weight of SITE_WEIGHT to the power of its number of orbits;
its partition function, summed exactly, also shows which compositions are possible
at all, so that no draw is a dead end.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
import torch

from csp.crystallography.wyckoff import WyckoffTable, wyckoff_table
from csp.target import Target
from generators.random_streams import Streams

__all__ = ["WyckoffAssignments", "WyckoffCombinations"]

SITE_WEIGHT = 0.35  # largest likelihood of 245 crystals of the Materials Project, given group and size
BINOMIAL = np.array([[comb(n, k) for k in range(28)] for n in range(28)], dtype=np.float64)

Ints = np.ndarray
Floats = np.ndarray


@dataclass(frozen=True, slots=True)
class WyckoffAssignments:
    """B assignments with K orbits in all, ordered by assignment, element and position.

    Attributes:
        group: int [B].
        z: int [B].
        crystal: int [K], the assignment an orbit belongs to.
        position: int [K], row of the Wyckoff table.
        element: int [K], index into the target's elements.
    """

    group: Ints
    z: Ints
    crystal: Ints
    position: Ints
    element: Ints

    def __len__(self) -> int:
        return len(self.group)


@dataclass(frozen=True, slots=True)
class _Group:
    """One space group's positions by what matters for the composition.

    Attributes:
        fixed: int [C][…], positions without freedom, by class of equal size.
        size: int [C], atoms of each class.
        steps: int [S, C], how many of each class: a state, or what one element takes.
        ways: float [S, S], weighted ways to take steps[k] when steps[s] are used, 0 if impossible.
        value: float [E + 1, S, Z], partition function of the elements from e on, by state and number of
            formula units.
    """

    fixed: list[Ints]
    size: Ints
    steps: Ints
    ways: Floats
    value: Floats


class WyckoffCombinations:
    """All assignments of a target.

    Attributes:
        z: int [Z], the numbers of formula units that are allowed.
        weight: float [231, Z] partition function of each space group; 0 where nothing fits.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.table: WyckoffTable = wyckoff_table()
        self.z = np.array(target.formula_units, dtype=np.int64)
        self._n_atoms = self.table.n_atoms.numpy()
        self._free = self.table.free.any(dim=1).numpy()
        self._multisets, self._free_position = self._sum_over_multisets(
            max(target.counts) * int(self.z.max())
        )
        self._groups = {g: self._sum_over_elements(g) for g in range(1, 231) if target.allows_group(g)}
        self.weight = np.zeros((231, len(self.z)))
        for g, group in self._groups.items():
            self.weight[g] = group.value[0, 0]

    def draw(self, group: Ints, z_index: Ints, streams: Streams) -> WyckoffAssignments:
        """One assignment for each pair of a space group [B] and an index into `z` [B] of positive weight."""
        remaining, fixed_rows, fixed_positions = self._draw_fixed(group, z_index, streams)
        n_elements = remaining.shape[1]
        row_streams = streams.child(2)[torch.arange(len(group)).repeat_interleave(n_elements)]
        row_streams = row_streams.child(torch.arange(n_elements).repeat(len(group)))
        rows, positions = self._draw_free(np.repeat(group, n_elements), remaining.ravel(), row_streams)
        rows = np.concatenate([fixed_rows, rows])
        positions = np.concatenate([fixed_positions, positions])
        order = np.lexsort((positions, rows))
        crystal, element = np.divmod(rows[order], len(self.target.counts))
        return WyckoffAssignments(group, self.z[z_index], crystal, positions[order], element)

    # -- sums ---------------------------------------------------------------------------------------

    def _sum_over_multisets(self, largest: int) -> tuple[Floats, Ints]:
        """Weighted multisets of free positions, [231, L + 1, largest + 1], and those positions, [231, L].

        Entry [g, l, n] sums over the multisets of the free positions from the l-th on with n atoms in all.
        """
        free = [[p for p in self.table.positions(g) if self._free[p]] for g in range(1, 231)]
        widest = max(map(len, free))
        position = np.full((231, widest), -1)
        for g, own in enumerate(free, start=1):
            position[g, : len(own)] = own
        sums = np.zeros((231, widest + 1, largest + 1))
        sums[:, :, 0] = 1.0
        every = np.arange(231)
        for place in range(widest - 1, -1, -1):
            size = np.where(position[:, place] >= 0, self._n_atoms[position[:, place]], largest + 1)
            sums[:, place] = sums[:, place + 1]
            for n in range(1, largest + 1):
                fits = size <= n
                one_less = sums[every[fits], place, n - size[fits]]
                sums[fits, place, n] += SITE_WEIGHT * one_less
        return sums, position

    def _sum_over_elements(self, number: int) -> _Group:
        """The partition function of a space group, last element first."""
        positions = np.array(self.table.positions(number))
        fixed = positions[~self._free[positions]]
        size = np.unique(self._n_atoms[fixed])
        classes = [fixed[self._n_atoms[fixed] == m] for m in size]
        available = np.array([len(c) for c in classes], dtype=np.int64)
        states = np.arange(np.prod(available + 1, dtype=np.int64))
        steps = np.zeros((1, 0), dtype=np.int64)
        if len(size):
            steps = np.stack(np.unravel_index(states, available + 1), axis=1)
        ways = BINOMIAL[(available - steps)[:, None], steps].prod(axis=2) * SITE_WEIGHT ** steps.sum(axis=1)
        value = np.ones((len(self.target.counts) + 1, len(steps), len(self.z)))
        after = self._after(len(steps))
        for e in range(len(self.target.counts) - 1, -1, -1):
            left = self.target.counts[e] * self.z - (steps @ size)[:, None]  # [S, Z]
            free = np.where(left >= 0, self._multisets[number, 0, np.maximum(left, 0)], 0.0)
            value[e] = np.einsum("sk,kz,skz->sz", ways, free, value[e + 1][after])
        return _Group(classes, size, steps, ways, value)

    @staticmethod
    def _after(n_states: int) -> Ints:
        """int [S, S]: the state reached from state s by step k, any state where that is impossible."""
        index = np.arange(n_states)
        return np.minimum(index[:, None] + index, n_states - 1)  # mixed radix: valid sums carry nothing

    # -- draws --------------------------------------------------------------------------------------

    def _draw_fixed(self, group: Ints, z_index: Ints, streams: Streams) -> tuple[Ints, Ints, Ints]:
        """Positions without freedom: atoms still to place [B, E], and (row, position) of those taken.

        A row is B × E flattened.
        """
        counts = np.array(self.target.counts)
        remaining = counts * self.z[z_index][:, None]
        uniform = streams.child(0).uniform(len(counts)).numpy()
        keys = streams.child(1).uniform(27).numpy()
        rows: list[Ints] = []
        positions: list[Ints] = []
        for number in np.unique(group):
            own = self._groups[number]
            if not len(own.size):
                continue
            of = np.flatnonzero(group == number)
            z = z_index[of]
            state = np.zeros(len(of), dtype=np.int64)
            column = np.cumsum([0, *(len(c) for c in own.fixed)])
            shuffled = [
                c[keys[of, lo : lo + len(c)].argsort(axis=1)]
                for c, lo in zip(own.fixed, column, strict=False)
            ]
            after = self._after(len(own.steps))
            for e in range(len(counts)):
                left = remaining[of, e][:, None] - own.steps @ own.size  # [b, S]
                free = np.where(left >= 0, self._multisets[number, 0, np.maximum(left, 0)], 0.0)
                odds = np.cumsum(own.ways[state] * free * own.value[e + 1][after[state], z[:, None]], axis=1)
                step = (uniform[of, e][:, None] * odds[:, -1:] >= odds).sum(axis=1)
                for c, order in enumerate(shuffled):
                    used, taken = own.steps[state, c], own.steps[step, c]
                    place = np.arange(order.shape[1])
                    chosen = (place >= used[:, None]) & (place < (used + taken)[:, None])
                    rows.append((of * len(counts) + e)[np.nonzero(chosen)[0]])
                    positions.append(order[chosen])
                remaining[of, e] -= own.steps[step] @ own.size
                state = state + step
        none = np.zeros(0, dtype=np.int64)
        return remaining, np.concatenate([none, *rows]), np.concatenate([none, *positions])

    def _draw_free(self, group: Ints, remaining: Ints, streams: Streams) -> tuple[Ints, Ints]:
        """(row, position) of positions with freedom that hold `remaining` [N] atoms in `group` [N].

        All rows walk through the letters at once: each takes the letter once more or goes on to the next.
        """
        row = np.flatnonzero(remaining)
        place = np.zeros(len(row), dtype=np.int64)
        left = remaining[row]
        rows: list[Ints] = []
        positions: list[Ints] = []
        while len(row):
            position = self._free_position[group[row], place]
            fewer = left - self._n_atoms[position]
            possible = (position >= 0) & (fewer >= 0)
            share = self._multisets[group[row], place, np.where(possible, fewer, 0)]
            share = SITE_WEIGHT * share / self._multisets[group[row], place, left]
            take = possible & (
                streams[torch.from_numpy(row)].child(len(rows)).uniform(1)[:, 0].numpy() < share
            )
            rows.append(row[take])
            positions.append(position[take])
            left = np.where(take, fewer, left)
            place = place + ~take
            going = left > 0
            row, place, left = row[going], place[going], left[going]
        none = np.zeros(0, dtype=np.int64)
        return np.concatenate([none, *rows]), np.concatenate([none, *positions])
