"""One crystal in each of the 230 space groups, built from the table of Wyckoff positions."""

from __future__ import annotations

from functools import cache

import numpy as np

from csp.crystallography.neighbours import distance_ratio
from csp.crystallography.wyckoff import wyckoff_table
from csp.crystals import Crystals

__all__ = ["symmetric_crystals"]

ELEMENTS = (22, 8, 12)
VOLUME = 14.0  # Å³ per atom, more where atoms come too close
MOST_ATOMS = 20  # in the primitive cell, where positions of so few atoms exist


@cache
def symmetric_crystals() -> Crystals:
    """A primitive cell for each group, in order; two or three orbits, the first without free coordinates
    where there is such a position, the last as general as MOST_ATOMS allows. No atoms collide."""
    return Crystals.cat([_crystal(group) for group in range(1, 231)])


def _crystal(group: int) -> Crystals:
    table, rng = wyckoff_table(), np.random.default_rng(group)
    positions = np.array(table.positions(group))
    n_atoms, free = table.n_atoms.numpy()[positions], table.free.numpy()[positions].any(1)
    fits = np.flatnonzero(n_atoms <= max(MOST_ATOMS - n_atoms.min(), n_atoms.min()))
    last = int(fits[np.argmax(n_atoms[fits])])
    fixed = [int(k) for k in np.flatnonzero(~free)[:1] if k != last]
    again = [last] if free[last] and n_atoms[last] * 2 + n_atoms[fixed].sum() <= MOST_ATOMS else []
    chosen = [*fixed, *again, last]
    for attempt in range(400):
        metric = np.eye(3) + 0.15 * rng.normal(size=(3, 3))
        rotations = _rotations(group)
        metric = (rotations.transpose(0, 2, 1) @ (metric @ metric.T) @ rotations).mean(0)
        to_primitive = table.to_primitive[group].numpy()
        cell = np.linalg.inv(to_primitive).T @ np.linalg.cholesky(metric)
        frac, numbers = [], []
        for element, k in zip(ELEMENTS, chosen, strict=False):
            maps = slice(int(table.first_map[positions[k]]), int(table.first_map[positions[k] + 1]))
            frac.append(
                table.map_rotation[maps].numpy() @ rng.random(3) + table.map_translation[maps].numpy()
            )
            numbers += [element] * len(frac[-1])
        volume = VOLUME * (1.0 + 0.02 * attempt) * len(numbers)
        cell *= (volume / abs(np.linalg.det(cell))) ** (1 / 3)
        crystal = Crystals.from_arrays([cell], [np.concatenate(frac)], [numbers])
        if float(distance_ratio(crystal)[0]) > 0.75:
            return crystal
    raise AssertionError(f"no crystal in group {group}")


def _rotations(group: int) -> np.ndarray:
    table = wyckoff_table()
    start, stop = table.first_operation[group : group + 2].tolist()
    rotations: np.ndarray = table.operation_rotation[start:stop].numpy()
    return rotations
