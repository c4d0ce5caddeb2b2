"""The operations that keep a crystal's symmetry, and what is projected with them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from csp.crystallography.symmetry import SYMPREC, moyo_datasets
from csp.crystals import Crystals, ranges, run_starts

if TYPE_CHECKING:
    from moyopy import MoyoDataset

__all__ = ["SymmetryOperations", "operations"]

DIFFERENCES_AT_ONCE = 1 << 16  # of atoms under operations, so that they stay small for 200 atoms


@dataclass(frozen=True, slots=True, eq=False)
class SymmetryOperations:
    """All symmetry operations of a batch of B crystals with A atoms, O operations and P images in all.

    An operation takes the fractional coordinates x to x W^T + w. Its images are which atom each atom of the
    crystal is taken to. The images of one operation are consecutive, as are the operations of one crystal.

    Attributes:
        space_group: int64 [B], 0 where the analysis failed; such a crystal has the identity alone.
        n_atoms: int64 [B], atoms in each cell.
        n_operations: int64 [B], operations of each.
        rotation: float [O, 3, 3], integer matrices W in the crystal's own cell.
        translation: float [O, 3], w.
        cartesian: float [O, 3, 3], orthogonal Q that takes a Cartesian row vector v to v Q.
        source: int64 [P], atom of the batch that is taken to.
        target: int64 [P], this one by.
        image_of: int64 [P], this operation.
    """

    space_group: Tensor
    n_atoms: Tensor
    n_operations: Tensor
    rotation: Tensor
    translation: Tensor
    cartesian: Tensor
    source: Tensor
    target: Tensor
    image_of: Tensor

    def __len__(self) -> int:
        return len(self.n_operations)

    @property
    def crystal_of(self) -> Tensor:
        """int64 [O]: the crystal that each operation belongs to."""
        index = torch.arange(len(self), device=self.n_operations.device)
        return torch.repeat_interleave(index, self.n_operations)

    def symmetrize_forces(self, forces: Tensor) -> Tensor:
        """Project Cartesian vectors on atoms [A, 3] (forces, displacements) onto the invariant ones.

        F'_j = 1/|G| Σ F_i Q over all operations, each taking its i to j. Q stays valid while the cell is only
        changed by strains that are themselves projected with `symmetrize_stress`.
        """
        turned = (forces[self.source, None, :] @ self.cartesian[self.image_of]).squeeze(1)
        return self._mean_at_target(turned)

    def symmetrize_stress(self, stress: Tensor) -> Tensor:
        """Project tensors [B, 3, 3] (stress, strain) onto the invariant ones: S' = 1/|G| Σ Q^T S Q."""
        of = self.crystal_of
        turned = self.cartesian.mT @ stress[of] @ self.cartesian
        total = torch.zeros_like(stress).index_add_(0, of, turned)
        return total / self.n_operations[:, None, None]

    def symmetrize(self, crystals: Crystals) -> Crystals:
        """The same crystals, made exactly symmetric: cells by their mean metric, atoms by their mean place.

        The orientation is kept: the change of the cell is a pure strain.
        """
        of = self.crystal_of
        metric = crystals.cell @ crystals.cell.mT
        mean = torch.zeros_like(metric).index_add_(0, of, self.rotation.mT @ metric[of] @ self.rotation)
        cell = _strained_to(crystals.cell, mean / self.n_operations[:, None, None])
        moved = torch.einsum("pij,pj->pi", self.rotation[self.image_of], crystals.frac[self.source])
        moved = moved + self.translation[self.image_of] - crystals.frac[self.target]
        return crystals.with_geometry(cell, crystals.frac + self._mean_at_target(moved - moved.round()))

    def __getitem__(self, index: Tensor) -> SymmetryOperations:
        """The operations of the chosen crystals: int64 or bool [B'], as `Crystals` is indexed."""
        chosen = index.nonzero().flatten() if index.dtype == torch.bool else index.long()
        n_images = self.n_atoms * self.n_operations
        atom_shift = run_starts(self.n_atoms[chosen]) - run_starts(self.n_atoms)[chosen]
        operation_shift = run_starts(self.n_operations[chosen]) - run_starts(self.n_operations)[chosen]
        kept = ranges(run_starts(self.n_operations)[chosen], self.n_operations[chosen])
        rows = ranges(run_starts(n_images)[chosen], n_images[chosen])
        atom_shift = torch.repeat_interleave(atom_shift, n_images[chosen])
        operation_shift = torch.repeat_interleave(operation_shift, n_images[chosen])
        return SymmetryOperations(
            self.space_group[chosen],
            self.n_atoms[chosen],
            self.n_operations[chosen],
            self.rotation[kept],
            self.translation[kept],
            self.cartesian[kept],
            self.source[rows] + atom_shift,
            self.target[rows] + atom_shift,
            self.image_of[rows] + operation_shift,
        )

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> SymmetryOperations:
        tensors = (getattr(self, field.name) for field in fields(self))
        return SymmetryOperations(
            *(t.to(device=device, dtype=dtype if t.is_floating_point() else None) for t in tensors)
        )

    def _mean_at_target(self, values: Tensor) -> Tensor:
        """Mean over the images [P, 3] that arrive at each atom: [A, 3]."""
        order = torch.repeat_interleave(self.n_operations, self.n_atoms)
        total = values.new_zeros((len(order), 3)).index_add_(0, self.target, values)
        return total / order[:, None]


