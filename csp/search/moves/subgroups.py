"""Into a subgroup: operations are dropped, and atoms and cell go where that newly allows them to."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from csp.crystallography.operations import SymmetryOperations, operations
from csp.crystals import Crystals

__all__ = ["into_doubled_cell", "into_subgroup", "proper_subgroups"]

TRIALS = 12  # sets of generators; most groups have fewer maximal subgroups up to equivalence
LARGEST_GROUP = 192  # operations in the cell; the table of products of larger ones is not worth its memory
AMPLITUDE = (0.1, 0.5)  # Å, of the atom that moves most
STRAIN = 0.05  # at most, any component
NOTHING = 1e-6


def into_subgroup(crystal: Crystals, rng: np.random.Generator) -> Crystals | None:
    """Displace atoms and strain the cell at random, keeping a proper subgroup of the operations alone.

    What the whole group allows already is left out: relaxing has been there.
    """
    found = operations(crystal)
    order = int(found.n_operations[0])
    if not 1 < order <= LARGEST_GROUP:
        return None
    subgroups = proper_subgroups(found.rotation.numpy(), found.translation.numpy(), rng)
    sizes = np.array([len(one) for one in subgroups], dtype=np.float64)
    kept = _only(found, subgroups[rng.choice(len(subgroups), p=sizes / sizes.sum())])
    displacement = torch.from_numpy(rng.normal(size=crystal.frac.shape))
    displacement = kept.symmetrize_forces(displacement)
    displacement = displacement - found.symmetrize_forces(displacement)
    displacement = displacement - displacement.mean(0)
    strain = torch.from_numpy(rng.normal(size=(1, 3, 3)))
    strain = kept.symmetrize_stress(0.5 * (strain + strain.mT))
    strain = strain - found.symmetrize_stress(strain)
    longest, widest = float(displacement.norm(dim=1).max()), float(strain.abs().max())
    if max(longest, widest) < NOTHING:
        return None
    amplitude, size = rng.uniform(*AMPLITUDE), rng.uniform(0, STRAIN)
    displacement *= amplitude / longest if longest > NOTHING else 0.0
    strain *= size / widest if widest > NOTHING else 0.0
    cell = crystal.cell @ torch.linalg.matrix_exp(strain)
    frac = crystal.frac + displacement @ torch.linalg.inv(crystal.cell[0])
    return crystal.with_geometry(cell, frac).wrapped()


def into_doubled_cell(crystal: Crystals, rng: np.random.Generator) -> Crystals | None:
    """The same in a cell twice as large, whose halves may come to differ: zone-boundary displacements."""
    from csp.relaxation.rattle import doubled

    q = [(h, k, m) for h in (0, 1) for k in (0, 1) for m in (0, 1)][1:]
    return into_subgroup(doubled(crystal, q[rng.integers(len(q))]), rng)


def proper_subgroups(
    rotations: NDArray[np.float64], translations: NDArray[np.float64], rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Some proper subgroups of a group of G operations, as the places of their members, ascending.

    They are what one to three random operations generate. The group is that of the operations modulo
    the translations of the cell.

    Args:
        rotations: [G, 3, 3], integer matrices W.
        translations: [G, 3], w; x goes to W x + w.
        rng: Chooses the generators.
    """
    product = _products(rotations, translations)
    found = {(_identity(rotations, translations),)}
    for _ in range(TRIALS):
        members = _generated(product, rng.integers(len(product), size=rng.integers(1, 4)))
        if len(members) < len(product):
            found.add(tuple(members.tolist()))
    return [np.array(members) for members in sorted(found)]


def _products(rotations: NDArray[np.float64], translations: NDArray[np.float64]) -> NDArray[np.int64]:
    """[G, G]: the place of the product of each two operations, the second done first."""
    rotation = np.einsum("aij,bjk->abik", rotations, rotations)
    translation = np.einsum("aij,bj->abi", rotations, translations) + translations[:, None]
    shift = translation[:, :, None] - translations  # [G, G, G, 3]
    off = np.abs(shift - np.rint(shift)).max(-1)
    same = (rotation[:, :, None] == rotations).all((-1, -2))
    return np.where(same, off, np.inf).argmin(-1)


def _identity(rotations: NDArray[np.float64], translations: NDArray[np.float64]) -> int:
    off = np.abs(translations - np.rint(translations)).max(-1)
    return int(np.where((rotations == np.eye(3)).all((1, 2)), off, np.inf).argmin())


def _generated(product: NDArray[np.int64], generators: NDArray[np.int64]) -> NDArray[np.int64]:
    """All products of the generators, ascending; the group is finite, so inverses are among them."""
    members = np.unique(generators)
    while True:
        more = np.unique(np.concatenate([members, product[np.ix_(members, members)].ravel()]))
        if len(more) == len(members):
            return members
        members = more


def _only(found: SymmetryOperations, rows: NDArray[np.int64]) -> SymmetryOperations:
    """Some of the operations of one crystal."""
    kept, n = torch.from_numpy(rows), int(found.n_atoms[0])
    return SymmetryOperations(
        found.space_group,
        found.n_atoms,
        torch.tensor([len(rows)]),
        found.rotation[kept],
        found.translation[kept],
        found.cartesian[kept],
        found.source.reshape(-1, n)[kept].flatten(),
        found.target.reshape(-1, n)[kept].flatten(),
        torch.arange(len(rows)).repeat_interleave(n),
    )
