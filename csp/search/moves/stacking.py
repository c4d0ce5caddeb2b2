"""Other stackings of a layered crystal: layers shifted, turned and turned over, up to four to a period."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from csp.crystallography.layers import Layers, layers
from csp.crystals import Crystals

__all__ = ["in_plane_turns", "restacked"]

MOST = 4  # layers in the new period
SHIFTS = (np.array([0, 1, 2]) / 3, np.array([0, 1]) / 2)  # of the lattice vectors in the plane
PLAIN = 0.5  # share of the layers that are neither turned nor turned over
SAME_LENGTH = 0.03  # relative, of lattice vectors that a turn may take for each other


def restacked(crystal: Crystals, rng: np.random.Generator) -> Crystals | None:
    """Stack layers of the crystal anew, at the distances that they have.

    Layers of one composition may come in any number up to four and in any order; others stay in turn. None
    where the crystal is not layered, or has more layers than that.
    """
    found = layers(crystal)
    if found is None or len(found.members) > MOST:
        return None
    numbers = crystal.numbers.numpy()
    alike = len({tuple(sorted(numbers[own].tolist())) for own in found.members}) == 1
    if alike:
        stack = rng.integers(len(found.members), size=rng.integers(1, MOST + 1))
    else:
        times = rng.integers(1, MOST // len(found.members) + 1)
        stack = np.tile(np.arange(len(found.members)), times)
    turns, shifts = in_plane_turns(found.plane), SHIFTS[rng.integers(len(SHIFTS))]
    height, gap = 0.0, _gap(found)
    origin = _axis(found)
    frac_to_plane = np.linalg.pinv(found.plane)
    positions, atoms = [], []
    for layer in stack.tolist():
        where = found.positions[layer] - origin
        across = where @ found.normal
        middle, half = 0.5 * (across.max() + across.min()), 0.5 * (across.max() - across.min())
        plain = rng.random() < PLAIN
        flip = 1.0 if plain else rng.choice([-1.0, 1.0])
        turn = np.eye(2) if plain else turns[rng.integers(len(turns))]
        u = where @ frac_to_plane @ turn + rng.choice(shifts, 2)
        height += half
        positions.append(u @ found.plane + (height + flip * (across - middle))[:, None] * found.normal)
        atoms.append(found.members[layer])
        height += half + gap
    cell = np.stack([*found.plane, height * found.normal + rng.choice(shifts, 2) @ found.plane])
    if np.linalg.det(cell) < 0:
        cell[[0, 1]] = cell[[1, 0]]
    frac = np.concatenate(positions) @ np.linalg.inv(cell)
    return Crystals.from_arrays([cell], [frac], [numbers[np.concatenate(atoms)]]).wrapped()


def in_plane_turns(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """[T, 2, 2]: the turns and mirrors that keep a plane lattice [2, 3], for fractional row vectors."""
    metric = plane @ plane.T
    entries = np.stack(np.meshgrid(*[[-1, 0, 1]] * 4, indexing="ij"), -1).reshape(-1, 2, 2)
    turned = entries @ metric @ entries.transpose(0, 2, 1)
    scale = np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
    keeps = (np.abs(turned - metric) < 2 * SAME_LENGTH * scale).all((1, 2))
    kept: NDArray[np.float64] = entries[keeps & (np.abs(np.linalg.det(entries)) > 0.5)].astype(np.float64)
    return kept


def _axis(found: Layers) -> NDArray[np.float64]:
    """A point that layers are turned about: an atom of the first layer, where axes often are."""
    return found.positions[0][0]


def _gap(found: Layers) -> float:
    """Å, the mean distance from the top of a layer to the bottom of the next."""
    thick = sum(float(np.ptp(where @ found.normal)) for where in found.positions)
    return (float(found.normal @ found.step) - thick) / len(found.members)