def operations(crystals: Crystals, symprec: float = SYMPREC) -> SymmetryOperations:
    """The symmetry operations of each crystal in its own cell, those of a non-primitive cell included."""
    rotations, translations, cartesians, images, numbers = [], [], [], [], []
    for data, (cell, frac, species) in zip(moyo_datasets(crystals, symprec), crystals.arrays(), strict=True):
        found = None if data is None else _images(data, cell, frac, species)
        numbers.append(data.number if data is not None and found is not None else 0)
        identity = np.eye(3)[None], np.zeros((1, 3)), np.arange(len(frac))[None]
        rotation, translation, image = identity if found is None else found
        rotations.append(rotation)
        translations.append(translation)
        cartesians.append(rotation if found is None else _orthogonal(rotation, cell))
        images.append(image)
    n_atoms = crystals.n_atoms.cpu()
    n_operations = torch.tensor([len(r) for r in rotations], dtype=torch.int64)
    starts = crystals.offsets[:-1].tolist()
    source = [np.tile(np.arange(m.shape[1]) + s, len(m)) for m, s in zip(images, starts, strict=True)]
    target = [m.ravel() + s for m, s in zip(images, starts, strict=True)]
    image_of = torch.repeat_interleave(
        torch.arange(int(n_operations.sum())), torch.repeat_interleave(n_atoms, n_operations)
    )
    return SymmetryOperations(
        torch.tensor(numbers, dtype=torch.int64),
        n_atoms,
        n_operations,
        _joined(rotations, (0, 3, 3)),
        _joined(translations, (0, 3)),
        _joined(cartesians, (0, 3, 3)),
        _joined(source, (0,)).long(),
        _joined(target, (0,)).long(),
        image_of,
    ).to(device=crystals.device, dtype=crystals.cell.dtype)


def _images(
    data: MoyoDataset, cell: np.ndarray, frac: np.ndarray, species: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Rotations [G, 3, 3], translations [G, 3] and the atom [G, n] that each atom is taken to.

    None if an operation does not permute the atoms, which happens only where the tolerance is as large as the
    distance between atoms.
    """
    rotation = np.array(data.operations.rotations, dtype=np.float64)
    translation = np.array(data.operations.translations)
    image = np.empty((len(rotation), len(frac)), dtype=np.int64)
    for kind in np.unique(species):
        of = np.flatnonzero(species == kind)
        block = max(1, DIFFERENCES_AT_ONCE // len(of) ** 2)
        for first in range(0, len(rotation), block):
            some = slice(first, first + block)
            moved = frac[of] @ rotation[some].transpose(0, 2, 1) + translation[some, None]
            gap = moved[:, :, None] - frac[of]
            gap = (gap - np.rint(gap)) @ cell
            image[some, of] = of[(gap**2).sum(axis=-1).argmin(axis=-1)]
    if not (np.sort(image, axis=1) == np.arange(len(frac))).all():
        return None
    return rotation, translation, image


def _orthogonal(rotation: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Cartesian operation on row vectors, C^-1 W^T C, of the cell C made exactly symmetric: [G, 3, 3]."""
    metric = (rotation.transpose(0, 2, 1) @ (cell @ cell.T) @ rotation).mean(axis=0)
    symmetric = _strained_to(torch.from_numpy(cell)[None], torch.from_numpy(metric)[None])[0].numpy()
    return np.linalg.inv(symmetric) @ rotation.transpose(0, 2, 1) @ symmetric


def _strained_to(cell: Tensor, metric: Tensor) -> Tensor:
    """The cells [B, 3, 3] under the pure strain that gives them the metric [B, 3, 3] (C C^T)."""
    other = torch.linalg.cholesky(metric)
    u, s, _ = torch.linalg.svd(torch.linalg.solve(cell, other))  # C^-1 other = strain × rotation
    return cell @ (u * s[:, None, :]) @ u.mT


def _joined(parts: list[np.ndarray], shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts)) if parts else torch.zeros(shape)
